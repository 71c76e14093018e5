// Of the candidates of every class those that stay: the best, the best of those that do not overlap it
// too far, and so on, by falling score and of equals the first. What is left of y is zero. A score or a
// box that is not finite stays out. A workgroup has one class of one picture.

struct Params {
    slots: u32,   // places for candidates of a class, no more than 32 for each thread
    classes: u32, // the background not among them
    anchors: u32, // of a picture
    lists: u32,   // pictures * classes
    least: u32,   // bits of the score, not negative, that one has to be above
    overlap: u32, // bits of the intersection over union that two may have
    most: u32,    // to stay of a class
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec2<f32>>;       // (pictures, classes, slots): score, anchor
@group(0) @binding(2) var<storage, read> bounds: array<vec4<f32>>;  // (pictures, anchors): left, top, right, bottom
@group(0) @binding(3) var<storage, read_write> y: array<vec2<f32>>; // (pictures, classes, slots): score, anchor

// The bits of infinity, all of which everything that is not finite has.
const INFINITY = 0x7f800000u;
const NONE = 0xffffffffu;

var<workgroup> highest: atomic<u32>; // bits of a score: positive floats are ordered as their bits are
var<workgroup> first: atomic<u32>;   // the first slot that has it
var<workgroup> best: u32;

fn area(a: vec4<f32>) -> f32 {
    return (a.z - a.x) * (a.w - a.y);
}

fn meet_too_far(a: vec4<f32>, b: vec4<f32>) -> bool {
    let side = max(min(a.zw, b.zw) - max(a.xy, b.xy), vec2(0.0));
    let both = side.x * side.y;
    return both > 0.0 && both / (area(a) + area(b) - both) > bitcast<f32>(params.overlap);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let list = group.y * groups.x + group.x;
    if (list >= params.lists) {
        return;
    }
    let start = list * params.slots;
    let picture = list / params.classes * params.anchors;

    // A thread has every slot that is LANES from its last; a bit each says which of them may still stay.
    var alive = 0u;
    for (var i = 0u; lane + i * LANES < params.slots; i++) {
        let candidate = x[start + lane + i * LANES];
        let bits = bitcast<u32>(candidate.x);
        if (bits > params.least && bits < INFINITY) {
            let corners = bitcast<vec4<u32>>(bounds[picture + u32(candidate.y)]);
            alive |= u32(all((corners & vec4(INFINITY)) != vec4(INFINITY))) << i;
        }
    }
    if (lane == 0u) {
        atomicStore(&highest, 0u);
        atomicStore(&first, NONE);
    }
    workgroupBarrier();

    var kept = 0u;
    while (kept < params.most) {
        var high = 0u;
        var slot = NONE;
        for (var i = 0u; lane + i * LANES < params.slots; i++) {
            let bits = bitcast<u32>(x[start + lane + i * LANES].x);
            if (((alive >> i) & 1u) == 1u && bits > high) {
                high = bits;
                slot = lane + i * LANES;
            }
        }
        atomicMax(&highest, high);
        workgroupBarrier();
        if (high == atomicLoad(&highest)) {
            atomicMin(&first, slot);
        }
        workgroupBarrier();
        if (lane == 0u) {
            best = atomicLoad(&first);
            atomicStore(&highest, 0u);
            atomicStore(&first, NONE);
        }
        let chosen = workgroupUniformLoad(&best);
        if (chosen == NONE) {
            break;
        }
        let winner = x[start + chosen];
        if (lane == 0u) {
            y[start + kept] = winner;
        }
        kept++;
        let around = bounds[picture + u32(winner.y)];
        for (var i = 0u; lane + i * LANES < params.slots; i++) {
            let other = lane + i * LANES;
            if (((alive >> i) & 1u) == 1u
                && (other == chosen || meet_too_far(around, bounds[picture + u32(x[start + other].y)]))) {
                alive &= ~(1u << i);
            }
        }
    }
    for (var slot = kept + lane; slot < params.slots; slot += LANES) {
        y[start + slot] = vec2(0.0);
    }
}
