// Non-maximum suppression: keeps each class's best candidate, then the best one that does not overlap it too
// far, and so on, in descending order of score; the first of equal scores counts as better. Unused slots of y
// are zero. Candidates whose score or box is not finite are dropped. One workgroup per class and picture.

struct Params {
    slots: u32,     // for candidates, per class; no more than 32 per invocation
    classes: u32,   // without the background
    anchors: u32,   // per picture
    lists: u32,     // pictures * classes
    min_score: u32, // bits of the lowest score of a candidate, which is positive
    overlap: u32,   // bits of the largest intersection over union of two kept boxes
    most: u32,      // candidates to keep per class
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec2<f32>>;       // (pictures, classes, slots): score, anchor
@group(0) @binding(2) var<storage, read> bounds: array<vec4<f32>>;  // (pictures, anchors): left, top, right, bottom
@group(0) @binding(3) var<storage, read_write> y: array<vec2<f32>>; // (pictures, classes, slots): score, anchor

// The bits of infinity. NaN has all of them set too.
const INFINITY = 0x7f800000u;
const NONE = 0xffffffffu;

var<workgroup> highest: atomic<u32>; // bits of the highest score: positive floats are ordered like their bits
var<workgroup> first: atomic<u32>;   // the first slot with that score
var<workgroup> best: u32;

fn area(a: vec4<f32>) -> f32 {
    return (a.z - a.x) * (a.w - a.y);
}

fn overlaps_too_far(a: vec4<f32>, b: vec4<f32>) -> bool {
    let side = max(min(a.zw, b.zw) - max(a.xy, b.xy), vec2(0.0));
    let both = side.x * side.y;
    return both > 0.0 && both / (area(a) + area(b) - both) > bitcast<f32>(params.overlap);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let list = group.y * groups.x + group.x;
    if (list >= params.lists) {
        return;
    }
    let start = list * params.slots;
    let picture = list / params.classes * params.anchors;

    // An invocation has every WORKGROUP_SIZE-th slot; bit i is set while its slot i may still be kept.
    var alive = 0u;
    for (var i = 0u; invocation + i * WORKGROUP_SIZE < params.slots; i++) {
        let candidate = x[start + invocation + i * WORKGROUP_SIZE];
        let bits = bitcast<u32>(candidate.x);
        if (bits >= params.min_score && bits < INFINITY) {
            let corners = bitcast<vec4<u32>>(bounds[picture + u32(candidate.y)]);
            alive |= u32(all((corners & vec4(INFINITY)) != vec4(INFINITY))) << i;
        }
    }
    if (invocation == 0u) {
        atomicStore(&highest, 0u);
        atomicStore(&first, NONE);
    }
    workgroupBarrier();

    var kept = 0u;
    while (kept < params.most) {
        var high = 0u;
        var slot = NONE;
        for (var i = 0u; invocation + i * WORKGROUP_SIZE < params.slots; i++) {
            let bits = bitcast<u32>(x[start + invocation + i * WORKGROUP_SIZE].x);
            if (((alive >> i) & 1u) == 1u && bits > high) {
                high = bits;
                slot = invocation + i * WORKGROUP_SIZE;
            }
        }
        atomicMax(&highest, high);
        workgroupBarrier();
        if (high == atomicLoad(&highest)) {
            atomicMin(&first, slot);
        }
        workgroupBarrier();
        if (invocation == 0u) {
            best = atomicLoad(&first);
            atomicStore(&highest, 0u);
            atomicStore(&first, NONE);
        }
        let chosen = workgroupUniformLoad(&best);
        if (chosen == NONE) {
            break;
        }
        let winner = x[start + chosen];
        if (invocation == 0u) {
            y[start + kept] = winner;
        }
        kept++;
        let kept_box = bounds[picture + u32(winner.y)];
        for (var i = 0u; invocation + i * WORKGROUP_SIZE < params.slots; i++) {
            let other = invocation + i * WORKGROUP_SIZE;
            if (((alive >> i) & 1u) == 1u
                && (other == chosen || overlaps_too_far(kept_box, bounds[picture + u32(x[start + other].y)]))) {
                alive &= ~(1u << i);
            }
        }
    }
    for (var slot = kept + invocation; slot < params.slots; slot += WORKGROUP_SIZE) {
        y[start + slot] = vec2(0.0);
    }
}
