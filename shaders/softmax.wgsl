// Softmax over runs of channels: exp(v - largest), divided by the sum of these values over the run. A pixel's
// channels are one run per anchor, with one value per class. An invocation has one anchor; adjacent
// invocations write adjacent values.

struct Params {
    picture_pixels: u32, // pixels per picture
    quads: u32,   // channels / 4, rounded up
    classes: u32,
    each: u32,    // anchors per pixel
    padded: u32,  // anchors per picture, rounded up to a multiple of four
    invocations: u32, // pictures * padded
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;      // (pictures, pixels, quads)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (pictures, classes, padded)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index >= params.invocations) {
        return;
    }
    let anchor = index % params.padded;
    let picture = index / params.padded;
    let first = picture * params.classes * params.padded + anchor;
    if (anchor >= params.picture_pixels * params.each) {
        for (var c = 0u; c < params.classes; c++) {
            y[first + c * params.padded] = 0.0;
        }
        return;
    }

    let start = (picture * params.picture_pixels + anchor / params.each) * params.quads * 4u
        + anchor % params.each * params.classes;
    var most = -0x1.fffffep+127f;
    for (var i = start; i < start + params.classes; i++) {
        most = max(most, f32(x[i / 4u][i % 4u]));
    }
    var sum = 0.0;
    for (var i = start; i < start + params.classes; i++) {
        sum += exp(f32(x[i / 4u][i % 4u]) - most);
    }
    for (var c = 0u; c < params.classes; c++) {
        let i = start + c;
        y[first + c * params.padded] = exp(f32(x[i / 4u][i % 4u]) - most) / sum;
    }
}
