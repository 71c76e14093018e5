// Benchmark of multiply-adds in registers. An invocation has eight independent accumulators, started from its
// input. In every round each is multiplied by half the input, and the input is added.

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
    if (index < params.invocations) {
        let step = SumQuad(x[index]);
        // Below one for inputs below two, so that the accumulators stay finite for any number of rounds.
        let factor = step * 0.5;
        var a = step;
        var b = step + 1.0;
        var c = step + 2.0;
        var d = step + 3.0;
        var e = step - 1.0;
        var f = step - 2.0;
        var g = step - 3.0;
        var h = step - 4.0;
        for (var round = 0u; round < params.rounds; round++) {
            a = fma(a, factor, step);
            b = fma(b, factor, step);
            c = fma(c, factor, step);
            d = fma(d, factor, step);
            e = fma(e, factor, step);
            f = fma(f, factor, step);
            g = fma(g, factor, step);
            h = fma(h, factor, step);
        }
        y[index] = Quad(((a + b) + (c + d)) + ((e + f) + (g + h)));
    }
}
