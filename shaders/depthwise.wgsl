// Depthwise convolution: each channel by itself over a KERNEL x KERNEL window.
//
// A thread makes COLUMNS neighbouring outputs of one row for four channels. It keeps the
// SPAN input pixels of a row that these outputs share in registers, so that each is loaded
// once a row and not once a tap. Threads go along the channels first: loads are side by side.

struct Params {
    alarm: u32, // what the flag gets if this step overflows
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,      // rows of zeros above
    left: u32,     // columns of zeros to the left
    outputs: u32,  // channels, in fours
    threads: u32,  // pictures * out_height * ceil(out_width / COLUMNS) * outputs
    part_pixels: u32,   // of a picture, if PLACED
    part_first: u32,    // fours of channels before the part
    whole_pixel: u32,   // from a pixel of the whole to the next
    whole_picture: u32, // from a picture of the whole to the next
}

const SPAN: u32 = (COLUMNS - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;

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
    let row = thread / (params.outputs * across);
    let picture = row / params.out_height;

    var sum: array<vec4<f32>, COLUMNS>;
    for (var c = 0u; c < COLUMNS; c++) {
        sum[c] = bias[quad];
    }
    for (var ky = 0u; ky < KERNEL; ky++) {
        // Left of or above the picture wraps round to a huge number: one comparison serves both sides.
        let iy = row % params.out_height * STRIDE + ky * DILATION - params.top;
        if (iy < params.height) {
            let line = (picture * params.height + iy) * params.width;
            var taken: array<vec4<f32>, SPAN>;
            for (var s = 0u; s < SPAN; s++) {
                let ix = first * STRIDE + s - params.left;
                let v = x[(line + min(ix, params.width - 1u)) * params.outputs + quad];
                taken[s] = select(vec4(0.0), vec4<f32>(v), ix < params.width);
            }
            for (var kx = 0u; kx < KERNEL; kx++) {
                let w = vec4<f32>(weight[(ky * KERNEL + kx) * params.outputs + quad]);
                for (var c = 0u; c < COLUMNS; c++) {
                    sum[c] += taken[c * STRIDE + kx * DILATION] * w;
                }
            }
        }
    }
    for (var c = 0u; c < COLUMNS; c++) {
        if (first + c < params.out_width) {
            finish(row * params.out_width + first + c, quad, sum[c]);
        }
    }
    raise();
}
