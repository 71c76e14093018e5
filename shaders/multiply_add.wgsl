// Nothing but multiply-adds in registers: how fast a device computes. A thread has eight sums that
// do not wait for one another, each begun with its input and moved by it in every round.

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
    if (thread < params.threads) {
        let step = SumQuad(x[thread]);
        // Below one, so that sums stay finite however many rounds there are.
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
        y[thread] = Quad(((a + b) + (c + d)) + ((e + f) + (g + h)));
    }
}
