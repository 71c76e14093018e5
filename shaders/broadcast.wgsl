// Benchmark of subgroup broadcasts. An invocation has four values. In every round each becomes half of the
// value of one lane of the subgroup, plus the invocation's input.

struct Params {
    rounds: u32,
    invocations: u32, // quads
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (invocations)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (invocations)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    // No early return: all lanes must reach the broadcasts.
    let own = vec4<f32>(x[min(index, params.invocations - 1u)]);
    var a = own;
    var b = own + 1.0;
    var c = own + 2.0;
    var d = own + 3.0;
    for (var round = 0u; round < params.rounds; round++) {
        // Halved, so that the values stay finite for any number of rounds.
        a = fma(subgroupBroadcast(a, 0u), vec4(0.5), own);
        b = fma(subgroupBroadcast(b, 1u), vec4(0.5), own);
        c = fma(subgroupBroadcast(c, 2u), vec4(0.5), own);
        d = fma(subgroupBroadcast(d, 3u), vec4(0.5), own);
    }
    if (index < params.invocations) {
        y[index] = Quad((a + b) + (c + d));
    }
}
