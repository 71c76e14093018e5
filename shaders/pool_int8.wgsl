// Global average pool in int8: the mean of each channel over a picture's pixels. A word is four channels of a
// pixel.
//
// A workgroup makes WORKGROUP_Q words of one picture. WORKGROUP_P invocations split its pixels and load DEPTH
// of them at a time; their sums are added up in workgroup memory, in pairs.

struct Params {
    pictures: u32,
    picture_pixels: u32, // pixels per picture
    quads: u32,  // channels / 4, rounded up
    zeros: u32,  // pixels times the zero point of x
    multiplier: u32, // from sums to y: multiplier / 2^shift
    shift: u32,
    zero: u32, // zero point of y
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;       // (pictures, pixels, quads)
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // (pictures, quads)

var<workgroup> partial: array<vec4<i32>, WORKGROUP_P * WORKGROUP_Q>; // (WORKGROUP_P, WORKGROUP_Q)

@compute @workgroup_size(WORKGROUP_P * WORKGROUP_Q)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let across = (params.quads + WORKGROUP_Q - 1u) / WORKGROUP_Q;
    let tile = group.y * groups.x + group.x;
    let picture = tile / across;
    let quad = tile % across * WORKGROUP_Q + invocation % WORKGROUP_Q;

    var sum = vec4(0i);
    for (var p = invocation / WORKGROUP_Q; p < params.picture_pixels; p += DEPTH * WORKGROUP_P) {
        var v: array<u32, DEPTH>;
        for (var d = 0u; d < DEPTH; d++) {
            let pixel = picture * params.picture_pixels + min(p + d * WORKGROUP_P, params.picture_pixels - 1u);
            v[d] = x[pixel * params.quads + min(quad, params.quads - 1u)];
        }
        for (var d = 0u; d < DEPTH; d++) {
            sum += unpack4xI8(select(0u, v[d], p + d * WORKGROUP_P < params.picture_pixels));
        }
    }
    partial[invocation] = sum;
    for (var half = WORKGROUP_P / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (invocation < half * WORKGROUP_Q) {
            sum += partial[invocation + half * WORKGROUP_Q];
            partial[invocation] = sum;
        }
    }

    if (invocation < WORKGROUP_Q && quad < params.quads && picture < params.pictures) {
        let offset = sum - bitcast<i32>(params.zeros);
        let mean = rescaled(offset, vec4(bitcast<i32>(params.multiplier)), vec4(params.shift));
        y[picture * params.quads + quad] = pack4xI8Clamp(mean + bitcast<i32>(params.zero));
    }
}
