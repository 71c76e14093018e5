// Nothing but values handed over within a subgroup: how fast a device does it. A thread has four values, each of
// which becomes in every round what a lane has, moved by the thread's input.

struct Params {
    rounds: u32,
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
    // No lane may leave before the others have its values.
    let own = vec4<f32>(x[min(thread, params.threads - 1u)]);
    var a = own;
    var b = own + 1.0;
    var c = own + 2.0;
    var d = own + 3.0;
    for (var round = 0u; round < params.rounds; round++) {
        // Halved, so that they stay finite however many rounds there are.
        a = fma(subgroupBroadcast(a, 0u), vec4(0.5), own);
        b = fma(subgroupBroadcast(b, 1u), vec4(0.5), own);
        c = fma(subgroupBroadcast(c, 2u), vec4(0.5), own);
        d = fma(subgroupBroadcast(d, 3u), vec4(0.5), own);
    }
    if (thread < params.threads) {
        y[thread] = Quad((a + b) + (c + d));
    }
}
