// At each pixel of a map scaled as by `resize.wgsl` the channel with the largest value, the first of
// equals; the scaled map is nowhere stored. A thread has four neighbouring pixels of a row and writes
// their channels as the bytes of one word, the leftmost pixel's lowest; NO_CLASS where any value is
// not finite.

struct Params {
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    channels: u32, // those that count, NO_CLASS at most
    words: u32,    // of an output row: out_width / 4, rounded up
    threads: u32,  // pictures * out_height * words
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;      // (pictures, height, width, channels / 4)
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // (pictures, out_height, words)

// Pixels of a word.
const PIXELS = 4u;

// The bits of infinity, all of which everything that is not finite has.
const INFINITY = 0x7f800000u;

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
    let row = thread / params.words; // of the whole batch
    let rows = taps(row % params.out_height, params.height, params.out_height);
    let picture = row / params.out_height * params.height;
    let quads = (params.channels + 3u) / 4u;
    let upper = (picture + rows.first) * params.width * quads;
    let lower = (picture + rows.second) * params.width * quads;

    // What lies beyond the edge is computed from the last pixel.
    var first: array<u32, PIXELS>;
    var second: array<u32, PIXELS>;
    var share: array<f32, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        let column = min(thread % params.words * PIXELS + p, params.out_width - 1u);
        let columns = taps(column, params.width, params.out_width);
        first[p] = columns.first * quads;
        second[p] = columns.second * quads;
        share[p] = columns.share;
    }

    // The largest of channels 0, 4, 8 and so on, of 1, 5, 9, ..., and whose it is.
    var most: array<vec4<f32>, PIXELS>;
    var whose: array<vec4<u32>, PIXELS>;
    var odd: array<vec4<bool>, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        most[p] = vec4(-0x1.fffffep+127f);
        whose[p] = vec4(NO_CLASS);
        odd[p] = vec4(false);
    }
    for (var quad = 0u; quad < quads; quad++) {
        let channel = 4u * quad + vec4(0u, 1u, 2u, 3u);
        let counts = channel < vec4(params.channels);
        for (var p = 0u; p < PIXELS; p++) {
            let a = vec4<f32>(x[upper + first[p] + quad]);
            let b = vec4<f32>(x[upper + second[p] + quad]);
            let c = vec4<f32>(x[lower + first[p] + quad]);
            let d = vec4<f32>(x[lower + second[p] + quad]);
            let above = a + share[p] * (b - a);
            let below = c + share[p] * (d - c);
            let v = above + rows.share * (below - above);
            let infinite = (bitcast<vec4<u32>>(v) & vec4(INFINITY)) == vec4(INFINITY);
            odd[p] = odd[p] | (counts & infinite);
            let better = counts & (v > most[p]);
            most[p] = select(most[p], v, better);
            whose[p] = select(whose[p], channel, better);
        }
    }

    var word = 0u;
    for (var p = 0u; p < PIXELS; p++) {
        var best = most[p].x;
        var channel = whose[p].x;
        for (var i = 1u; i < 4u; i++) {
            if (most[p][i] > best || (most[p][i] == best && whose[p][i] < channel)) {
                best = most[p][i];
                channel = whose[p][i];
            }
        }
        word |= select(channel, NO_CLASS, any(odd[p])) << (8u * p);
    }
    y[thread] = word;
}
