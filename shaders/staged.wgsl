// Pointwise and dense convolution staged through workgroup memory.
//
//   y[p, o] = activate(sum over t, i of x[p + t, i] * gate[i] * weight[t, i, o] + bias[o] + residual[p, o])
//
// A product of pixels by channels, whose inner dimension is the inputs of one tap of the window after the other: its
// terms, four inputs each. A pointwise layer has one tap.
//
// A workgroup makes TILE_P pixels by TILE_O x 4 channels, and SPLIT groups of its threads, its parts, share the terms. A
// part walks its own DEEP at a time: its threads bring pixels and weights to workgroup memory, each value once and side
// by side, and while they multiply, what the next turn needs is on its way into registers. A thread keeps
// PIXELS x QUADS vec4 sums, as in `pointwise`; LANES_O threads lie along the outputs, LANES_P along the pixels.

struct Params {
    alarm: u32, // what the flag gets if this step overflows
    pixels: u32,  // of the whole batch
    picture: u32, // pixels of one picture
    inputs: u32,  // channels, in fours
    outputs: u32, // channels, in fours
    height: u32,
    width: u32,
    out_width: u32,
    top: u32,     // rows of zeros above
    left: u32,    // columns of zeros to the left
    part_pixels: u32,   // of a picture, if PLACED
    part_first: u32,    // fours of channels before the part
    whole_pixel: u32,   // from a pixel of the whole to the next
    whole_picture: u32, // from a picture of the whole to the next
}

const THREADS: u32 = LANES_O * LANES_P; // of a part
const TILE_P: u32 = LANES_P * PIXELS;
const TILE_O: u32 = LANES_O * QUADS;
const SUMS: u32 = PIXELS * QUADS;
// vec4s that a part brings a turn, and a thread of it.
const BROUGHT_X: u32 = TILE_P * DEEP;
const BROUGHT_W: u32 = TILE_O * DEEP * 4u;
const OWN_X: u32 = (BROUGHT_X + THREADS - 1u) / THREADS;
const OWN_W: u32 = (BROUGHT_W + THREADS - 1u) / THREADS;
const TAPS: u32 = KERNEL * KERNEL;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;         // (pictures, height, width, inputs)
@group(0) @binding(2) var<storage, read> weight: array<Quad>;    // (terms, outputs, 4); a quad an input
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>;  // (pixels, outputs), if RESIDUAL
@group(0) @binding(5) var<storage, read> gate: array<Quad>;      // (pictures, inputs), 0 to 1, if GATED
@group(0) @binding(6) var<storage, read_write> y: array<Quad>;   // (pixels, outputs)

var<workgroup> staged_x: array<Quad, SPLIT * BROUGHT_X>;               // (SPLIT, TILE_P, DEEP)
var<workgroup> staged_w: array<Quad, SPLIT * BROUGHT_W>;               // (SPLIT, DEEP, 4, TILE_O)
var<workgroup> partial: array<vec4<f32>, SPLIT / 2u * SUMS * THREADS + 1u>; // (SPLIT / 2, SUMS, THREADS)

// Where the windows of those pixels begin that a thread brings. Left of or above the map wraps round to huge numbers.
struct Rows {
    x: array<u32, OWN_X>,
    gates: array<u32, OWN_X>,
    y: array<u32, OWN_X>,
    column: array<u32, OWN_X>,
}

// What a thread brings a turn.
struct Brought {
    x: array<vec4<f32>, OWN_X>,
    inside: array<bool, OWN_X>, // zeros beyond the last term and beyond the map
    w: array<vec4<f32>, OWN_W>,
}

