// Global average pool in integers: the mean of each channel over a picture's pixels. A word is four channels of a pixel.
//
// A workgroup has LANES_Q words of a pixel of one picture; LANES_P threads split its pixels between them, DEPTH at a time,
// and their sums meet in workgroup memory, two at a time.

struct Params {
    pictures: u32,
    pixels: u32, // of one picture
    quads: u32,  // channels, in fours
    zeros: u32,  // what the zeros of all pixels of x add up to
    multiplier: u32,
    shift: u32,
    zero: u32, // what stands for 0 in y
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;       // (pictures, pixels, quads)
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // (pictures, quads)

var<workgroup> partial: array<vec4<i32>, LANES_P * LANES_Q>; // (LANES_P, LANES_Q)

@compute @workgroup_size(LANES_P * LANES_Q)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (params.quads + LANES_Q - 1u) / LANES_Q;
    let tile = group.y * groups.x + group.x;
    let picture = tile / across;
    let quad = tile % across * LANES_Q + lane % LANES_Q;

    var sum = vec4(0i);
    for (var p = lane / LANES_Q; p < params.pixels; p += DEPTH * LANES_P) {
        var v: array<u32, DEPTH>;
        for (var d = 0u; d < DEPTH; d++) {
            let pixel = picture * params.pixels + min(p + d * LANES_P, params.pixels - 1u);
            v[d] = x[pixel * params.quads + min(quad, params.quads - 1u)];
        }
        for (var d = 0u; d < DEPTH; d++) {
            sum += unpack4xI8(select(0u, v[d], p + d * LANES_P < params.pixels));
        }
    }
    partial[lane] = sum;
    for (var half = LANES_P / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half * LANES_Q) {
            sum += partial[lane + half * LANES_Q];
            partial[lane] = sum;
        }
    }

    if (lane < LANES_Q && quad < params.quads && picture < params.pictures) {
        let steps = sum - bitcast<i32>(params.zeros);
        let mean = rescaled(steps, vec4(bitcast<i32>(params.multiplier)), vec4(params.shift));
        y[picture * params.quads + quad] = pack4xI8Clamp(mean + bitcast<i32>(params.zero));
    }
}
