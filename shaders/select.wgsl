// Of every class but the first the best scores above a threshold, `most` of them at most, in the
// order of the anchors; of equals at the cut the first. What is left of y is zero. What is no number
// counts as the best, so that whoever reads y sees it. A workgroup has one class of one picture.
//
// Positive floats are ordered as their bits are. Where more scores pass than may stay, the bits of
// the least that stays are found by bisection: the threads count together what lies above a cut.

struct Params {
    anchors: u32,   // of a picture
    padded: u32,    // the same, rounded up to a multiple of four
    classes: u32,   // the first of them included
    threshold: u32, // bits of a float that is not negative
    most: u32,
    slots: u32,     // most, rounded up to a multiple of two
    lists: u32,     // pictures * (classes - 1)
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;             // (pictures, classes, padded)
@group(0) @binding(2) var<storage, read_write> y: array<vec2<f32>>; // (pictures, classes - 1, slots): score, anchor

const LANES = SIDE * SIDE;

// The bits of infinity. What lies above is no number or, beyond the sign's bit, negative.
const INFINITY = 0x7f800000u;
const SIGN = 0x80000000u;

var<workgroup> counts: array<vec2<u32>, LANES>; // of each thread
var<workgroup> sums: array<vec2<u32>, SIDE>;    // of SIDE threads
var<workgroup> whole: vec2<u32>;

// Two counts of every thread added up; `counts` and `sums` stay for `before`.
fn total(lane: u32, count: vec2<u32>) -> vec2<u32> {
    counts[lane] = count;
    workgroupBarrier();
    if (lane < SIDE) {
        var sum = vec2(0u);
        for (var i = lane * SIDE; i < (lane + 1u) * SIDE; i++) {
            sum += counts[i];
        }
        sums[lane] = sum;
    }
    workgroupBarrier();
    if (lane == 0u) {
        var sum = vec2(0u);
        for (var i = 0u; i < SIDE; i++) {
            sum += sums[i];
        }
        whole = sum;
    }
    return workgroupUniformLoad(&whole);
}

// What the threads before this one counted.
fn before(lane: u32) -> vec2<u32> {
    var sum = vec2(0u);
    for (var i = 0u; i < lane / SIDE; i++) {
        sum += sums[i];
    }
    for (var i = lane / SIDE * SIDE; i < lane; i++) {
        sum += counts[i];
    }
    return sum;
}

fn passes(bits: u32, cut: u32) -> bool {
    return bits > cut && (bits <= INFINITY || (bits & ~SIGN) > INFINITY);
}

// How many of a list's scores lie above the cut.
fn above(lane: u32, first: u32, cut: u32) -> u32 {
    var count = 0u;
    for (var i = lane; i < params.anchors; i += LANES) {
        let bits = bitcast<u32>(x[first + i]);
        count += u32(passes(bits, cut));
    }
    return total(lane, vec2(count, 0u)).x;
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
    let picture = list / (params.classes - 1u);
    let first = (picture * params.classes + list % (params.classes - 1u) + 1u) * params.padded;

    // The least cut that no more than `most` lie above, and how many on it may stay besides.
    var cut = params.threshold;
    var spare = 0u;
    if (above(lane, first, cut) > params.most) {
        cut++;
        var high = INFINITY;
        while (cut < high) {
            let middle = cut + (high - cut) / 2u;
            if (above(lane, first, middle) > params.most) {
                cut = middle + 1u;
            } else {
                high = middle;
            }
        }
        spare = params.most - min(above(lane, first, cut), params.most);
    }

    // Each thread has a run of anchors, so that threads are in the order of the anchors.
    let run = (params.anchors + LANES - 1u) / LANES;
    let start = min(lane * run, params.anchors);
    let end = min(start + run, params.anchors);
    var count = vec2(0u); // above the cut, and on it
    for (var i = start; i < end; i++) {
        let bits = bitcast<u32>(x[first + i]);
        count += vec2(u32(passes(bits, cut)), u32(bits == cut));
    }
    let found = total(lane, count);

    var seen = before(lane);
    for (var i = start; i < end; i++) {
        let score = x[first + i];
        let bits = bitcast<u32>(score);
        let slot = seen.x + min(seen.y, spare);
        if (slot < params.most && (passes(bits, cut) || (bits == cut && seen.y < spare))) {
            y[list * params.slots + slot] = vec2(score, f32(i));
        }
        seen += vec2(u32(passes(bits, cut)), u32(bits == cut));
    }
    for (var slot = min(found.x + min(found.y, spare), params.most) + lane; slot < params.slots; slot += LANES) {
        y[list * params.slots + slot] = vec2(0.0);
    }
}
