// Bytes in, bytes out: how fast a device moves them, and with few threads what a launch costs.
// A thread has four channels of a pixel.

struct Params {
    threads: u32, // quads
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (threads)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (threads)

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread < params.threads) {
        y[thread] = x[thread];
    }
}
