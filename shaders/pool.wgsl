// Global average pool: the mean of each channel over a picture's pixels.
//
// A workgroup makes WORKGROUP_Q x 4 channels of one picture. WORKGROUP_P invocations split its pixels and
// load DEPTH of them at a time; their sums are added up in workgroup memory.

struct Params {
    pictures: u32,
    picture_pixels: u32, // pixels per picture
    quads: u32,  // channels / 4, rounded up
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (pictures, pixels, quads)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (pictures, quads)

var<workgroup> partial: array<vec4<f32>, WORKGROUP_P * WORKGROUP_Q>; // (WORKGROUP_P, WORKGROUP_Q)

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

    var sum = vec4(0.0);
    for (var p = invocation / WORKGROUP_Q; p < params.picture_pixels; p += DEPTH * WORKGROUP_P) {
        var v: array<vec4<f32>, DEPTH>;
        for (var d = 0u; d < DEPTH; d++) {
            let pixel = picture * params.picture_pixels + min(p + d * WORKGROUP_P, params.picture_pixels - 1u);
            v[d] = vec4<f32>(x[pixel * params.quads + min(quad, params.quads - 1u)]);
        }
        for (var d = 0u; d < DEPTH; d++) {
            sum += select(vec4(0.0), v[d], p + d * WORKGROUP_P < params.picture_pixels);
        }
    }
    partial[invocation] = sum;
    workgroupBarrier();

    if (invocation < WORKGROUP_Q && quad < params.quads && picture < params.pictures) {
        for (var p = 1u; p < WORKGROUP_P; p++) {
            sum += partial[p * WORKGROUP_Q + invocation];
        }
        y[picture * params.quads + quad] = Quad(sum / f32(params.picture_pixels));
    }
}
