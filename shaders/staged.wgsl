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

// What a thread brings a turn, of the windows of its pixels and of the weights.
struct Brought {
    x: array<Taken, OWN_X>,
    w: array<Quad, OWN_W>,
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
    var windows: array<Window, OWN_X>;
    for (var n = 0u; n < OWN_X; n++) {
        windows[n] = window_of(min(first_pixel + (own + n * THREADS) / DEEP, params.pixels - 1u));
    }
    let turns = (TAPS * params.inputs + SPLIT * DEEP - 1u) / (SPLIT * DEEP);
    var next = bring(own, part * DEEP, first_output, windows);
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
                staged_x[part * BROUGHT_X + own + n * THREADS] = Quad(value_of(next.x[n]));
            }
        }
        for (var n = 0u; n < OWN_W; n++) {
            let item = own + n * THREADS;
            if (n + 1u < OWN_W || item < BROUGHT_W) {
                let deep = item / (4u * TILE_O);
                staged_w[part * BROUGHT_W + (deep * 4u + item % 4u) * TILE_O + item / 4u % TILE_O] = next.w[n];
            }
        }
        workgroupBarrier();
        // Behind the last turn too, from where nobody reads: whatever branches would wait for the loads.
        next = bring(own, (turn * SPLIT + part) * DEEP, first_output, windows);
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
fn bring(own: u32, first: u32, first_output: u32, windows: array<Window, OWN_X>) -> Brought {
    let terms = TAPS * params.inputs;
    let nth = first + own % DEEP;
    var term = term_of(0u, nth);
    if (TAPS > 1u) {
        term = term_of(nth / params.inputs, nth % params.inputs);
    }
    var brought: Brought;
    for (var n = 0u; n < OWN_X; n++) {
        brought.x[n] = take(windows[n], term);
    }
    for (var n = 0u; n < OWN_W; n++) {
        let item = own + n * THREADS;
        let w = min(first + item / (4u * TILE_O), terms - 1u);
        let o = min(first_output + item / 4u % TILE_O, params.outputs - 1u);
        brought.w[n] = weight[(w * params.outputs + o) * 4u + item % 4u];
    }
    return brought;
}
