// Benchmark of loads from workgroup memory. In every round an invocation adds up eight consecutive values;
// every round starts one value further.

struct Params {
    rounds: u32,
    invocations: u32, // quads
}

const AT_ONCE: u32 = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (invocations)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (invocations)

// One value per invocation; the first AT_ONCE are repeated at the end, so that reads need not wrap around.
var<workgroup> values: array<vec4<f32>, WORKGROUP_SIZE + AT_ONCE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    let own = select(vec4(0.0), vec4<f32>(x[min(index, params.invocations - 1u)]), index < params.invocations);
    values[invocation] = own;
    if (invocation < AT_ONCE) {
        values[WORKGROUP_SIZE + invocation] = own;
    }
    workgroupBarrier();

    var sum: array<vec4<f32>, AT_ONCE>;
    for (var round = 0u; round < params.rounds; round++) {
        let first = (invocation + round) % WORKGROUP_SIZE;
        for (var k = 0u; k < AT_ONCE; k++) {
            sum[k] += values[first + k];
        }
    }
    if (index < params.invocations) {
        y[index] = Quad(((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7])));
    }
}
