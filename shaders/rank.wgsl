// The best boxes of all classes, as instances to draw: by falling score, of equals those of the first
// class, and how many they are. What is left of `found` is zero. A thread has a place of a class, and
// counts how many of the other classes are better: theirs are in order too.

struct Params {
    slots: u32,    // places of a class
    classes: u32,  // the background not among them
    most: u32,     // places in `found`, no more than slots * classes
    height: u32,   // of the network's input, in pixels
    width: u32,
    vertices: u32, // of an instance
}

struct Found {
    bounds: vec4<f32>, // left, top, right, bottom, as shares of the picture
    score: f32,
    kind: u32,         // the class; the background is 0
    anchor: u32,
    unused: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec2<f32>>;      // (classes, slots): score, anchor
@group(0) @binding(2) var<storage, read> bounds: array<vec4<f32>>; // (anchors): left, top, right, bottom
@group(0) @binding(3) var<storage, read_write> found: array<Found>;
@group(0) @binding(4) var<storage, read_write> draw: array<u32>;   // vertices, instances, 0, 0

// How many of a class's scores have these bits or higher ones: positive floats are ordered as their
// bits are.
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

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread >= params.slots * params.classes) {
        return;
    }
    if (thread < params.most) {
        var count = 0u;
        for (var list = 0u; list < params.classes; list++) {
            count += at_least(list, 1u);
        }
        if (thread >= count) {
            found[thread] = Found(vec4(0.0), 0.0, 0u, 0u, 0u);
        }
        if (thread == 0u) {
            draw[0] = params.vertices;
            draw[1] = min(count, params.most);
            draw[2] = 0u;
            draw[3] = 0u;
        }
    }
    let slot = x[thread];
    let bits = bitcast<u32>(slot.x);
    let own = thread / params.slots;
    var place = thread % params.slots;
    if (bits == 0u || place >= params.most) {
        return;
    }
    for (var list = 0u; list < params.classes; list++) {
        if (list != own) {
            place += at_least(list, bits + u32(list > own));
        }
    }
    if (place < params.most) {
        let anchor = u32(slot.y);
        let size = vec2(f32(params.width), f32(params.height));
        found[place] = Found(bounds[anchor] / vec4(size, size), slot.x, own + 1u, anchor, 0u);
    }
}