@compute @workgroup_size(LANES_O * LANES_P * SPLIT)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (params.outputs + TILE_O - 1u) / TILE_O;
    let tile = group.y * groups.x + group.x;
    let first_output = tile % across * TILE_O;
    let first_pixel = tile / across * TILE_P;
    let part = lane / THREADS;
    let own = lane % THREADS;

    // What lies beyond the edge is computed from the last row or column and not stored.
    var rows: Rows;
    for (var n = 0u; n < OWN_X; n++) {
        let pixel = min(first_pixel + (own + n * THREADS) / DEEP, params.pixels - 1u);
        let picture = pixel / params.picture;
        rows.gates[n] = picture * params.inputs;
        rows.x[n] = pixel * params.inputs;
        if (TAPS * STRIDE > 1u) {
            let y = pixel % params.picture / params.out_width * STRIDE - params.top;
            let column = pixel % params.picture % params.out_width * STRIDE - params.left;
            rows.x[n] = ((picture * params.height + y) * params.width + column) * params.inputs;
            rows.y[n] = y;
            rows.column[n] = column;
        }
    }
    let turns = (TAPS * params.inputs + SPLIT * DEEP - 1u) / (SPLIT * DEEP);
    var next = bring(own, part * DEEP, first_output, rows);
    var sum: array<array<vec4<f32>, QUADS>, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        for (var q = 0u; q < QUADS; q++) {
            let o = min(first_output + own % LANES_O + q * LANES_O, params.outputs - 1u);
            sum[p][q] = select(vec4(0.0), bias[o], part == 0u);
        }
    }
    for (var turn = 1u; turn <= turns; turn++) {
        // The turn before has multiplied what is overwritten.
        workgroupBarrier();
        for (var n = 0u; n < OWN_X; n++) {
            if (n + 1u < OWN_X || own + n * THREADS < BROUGHT_X) {
                let v = select(vec4(0.0), next.x[n], next.inside[n]);
                staged_x[part * BROUGHT_X + own + n * THREADS] = Quad(v);
            }
        }
        for (var n = 0u; n < OWN_W; n++) {
            let item = own + n * THREADS;
            if (n + 1u < OWN_W || item < BROUGHT_W) {
                let deep = item / (4u * TILE_O);
                staged_w[part * BROUGHT_W + (deep * 4u + item % 4u) * TILE_O + item / 4u % TILE_O] = Quad(next.w[n]);
            }
        }
        workgroupBarrier();
        // Behind the last turn too, from where nobody reads: whatever branches would wait for the loads.
        next = bring(own, (turn * SPLIT + part) * DEEP, first_output, rows);
        for (var deep = 0u; deep < DEEP; deep++) {
            var taken: array<vec4<f32>, PIXELS>;
            for (var p = 0u; p < PIXELS; p++) {
                taken[p] = vec4<f32>(staged_x[part * BROUGHT_X + (own / LANES_O + p * LANES_P) * DEEP + deep]);
            }
            for (var q = 0u; q < QUADS; q++) {
                let at = part * BROUGHT_W + deep * 4u * TILE_O + own % LANES_O + q * LANES_O;
                let w = mat4x4<f32>(
                    vec4<f32>(staged_w[at]),
                    vec4<f32>(staged_w[at + TILE_O]),
                    vec4<f32>(staged_w[at + 2u * TILE_O]),
                    vec4<f32>(staged_w[at + 3u * TILE_O]),
                );
                for (var p = 0u; p < PIXELS; p++) {
                    sum[p][q] += w * taken[p];
                }
            }
        }
    }

    // Parts meet in pairs.
    for (var half = SPLIT / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        for (var p = 0u; p < PIXELS; p++) {
            for (var q = 0u; q < QUADS; q++) {
                if (part >= half && part < 2u * half) {
                    partial[((part - half) * SUMS + p * QUADS + q) * THREADS + own] = sum[p][q];
                }
            }
        }
        workgroupBarrier();
        for (var p = 0u; p < PIXELS; p++) {
            for (var q = 0u; q < QUADS; q++) {
                if (part < half) {
                    sum[p][q] += partial[(part * SUMS + p * QUADS + q) * THREADS + own];
                }
            }
        }
    }
    if (part > 0u) {
        return;
    }
    for (var p = 0u; p < PIXELS; p++) {
        let pixel = min(first_pixel + own / LANES_O + p * LANES_P, params.pixels - 1u);
        for (var q = 0u; q < QUADS; q++) {
            let o = min(first_output + own % LANES_O + q * LANES_O, params.outputs - 1u);
            sum[p][q] = carried(pixel, o, sum[p][q]);
        }
    }
    for (var p = 0u; p < PIXELS; p++) {
        let pixel = first_pixel + own / LANES_O + p * LANES_P;
        for (var q = 0u; q < QUADS; q++) {
            let o = first_output + own % LANES_O + q * LANES_O;
            if (pixel < params.pixels && o < params.outputs) {
                finish(pixel, o, sum[p][q]);
            }
        }
    }
    raise();
}

// A thread's share of a turn whose terms begin with `first`. THREADS is a multiple of DEEP: of all its pixels a thread
// brings the same term.
fn bring(own: u32, first: u32, first_output: u32, rows: Rows) -> Brought {
    let terms = TAPS * params.inputs;
    let term = first + own % DEEP;
    // One tap: no division.
    var i = min(term, params.inputs - 1u);
    var down = 0u;
    var right = 0u;
    if (TAPS > 1u) {
        i = term % params.inputs;
        down = term / params.inputs / KERNEL * DILATION;
        right = term / params.inputs % KERNEL * DILATION;
    }
    let tap = (down * params.width + right) * params.inputs;
    var brought: Brought;
    for (var n = 0u; n < OWN_X; n++) {
        var inside = term < terms;
        var row = rows.x[n];
        if (TAPS > 1u) {
            inside &= rows.y[n] + down < params.height;
            inside &= rows.column[n] + right < params.width;
            row = select(0u, row + tap, inside);
        }
        brought.x[n] = vec4<f32>(load_input(row, rows.gates[n], i));
        brought.inside[n] = inside;
    }
    for (var n = 0u; n < OWN_W; n++) {
        let item = own + n * THREADS;
        let w = min(first + item / (4u * TILE_O), terms - 1u);
        let o = min(first_output + item / 4u % TILE_O, params.outputs - 1u);
        brought.w[n] = vec4<f32>(weight[(w * params.outputs + o) * 4u + item % 4u]);
    }
    return brought;
}
