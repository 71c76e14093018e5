// Pointwise and dense convolution staged through workgroup memory.
//
//   y[p, o] = activate(sum over t, i of x[p + t, i] * gate[i] * weight[t, i, o] + bias[o] + residual[p, o])
//
// A product of pixels by channels. Its inner dimension is the inputs of the window's first tap, then those of
// the second, and so on; a term is four inputs of a tap. A pointwise layer has one tap.
//
// A workgroup makes TILE_P pixels by TILE_O x 4 channels. Its invocations form SPLIT groups, which split
// the terms (split-K). A group processes TILE_K terms per iteration: its invocations load pixels and weights to
// workgroup memory, each value once and coalesced; while they multiply, the values of the next iteration are
// in flight to registers. An invocation's register tile is PIXELS x QUADS vec4 accumulators, as in
// `pointwise`. WORKGROUP_O invocations of a group lie along the outputs, WORKGROUP_P along the pixels.

struct Params {
    alarm: u32, // the overflow flag's value if this step overflows
    batch_pixels: u32,   // pixels in the whole batch
    picture_pixels: u32, // pixels per picture
    inputs: u32,  // channels / 4, rounded up
    outputs: u32, // channels / 4, rounded up
    height: u32,
    width: u32,
    out_width: u32,
    top: u32,     // rows of zero padding above
    left: u32,    // columns of zero padding on the left
    part_pixels: u32,   // pixels per picture, if PLACED
    part_first: u32,    // quads before the part in each picture of the whole map
    whole_pixel: u32,   // quads from one pixel of the whole map to the next
    whole_picture: u32, // quads from one picture of the whole map to the next
}

const GROUP_SIZE: u32 = WORKGROUP_O * WORKGROUP_P; // invocations of a group
const TILE_P: u32 = WORKGROUP_P * PIXELS;
const TILE_O: u32 = WORKGROUP_O * QUADS;
const SUMS: u32 = PIXELS * QUADS;
// vec4s that a group loads per iteration, then those that an invocation loads.
const STAGED_X: u32 = TILE_P * TILE_K;
const STAGED_W: u32 = TILE_O * TILE_K * 4u;
const OWN_X: u32 = (STAGED_X + GROUP_SIZE - 1u) / GROUP_SIZE;
const OWN_W: u32 = (STAGED_W + GROUP_SIZE - 1u) / GROUP_SIZE;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;         // (pictures, height, width, inputs)
@group(0) @binding(2) var<storage, read> weight: array<Quad>;    // (terms, outputs, 4); one quad per input
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>;  // (pixels, outputs), if RESIDUAL
@group(0) @binding(5) var<storage, read> gate: array<Quad>;      // (pictures, inputs), 0 to 1, if GATED
@group(0) @binding(6) var<storage, read_write> y: array<Quad>;   // (pixels, outputs)

var<workgroup> staged_x: array<Quad, SPLIT * STAGED_X>;               // (SPLIT, TILE_P, TILE_K)
var<workgroup> staged_w: array<Quad, SPLIT * STAGED_W>;               // (SPLIT, TILE_K, 4, TILE_O)
var<workgroup> partial: array<vec4<f32>, SPLIT / 2u * SUMS * GROUP_SIZE + 1u>; // (SPLIT / 2, SUMS, GROUP_SIZE)

// An invocation's loads of an iteration: from the windows of its pixels, and of weights.
struct Fetched {
    x: array<Loaded, OWN_X>,
    w: array<Quad, OWN_W>,
}

