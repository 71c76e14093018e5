// Nothing but loads from workgroup memory: how fast a device's invocations hand values to others of their workgroup.
// Each adds up values of its neighbours, eight a round, and in the next round begins with the next of them.

struct Params {
    rounds: u32,
    threads: u32, // quads
}

const AT_ONCE: u32 = 8u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (threads)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (threads)

// A value of each invocation, and the first few again, so that neighbours of the last ones are there too.
var<workgroup> values: array<vec4<f32>, LANES + AT_ONCE>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    let own = select(vec4(0.0), vec4<f32>(x[min(thread, params.threads - 1u)]), thread < params.threads);
    values[lane] = own;
    if (lane < AT_ONCE) {
        values[LANES + lane] = own;
    }
    workgroupBarrier();

    var sum: array<vec4<f32>, AT_ONCE>;
    for (var round = 0u; round < params.rounds; round++) {
        let first = (lane + round) % LANES;
        for (var k = 0u; k < AT_ONCE; k++) {
            sum[k] += values[first + k];
        }
    }
    if (thread < params.threads) {
        y[thread] = Quad(((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7])));
    }
}
