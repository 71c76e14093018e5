// The best boxes of all classes as instances to draw, and their number. Boxes are in descending order of
// score, then in order of class. Unused entries of `found` are zero. An invocation has one slot of a class
// and counts the better boxes of the other classes; the boxes of a class are already in order.

struct Params {
    slots: u32,    // per class
    classes: u32,  // without the background
    most: u32,     // entries of `found`, no more than slots * classes
    height: u32,   // of the network's input, in pixels
    width: u32,
    vertices: u32, // per instance
}

struct Found {
    bounds: vec4<f32>, // left, top, right, bottom, as fractions of the picture's size
    score: f32,
    kind: u32,         // the class; the background is 0
    anchor: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec2<f32>>;      // (classes, slots): score, anchor
@group(0) @binding(2) var<storage, read> bounds: array<vec4<f32>>; // (anchors): left, top, right, bottom
@group(0) @binding(3) var<storage, read_write> found: array<Found>;
@group(0) @binding(4) var<storage, read_write> draw: array<u32>;   // indirect draw: vertices, instances, 0, 0

// Counts a class's scores with at least these bits: bits of positive floats are ordered like the floats.
fn at_least(list: u32, bits: u32) -> u32 {
    var low = 0u;
    var high = params.slots;
    while (low < high) {
        let middle = (low + high) / 2u;
        if (bitcast<u32>(x[list * params.slots + middle].x) >= bits) {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index >= params.slots * params.classes) {
        return;
    }
    if (index < params.most) {
        var count = 0u;
        for (var list = 0u; list < params.classes; list++) {
            count += at_least(list, 1u);
        }
        if (index >= count) {
            found[index] = Found(vec4(0.0), 0.0, 0u, 0u, 0u);
        }
        if (index == 0u) {
            draw[0] = params.vertices;
            draw[1] = min(count, params.most);
            draw[2] = 0u;
            draw[3] = 0u;
        }
    }
    let slot = x[index];
    let bits = bitcast<u32>(slot.x);
    let own = index / params.slots;
    var rank = index % params.slots;
    if (bits == 0u || rank >= params.most) {
        return;
    }
    for (var list = 0u; list < params.classes; list++) {
        if (list != own) {
            rank += at_least(list, bits + u32(list > own));
        }
    }
    if (rank < params.most) {
        let anchor = u32(slot.y);
        let size = vec2(f32(params.width), f32(params.height));
        found[rank] = Found(bounds[anchor] / vec4(size, size), slot.x, own + 1u, anchor, 0u);
    }
}
