// Global average pool: the mean of each channel over a picture's pixels.
//
// A workgroup has LANES_Q x 4 channels of one picture; LANES_P threads split its pixels
// between them, DEPTH at a time, and their sums meet in workgroup memory.

struct Params {
    pictures: u32,
    pixels: u32, // of one picture
    quads: u32,  // channels, in fours
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (pictures, pixels, quads)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (pictures, quads)

var<workgroup> partial: array<vec4<f32>, LANES_P * LANES_Q>; // (LANES_P, LANES_Q)

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

    var sum = vec4(0.0);
    for (var p = lane / LANES_Q; p < params.pixels; p += DEPTH * LANES_P) {
        var v: array<vec4<f32>, DEPTH>;
        for (var d = 0u; d < DEPTH; d++) {
            let pixel = picture * params.pixels + min(p + d * LANES_P, params.pixels - 1u);
            v[d] = vec4<f32>(x[pixel * params.quads + min(quad, params.quads - 1u)]);
        }
        for (var d = 0u; d < DEPTH; d++) {
            sum += select(vec4(0.0), v[d], p + d * LANES_P < params.pixels);
        }
    }
    partial[lane] = sum;
    workgroupBarrier();

    if (lane < LANES_Q && quad < params.quads && picture < params.pictures) {
        for (var p = 1u; p < LANES_P; p++) {
            sum += partial[p * LANES_Q + lane];
        }
        y[picture * params.quads + quad] = Quad(sum / f32(params.pixels));
    }
}
