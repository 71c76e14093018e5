// Adds up the parts of a projection that was split over its inputs. A thread has four channels
// of a pixel.
//
//   y[p, o] = activate(sum over s of x[s, p, o] + bias[o] + residual[p, o])

struct Params {
    alarm: u32, // what the flag gets if this step overflows
    outputs: u32, // channels, in fours
    threads: u32, // pixels of the whole batch * outputs
    part_pixels: u32,   // of a picture, if PLACED
    part_first: u32,    // fours of channels before the part
    whole_pixel: u32,   // from a pixel of the whole to the next
    whole_picture: u32, // from a picture of the whole to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;    // (SPLITS, pixels, outputs)
@group(0) @binding(2) var<storage, read> bias: array<vec4<f32>>; // (outputs)
@group(0) @binding(3) var<storage, read> residual: array<Quad>;  // (pixels, outputs), if RESIDUAL
@group(0) @binding(4) var<storage, read_write> y: array<Quad>;   // (pixels, outputs)

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
    var v = bias[thread % params.outputs];
    for (var s = 0u; s < SPLITS; s++) {
        v += x[s * params.threads + thread];
    }
    let pixel = thread / params.outputs;
    let o = thread % params.outputs;
    finish(pixel, o, carried(pixel, o, v));
    raise();
}
