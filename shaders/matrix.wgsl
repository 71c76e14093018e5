// Pointwise and dense convolution on matrix units.
//
//   y[p, o] = activate(sum over t, i of x[p + t, i] * gate[i] * weight[t, i, o] + bias[o] + residual[p, o])
//
// A product of pixels by channels, whose inner dimension is the inputs of one tap of the window after the other, DEEP at
// a time. A pointwise layer has one tap.
//
// A workgroup has four shares, two along the pixels and two along the outputs, each of ROWS x COLUMNS matrices of
// SIDE x SIDE sums. As many subgroups as the driver divides it into take a share each, in as many rounds as that takes:
// four subgroups take one round, two take two. In a step all threads bring the pixels to workgroup memory,
// and while they are multiplied, the next step's are on their way into registers; weights come from their buffer as
// matrices. In the end the sums pass through workgroup memory, a matrix of each subgroup at a time, for what single
// values need: bias, residual, activation.
//
// Matrices are loaded from and stored to arrays of scalars: Metal takes nothing else.

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

const DEEP_QUADS: u32 = DEEP / 4u;
const SIDE_QUADS: u32 = SIDE / 4u;
const MATRIX: u32 = SIDE * SIDE;
const SHARES: u32 = 4u;
const SHARE_P: u32 = ROWS * SIDE; // pixels of a share
const OWN: u32 = (2u * SHARE_P * DEEP_QUADS + THREADS - 1u) / THREADS; // vec4s that a thread brings a step

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;         // (pictures, height, width, inputs)
@group(0) @binding(2) var<storage, read> weight: array<Scalar>;  // (taps, inputs / SIDE, outputs / SIDE, SIDE, SIDE), rounded up; an output a column
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>;  // (pixels, outputs), if RESIDUAL
@group(0) @binding(5) var<storage, read> gate: array<Quad>;      // (pictures, inputs), 0 to 1, if GATED
@group(0) @binding(6) var<storage, read_write> y: array<Quad>;   // (pixels, outputs)

var<workgroup> tile: array<Scalar, 2u * SHARE_P * DEEP>; // (2 * SHARE_P, DEEP)
var<workgroup> made: array<f32, SHARES * MATRIX>;      // (SHARES, SIDE, SIDE)

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let matrices = (params.outputs + SIDE_QUADS - 1u) / SIDE_QUADS; // across all outputs
    let across = (matrices + 2u * COLUMNS - 1u) / (2u * COLUMNS);
    let index = group.y * groups.x + group.x;
    let first_pixel = index / across * 2u * SHARE_P;
    let steps = TAPS * steps_of_tap();

    for (var first = 0u; first < SHARES; first += subgroups) {
        // The shares of this round, and their pixels in the tile. A subgroup too many makes the last share for nobody.
        let end = min(first + subgroups, SHARES);
        let pixels = vec2(first / 2u, (end + 1u) / 2u) * SHARE_P;
        let share = min(first + subgroup, SHARES - 1u);
        let first_matrix = (index % across * 2u + share % 2u) * COLUMNS;

        // What lies beyond the last pixel is computed from it and not stored.
        let first_item = pixels.x * DEEP_QUADS + lane;
        var windows: array<Window, OWN>;
        for (var n = 0u; n < OWN; n++) {
            let pixel = first_pixel + (first_item + n * THREADS) / DEEP_QUADS;
            windows[n] = window_of(min(pixel, params.pixels - 1u));
        }
        var next = bring(0u, lane, windows);
        var sum: array<array<SumMatrix, COLUMNS>, ROWS>;
        for (var step = 0u; step < steps; step++) {
            for (var n = 0u; n < OWN; n++) {
                let item = first_item + n * THREADS;
                if (item < pixels.y * DEEP_QUADS) {
                    // Rounded again where maps are f16: that is what the units take.
                    let v = Quad(value_of(next[n]));
                    for (var channel = 0u; channel < 4u; channel++) {
                        tile[item * 4u + channel] = v[channel];
                    }
                }
            }
            workgroupBarrier();
            // Behind the last step too, from where nobody reads: whatever branches would wait for the loads.
            next = bring(step + 1u, lane, windows);
            for (var k = 0u; k < DEEP / SIDE; k++) {
                var left: array<LeftMatrix, ROWS>;
                for (var r = 0u; r < ROWS; r++) {
                    left[r] = coopLoadT<LeftMatrix>(&tile[(share / 2u * ROWS + r) * SIDE * DEEP + k * SIDE], DEEP);
                }
                for (var c = 0u; c < COLUMNS; c++) {
                    // Beyond the last the last again: its sums are not stored.
                    let matrix = (step * (DEEP / SIDE) + k) * matrices + min(first_matrix + c, matrices - 1u);
                    let right = coopLoad<RightMatrix>(&weight[matrix * MATRIX], SIDE);
                    for (var r = 0u; r < ROWS; r++) {
                        sum[r][c] = coopMultiplyAdd(left[r], right, sum[r][c]);
                    }
                }
            }
            workgroupBarrier();
        }

        for (var r = 0u; r < ROWS; r++) {
            for (var c = 0u; c < COLUMNS; c++) {
                if (first + subgroup < SHARES) {
                    coopStoreT(sum[r][c], &made[share * MATRIX], SIDE);
                }
                workgroupBarrier();
                for (var item = first * MATRIX / 4u + lane; item < end * MATRIX / 4u; item += THREADS) {
                    let maker = item / (MATRIX / 4u);
                    let row = item / SIDE_QUADS % SIDE;
                    let pixel = first_pixel + maker / 2u * SHARE_P + r * SIDE + row;
                    let o = ((index % across * 2u + maker % 2u) * COLUMNS + c) * SIDE_QUADS + item % SIDE_QUADS;
                    if (pixel < params.pixels && o < params.outputs) {
                        let at = item * 4u;
                        let v = vec4(made[at], made[at + 1u], made[at + 2u], made[at + 3u]);
                        finish(pixel, o, carried(pixel, o, v + bias[o]));
                    }
                }
                workgroupBarrier();
            }
        }
    }
    raise();
}

fn steps_of_tap() -> u32 {
    return (params.inputs + DEEP_QUADS - 1u) / DEEP_QUADS;
}

// A thread's share of a step. THREADS is a multiple of DEEP_QUADS: of all its pixels a thread brings the same term.
fn bring(step: u32, lane: u32, windows: array<Window, OWN>) -> array<Taken, OWN> {
    var term = term_of(0u, step * DEEP_QUADS + lane % DEEP_QUADS);
    if (TAPS > 1u) {
        term = term_of(step / steps_of_tap(), step % steps_of_tap() * DEEP_QUADS + lane % DEEP_QUADS);
    }
    var brought: array<Taken, OWN>;
    for (var n = 0u; n < OWN; n++) {
        brought[n] = take(windows[n], term);
    }
    return brought;
}
