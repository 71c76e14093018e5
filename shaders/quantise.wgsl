// The integers nearest to values, of two the even step from zero. A thread has four channels of a pixel.

struct Params {
    threads: u32, // pictures * pixels * quads
    steps: u32,   // in one, the bits of an f32
    zero: u32,    // what stands for 0
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;      // (threads)
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // (threads)

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread < params.threads) {
        let steps = clamp(round(vec4<f32>(x[thread]) * bitcast<f32>(params.steps)), vec4(-512.0), vec4(512.0));
        y[thread] = pack4xI8Clamp(vec4<i32>(steps) + bitcast<i32>(params.zero));
    }
}
