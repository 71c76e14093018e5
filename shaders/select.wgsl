// The best scores of every class except the first: those above a threshold, at most `most` per class, in the
// order of the anchors. If several scores equal the lowest one kept and not all of them fit, the first of
// them are kept. Unused slots of y are zero. NaN counts as the best score, so that the reader of y detects
// it. One workgroup per class and picture.
//
// Positive floats are ordered like their bits. If more scores pass than are kept, bisection finds the bits of
// the lowest score that is kept: all invocations of the workgroup count the scores above a cut.

struct Params {
    anchors: u32,   // per picture
    padded: u32,    // the same, rounded up to a multiple of four
    classes: u32,   // including the first
    threshold: u32, // bits of a non-negative float
    most: u32,
    slots: u32,     // most, rounded up to a multiple of two
    lists: u32,     // pictures * (classes - 1)
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;             // (pictures, classes, padded)
@group(0) @binding(2) var<storage, read_write> y: array<vec2<f32>>; // (pictures, classes - 1, slots): score, anchor

const WORKGROUP_SIZE = SIDE * SIDE;

// The bits of infinity. Higher bits are NaN's or, with the sign bit, those of negative floats.
const INFINITY = 0x7f800000u;
const SIGN = 0x80000000u;

var<workgroup> counts: array<vec2<u32>, WORKGROUP_SIZE>; // of each invocation
var<workgroup> sums: array<vec2<u32>, SIDE>;    // of SIDE invocations
var<workgroup> whole: vec2<u32>;

// Adds up two counts over the workgroup. `before` reads `counts` and `sums` afterwards.
fn total(invocation: u32, count: vec2<u32>) -> vec2<u32> {
    counts[invocation] = count;
    workgroupBarrier();
    if (invocation < SIDE) {
        var sum = vec2(0u);
        for (var i = invocation * SIDE; i < (invocation + 1u) * SIDE; i++) {
            sum += counts[i];
        }
        sums[invocation] = sum;
    }
    workgroupBarrier();
    if (invocation == 0u) {
        var sum = vec2(0u);
        for (var i = 0u; i < SIDE; i++) {
            sum += sums[i];
        }
        whole = sum;
    }
    return workgroupUniformLoad(&whole);
}

// The counts of all preceding invocations.
fn before(invocation: u32) -> vec2<u32> {
    var sum = vec2(0u);
    for (var i = 0u; i < invocation / SIDE; i++) {
        sum += sums[i];
    }
    for (var i = invocation / SIDE * SIDE; i < invocation; i++) {
        sum += counts[i];
    }
    return sum;
}

fn passes(bits: u32, cut: u32) -> bool {
    return bits > cut && (bits <= INFINITY || (bits & ~SIGN) > INFINITY);
}

// Counts the scores of a list above the cut.
fn above(invocation: u32, first: u32, cut: u32) -> u32 {
    var count = 0u;
    for (var i = invocation; i < params.anchors; i += WORKGROUP_SIZE) {
        let bits = bitcast<u32>(x[first + i]);
        count += u32(passes(bits, cut));
    }
    return total(invocation, vec2(count, 0u)).x;
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
    let picture = list / (params.classes - 1u);
    let first = (picture * params.classes + list % (params.classes - 1u) + 1u) * params.padded;

    // The lowest cut with at most `most` scores above it, and the number of scores to keep that are equal to
    // it.
    var cut = params.threshold;
    var spare = 0u;
    if (above(invocation, first, cut) > params.most) {
        cut++;
        var high = INFINITY;
        while (cut < high) {
            let middle = cut + (high - cut) / 2u;
            if (above(invocation, first, middle) > params.most) {
                cut = middle + 1u;
            } else {
                high = middle;
            }
        }
        spare = params.most - min(above(invocation, first, cut), params.most);
    }

    // Each invocation has a run of anchors, so that invocations are in the order of the anchors.
    let run = (params.anchors + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
    let start = min(invocation * run, params.anchors);
    let end = min(start + run, params.anchors);
    var count = vec2(0u); // above the cut, and equal to it
    for (var i = start; i < end; i++) {
        let bits = bitcast<u32>(x[first + i]);
        count += vec2(u32(passes(bits, cut)), u32(bits == cut));
    }
    let found = total(invocation, count);

    var seen = before(invocation);
    for (var i = start; i < end; i++) {
        let score = x[first + i];
        let bits = bitcast<u32>(score);
        let slot = seen.x + min(seen.y, spare);
        if (slot < params.most && (passes(bits, cut) || (bits == cut && seen.y < spare))) {
            y[list * params.slots + slot] = vec2(score, f32(i));
        }
        seen += vec2(u32(passes(bits, cut)), u32(bits == cut));
    }
    for (var slot = min(found.x + min(found.y, spare), params.most) + invocation; slot < params.slots; slot += WORKGROUP_SIZE) {
        y[list * params.slots + slot] = vec2(0.0);
    }
}
