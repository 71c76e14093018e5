// Depthwise convolution: each channel is convolved separately, with a KERNEL x KERNEL window.
//
// An invocation makes ROWS x COLUMNS adjacent outputs of four channels. It loads the SPAN pixels of each
// input row once, not once per tap or per output row. Only the ends of a tile can lie outside the map: pixels
// before BEFORE or from BEHIND on, rows before ABOVE or from BELOW on. Invocations are ordered along the
// channels first, so that loads are adjacent.

struct Params {
    alarm: u32, // the overflow flag's value if this step overflows
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,      // rows of zero padding above
    left: u32,     // columns of zero padding on the left
    outputs: u32,  // channels / 4, rounded up
    invocations: u32, // pictures * ceil(out_height / ROWS) * ceil(out_width / COLUMNS) * outputs
    part_pixels: u32,   // pixels per picture, if PLACED
    part_first: u32,    // quads before the part in each picture of the whole map
    whole_pixel: u32,   // quads from one pixel of the whole map to the next
    whole_picture: u32, // quads from one picture of the whole map to the next
}

const SPAN: u32 = (COLUMNS - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;
const LINES: u32 = (ROWS - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;        // (pictures, height, width, outputs)
@group(0) @binding(2) var<storage, read> weight: array<Quad>;   // (KERNEL, KERNEL, outputs)
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;     // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>; // shaped as y, if RESIDUAL
@group(0) @binding(5) var<storage, read_write> y: array<Quad>;  // (pictures, out_height, out_width, outputs)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index >= params.invocations) {
        return;
    }
    let across = (params.out_width + COLUMNS - 1u) / COLUMNS;
    let quad = index % params.outputs;
    let first = index / params.outputs % across * COLUMNS;
    let down = (params.out_height + ROWS - 1u) / ROWS;
    let band = index / (params.outputs * across);
    let picture = band / down;
    let first_row = band % down * ROWS;

    var sum: array<array<vec4<f32>, COLUMNS>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        for (var c = 0u; c < COLUMNS; c++) {
            sum[r][c] = bias[quad];
        }
    }
    for (var l = 0u; l < LINES; l++) {
        // Negative positions wrap around to huge values: one comparison covers both edges.
        let iy = first_row * STRIDE + l - params.top;
        let edge_row = l < ABOVE || l >= BELOW;
        let line = (picture * params.height + select(iy, min(iy, params.height - 1u), edge_row)) * params.width;
        var input: array<vec4<f32>, SPAN>;
        for (var s = 0u; s < SPAN; s++) {
            let ix = first * STRIDE + s - params.left;
            let edge = edge_row || s < BEFORE || s >= BEHIND;
            let v = x[(line + select(ix, min(ix, params.width - 1u), edge)) * params.outputs + quad];
            input[s] = vec4<f32>(v);
            if (edge) {
                input[s] = select(vec4(0.0), input[s], ix < params.width && iy < params.height);
            }
        }
        for (var r = 0u; r < ROWS; r++) {
            // If the window of output row r has this line, it is the window's row `away / DILATION`.
            let away = l - r * STRIDE;
            if (l >= r * STRIDE && away % DILATION == 0u && away / DILATION < KERNEL) {
                for (var kx = 0u; kx < KERNEL; kx++) {
                    let w = vec4<f32>(weight[(away / DILATION * KERNEL + kx) * params.outputs + quad]);
                    for (var c = 0u; c < COLUMNS; c++) {
                        sum[r][c] += input[c * STRIDE + kx * DILATION] * w;
                    }
                }
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        let row = picture * params.out_height + min(first_row + r, params.out_height - 1u);
        for (var c = 0u; c < COLUMNS; c++) {
            let pixel = row * params.out_width + min(first + c, params.out_width - 1u);
            sum[r][c] = with_residual(pixel, quad, sum[r][c]);
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
