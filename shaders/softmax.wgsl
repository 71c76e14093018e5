// Softmax over runs of channels: exp(v - largest) over the sum of these. A pixel's channels are as
// many runs as it has anchors, each with a value for every class. A thread has one anchor, and
// writes each class where its neighbours write theirs.

struct Params {
    pixels: u32,  // of one picture
    quads: u32,   // channels, in fours
    classes: u32,
    each: u32,    // anchors of a pixel
    padded: u32,  // anchors of a picture, rounded up to a multiple of four
    threads: u32, // pictures * padded
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;      // (pictures, pixels, quads)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (pictures, classes, padded)

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread >= params.threads) {
        return;
    }
    let anchor = thread % params.padded;
    let picture = thread / params.padded;
    let first = picture * params.classes * params.padded + anchor;
    if (anchor >= params.pixels * params.each) {
        for (var c = 0u; c < params.classes; c++) {
            y[first + c * params.padded] = 0.0;
        }
        return;
    }

    let start = (picture * params.pixels + anchor / params.each) * params.quads * 4u
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
