// Depthwise convolution: each channel by itself over a KERNEL x KERNEL window.
//
// A thread makes COLUMNS neighbouring outputs of ROWS rows for four channels. Of each row of the input that they
// reach it loads the SPAN pixels once, and not once a tap or once a row of outputs. Only pixels at the ends of a tile
// can lie beyond the map: before BEFORE, or from BEHIND on, and likewise its rows. Threads go along the channels
// first: loads are side by side.

struct Params {
    alarm: u32, // what the flag gets if this step overflows
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,      // rows of zeros above
    left: u32,     // columns of zeros to the left
    outputs: u32,  // channels, in fours
    threads: u32,  // pictures * ceil(out_height / ROWS) * ceil(out_width / COLUMNS) * outputs
    part_pixels: u32,   // of a picture, if PLACED
    part_first: u32,    // fours of channels before the part
    whole_pixel: u32,   // from a pixel of the whole to the next
    whole_picture: u32, // from a picture of the whole to the next
}

const SPAN: u32 = (COLUMNS - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;
const LINES: u32 = (ROWS - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;        // (pictures, height, width, outputs)
@group(0) @binding(2) var<storage, read> weight: array<Quad>;   // (KERNEL, KERNEL, outputs)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;     // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>; // as y, if RESIDUAL
@group(0) @binding(5) var<storage, read_write> y: array<Quad>;  // (pictures, out_height, out_width, outputs)

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread >= params.threads) {
        return;
    }
    let across = (params.out_width + COLUMNS - 1u) / COLUMNS;
    let quad = thread % params.outputs;
    let first = thread / params.outputs % across * COLUMNS;
    let down = (params.out_height + ROWS - 1u) / ROWS;
    let run = thread / (params.outputs * across);
    let picture = run / down;
    let first_row = run % down * ROWS;

    var sum: array<array<vec4<f32>, COLUMNS>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        for (var c = 0u; c < COLUMNS; c++) {
            sum[r][c] = bias[quad];
        }
    }
    for (var l = 0u; l < LINES; l++) {
        // Left of or above the picture wraps round to a huge number: one comparison serves both sides.
        let iy = first_row * STRIDE + l - params.top;
        let beside = l < ABOVE || l >= BELOW;
        let line = (picture * params.height + select(iy, min(iy, params.height - 1u), beside)) * params.width;
        var taken: array<vec4<f32>, SPAN>;
        for (var s = 0u; s < SPAN; s++) {
            let ix = first * STRIDE + s - params.left;
            let edge = beside || s < BEFORE || s >= BEHIND;
            let v = x[(line + select(ix, min(ix, params.width - 1u), edge)) * params.outputs + quad];
            taken[s] = vec4<f32>(v);
            if (edge) {
                taken[s] = select(vec4(0.0), taken[s], ix < params.width && iy < params.height);
            }
        }
        for (var r = 0u; r < ROWS; r++) {
            // The row of the window that this line is, if it is one.
            let away = l - r * STRIDE;
            if (l >= r * STRIDE && away % DILATION == 0u && away / DILATION < KERNEL) {
                for (var kx = 0u; kx < KERNEL; kx++) {
                    let w = vec4<f32>(weight[(away / DILATION * KERNEL + kx) * params.outputs + quad]);
                    for (var c = 0u; c < COLUMNS; c++) {
                        sum[r][c] += taken[c * STRIDE + kx * DILATION] * w;
                    }
                }
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        let row = picture * params.out_height + min(first_row + r, params.out_height - 1u);
        for (var c = 0u; c < COLUMNS; c++) {
            let pixel = row * params.out_width + min(first + c, params.out_width - 1u);
            sum[r][c] = carried(pixel, quad, sum[r][c]);
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        for (var c = 0u; c < COLUMNS; c++) {
            if (first_row + r < params.out_height && first + c < params.out_width) {
                let pixel = (picture * params.out_height + first_row + r) * params.out_width + first + c;
                finish(pixel, quad, sum[r][c]);
            }
        }
    }
    raise();
}
