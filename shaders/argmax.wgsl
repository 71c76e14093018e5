// The channel with the largest value at each pixel of a map that is scaled as by `resize.wgsl`; the first of
// equal values counts. The scaled map is never stored. A pixel with a value that is not finite gets NO_CLASS.
// An invocation makes four adjacent pixels of a row, as the bytes of one word, the leftmost in the lowest
// byte.

struct Params {
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    channels: u32, // without padding; NO_CLASS at most
    words: u32,    // of an output row: out_width / 4, rounded up
    invocations: u32, // pictures * out_height * words
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;      // (pictures, height, width, channels / 4)
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // (pictures, out_height, words)

// Pixels per word.
const PIXELS = 4u;

// The bits of infinity. NaN has all of them set too.
const INFINITY = 0x7f800000u;

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
    let row = index / params.words; // in the whole batch
    let rows = taps(row % params.out_height, params.height, params.out_height);
    let picture = row / params.out_height * params.height;
    let quads = (params.channels + 3u) / 4u;
    let upper = (picture + rows.first) * params.width * quads;
    let lower = (picture + rows.second) * params.width * quads;

    // Pixels past the edge repeat the last one.
    var first: array<u32, PIXELS>;
    var second: array<u32, PIXELS>;
    var weight: array<f32, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        let column = min(index % params.words * PIXELS + p, params.out_width - 1u);
        let columns = taps(column, params.width, params.out_width);
        first[p] = columns.first * quads;
        second[p] = columns.second * quads;
        weight[p] = columns.weight;
    }

    // Component i: the largest value of channels i, i + 4, i + 8, ..., and its channel.
    var most: array<vec4<f32>, PIXELS>;
    var winner: array<vec4<u32>, PIXELS>;
    var nonfinite: array<vec4<bool>, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        most[p] = vec4(-0x1.fffffep+127f);
        winner[p] = vec4(NO_CLASS);
        nonfinite[p] = vec4(false);
    }
    for (var quad = 0u; quad < quads; quad++) {
        let channel = 4u * quad + vec4(0u, 1u, 2u, 3u);
        let valid = channel < vec4(params.channels);
        for (var p = 0u; p < PIXELS; p++) {
            let a = vec4<f32>(x[upper + first[p] + quad]);
            let b = vec4<f32>(x[upper + second[p] + quad]);
            let c = vec4<f32>(x[lower + first[p] + quad]);
            let d = vec4<f32>(x[lower + second[p] + quad]);
            let above = a + weight[p] * (b - a);
            let below = c + weight[p] * (d - c);
            let v = above + rows.weight * (below - above);
            let infinite = (bitcast<vec4<u32>>(v) & vec4(INFINITY)) == vec4(INFINITY);
            nonfinite[p] = nonfinite[p] | (valid & infinite);
            let better = valid & (v > most[p]);
            most[p] = select(most[p], v, better);
            winner[p] = select(winner[p], channel, better);
        }
    }

    var word = 0u;
    for (var p = 0u; p < PIXELS; p++) {
        var best = most[p].x;
        var channel = winner[p].x;
        for (var i = 1u; i < 4u; i++) {
            if (most[p][i] > best || (most[p][i] == best && winner[p][i] < channel)) {
                best = most[p][i];
                channel = winner[p][i];
            }
        }
        word |= select(channel, NO_CLASS, any(nonfinite[p])) << (8u * p);
    }
    y[index] = word;
}
