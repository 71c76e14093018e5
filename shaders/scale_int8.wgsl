// Squeeze-excite's last step in integers: every channel times its gate. A thread has a word, four channels of a pixel.

struct Params {
    pixels: u32,  // of one picture
    quads: u32,   // channels, in fours
    threads: u32, // pictures * pixels * quads
    x_zero: u32,  // what stands for 0, in each
    gate_zero: u32,
    multiplier: u32,
    shift: u32,
    zero: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;       // (pictures, pixels, quads)
@group(0) @binding(2) var<storage, read> gate: array<u32>;    // (pictures, quads)
@group(0) @binding(3) var<storage, read_write> y: array<u32>; // (pictures, pixels, quads)

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread < params.threads) {
        let picture = thread / (params.pixels * params.quads);
        let steps = unpack4xI8(x[thread]) - bitcast<i32>(params.x_zero);
        let gates = unpack4xI8(gate[picture * params.quads + thread % params.quads]) - bitcast<i32>(params.gate_zero);
        let scaled = rescaled(steps * gates, vec4(bitcast<i32>(params.multiplier)), vec4(params.shift));
        y[thread] = pack4xI8Clamp(scaled + bitcast<i32>(params.zero));
    }
}
