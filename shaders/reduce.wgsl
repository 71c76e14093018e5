// Adds up the partial sums of a projection that is split over its inputs (split-K). An invocation makes four
// channels of a pixel.
//
//   y[p, o] = activate(sum over s of x[s, p, o] + bias[o] + residual[p, o])

struct Params {
    alarm: u32, // the overflow flag's value if this step overflows
    outputs: u32, // channels / 4, rounded up
    invocations: u32, // pixels of the whole batch * outputs
    part_pixels: u32,   // pixels per picture, if PLACED
    part_first: u32,    // quads before the part in each picture of the whole map
    whole_pixel: u32,   // quads from one pixel of the whole map to the next
    whole_picture: u32, // quads from one picture of the whole map to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;    // (SPLITS, pixels, outputs)
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>; // (outputs)
@group(0) @binding(3) var<storage, read> residual: array<Quad>;  // (pixels, outputs), if RESIDUAL
@group(0) @binding(4) var<storage, read_write> y: array<Quad>;   // (pixels, outputs)

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
    var v = bias[index % params.outputs];
    for (var s = 0u; s < SPLITS; s++) {
        v += x[s * params.invocations + index];
    }
    let pixel = index / params.outputs;
    let o = index % params.outputs;
    finish(pixel, o, with_residual(pixel, o, v));
    raise();
}
