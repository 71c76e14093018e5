// What integers stand for. A thread has four channels of a pixel.

struct Params {
    threads: u32, // pictures * pixels * quads
    step: u32, // the bits of an f32
    zero: u32, // what stands for 0
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;        // (threads)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (threads)

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread < params.threads) {
        y[thread] = Quad(bitcast<f32>(params.step) * vec4<f32>(unpack4xI8(x[thread]) - bitcast<i32>(params.zero)));
    }
}