@compute @workgroup_size(WORKGROUP_O * WORKGROUP_P * SPLIT)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let across = (params.outputs + TILE_O - 1u) / TILE_O;
    let tile = group.y * groups.x + group.x;
    let first_output = tile % across * TILE_O;
    let first_pixel = tile / across * TILE_P;
    let split = invocation / GROUP_SIZE;
    let own = invocation % GROUP_SIZE;

    // Pixels and outputs past the edge repeat the last one and are not stored.
    var windows: array<Window, OWN_X>;
    for (var n = 0u; n < OWN_X; n++) {
        windows[n] = window_of(min(first_pixel + (own + n * GROUP_SIZE) / TILE_K, params.batch_pixels - 1u));
    }
    let iterations = (TAPS * params.inputs + SPLIT * TILE_K - 1u) / (SPLIT * TILE_K);
    var next = fetch(own, split * TILE_K, first_output, windows);
    var sum: array<array<vec4<f32>, QUADS>, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        for (var q = 0u; q < QUADS; q++) {
            let o = min(first_output + own % WORKGROUP_O + q * WORKGROUP_O, params.outputs - 1u);
            sum[p][q] = select(vec4(0.0), bias[o], split == 0u);
        }
    }
    for (var iteration = 1u; iteration <= iterations; iteration++) {
        // All invocations have read the values that are overwritten now.
        workgroupBarrier();
        for (var n = 0u; n < OWN_X; n++) {
            if (n + 1u < OWN_X || own + n * GROUP_SIZE < STAGED_X) {
                staged_x[split * STAGED_X + own + n * GROUP_SIZE] = Quad(value_of(next.x[n]));
            }
        }
        for (var n = 0u; n < OWN_W; n++) {
            let item = own + n * GROUP_SIZE;
            if (n + 1u < OWN_W || item < STAGED_W) {
                let k = item / (4u * TILE_O);
                staged_w[split * STAGED_W + (k * 4u + item % 4u) * TILE_O + item / 4u % TILE_O] = next.w[n];
            }
        }
        workgroupBarrier();
        // After the last iteration too, where the values are unused: a branch would wait for the loads.
        next = fetch(own, (iteration * SPLIT + split) * TILE_K, first_output, windows);
        for (var k = 0u; k < TILE_K; k++) {
            var input: array<vec4<f32>, PIXELS>;
            for (var p = 0u; p < PIXELS; p++) {
                input[p] = vec4<f32>(staged_x[split * STAGED_X + (own / WORKGROUP_O + p * WORKGROUP_P) * TILE_K + k]);
            }
            for (var q = 0u; q < QUADS; q++) {
                let at = split * STAGED_W + k * 4u * TILE_O + own % WORKGROUP_O + q * WORKGROUP_O;
                let w = mat4x4<f32>(
                    vec4<f32>(staged_w[at]),
                    vec4<f32>(staged_w[at + TILE_O]),
                    vec4<f32>(staged_w[at + 2u * TILE_O]),
                    vec4<f32>(staged_w[at + 3u * TILE_O]),
                );
                for (var p = 0u; p < PIXELS; p++) {
                    sum[p][q] += w * input[p];
                }
            }
        }
    }

    // Groups add up their accumulators in pairs.
    for (var half = SPLIT / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        for (var p = 0u; p < PIXELS; p++) {
            for (var q = 0u; q < QUADS; q++) {
                if (split >= half && split < 2u * half) {
                    partial[((split - half) * SUMS + p * QUADS + q) * GROUP_SIZE + own] = sum[p][q];
                }
            }
        }
        workgroupBarrier();
        for (var p = 0u; p < PIXELS; p++) {
            for (var q = 0u; q < QUADS; q++) {
                if (split < half) {
                    sum[p][q] += partial[(split * SUMS + p * QUADS + q) * GROUP_SIZE + own];
                }
            }
        }
    }
    if (split > 0u) {
        return;
    }
    for (var p = 0u; p < PIXELS; p++) {
        let pixel = min(first_pixel + own / WORKGROUP_O + p * WORKGROUP_P, params.batch_pixels - 1u);
        for (var q = 0u; q < QUADS; q++) {
            let o = min(first_output + own % WORKGROUP_O + q * WORKGROUP_O, params.outputs - 1u);
            sum[p][q] = with_residual(pixel, o, sum[p][q]);
        }
    }
    for (var p = 0u; p < PIXELS; p++) {
        let pixel = first_pixel + own / WORKGROUP_O + p * WORKGROUP_P;
        for (var q = 0u; q < QUADS; q++) {
            let o = first_output + own % WORKGROUP_O + q * WORKGROUP_O;
            if (pixel < params.batch_pixels && o < params.outputs) {
                finish(pixel, o, sum[p][q]);
            }
        }
    }
    raise();
}

// An invocation's loads of an iteration whose terms start at `first`. GROUP_SIZE is a multiple of TILE_K, so an
// invocation loads the same term of all its pixels.
fn fetch(own: u32, first: u32, first_output: u32, windows: array<Window, OWN_X>) -> Fetched {
    let terms = TAPS * params.inputs;
    let nth = first + own % TILE_K;
    var term = term_of(0u, nth);
    if (TAPS > 1u) {
        term = term_of(nth / params.inputs, nth % params.inputs);
    }
    var fetched: Fetched;
    for (var n = 0u; n < OWN_X; n++) {
        fetched.x[n] = load(windows[n], term);
    }
    for (var n = 0u; n < OWN_W; n++) {
        let item = own + n * GROUP_SIZE;
        let w = min(first + item / (4u * TILE_O), terms - 1u);
        let o = min(first_output + item / 4u % TILE_O, params.outputs - 1u);
        fetched.w[n] = weight[(w * params.outputs + o) * 4u + item % 4u];
    }
    return fetched;
}
