// Pointwise and dense convolution on matrix units.
//
//   y[p, o] = activate(sum over t, i of x[p + t, i] * gate[i] * weight[t, i, o] + bias[o] + residual[p, o])
//
// A product of pixels by channels. Its inner dimension is the inputs of the window's first tap, then those of
// the second, and so on, TILE_K at a time. A pointwise layer has one tap.
//
// A workgroup's tile has four subtiles, two along the pixels by two along the outputs, of ROWS x COLUMNS
// matrices of SIDE x SIDE sums each. A subgroup makes one subtile per round: four subgroups take one round,
// two take two; the driver chooses their number. In a step all invocations load the step's pixels to
// workgroup memory; while these are multiplied, the next step's pixels are in flight to registers. Weights
// are loaded from their buffer as matrices. Finally the sums pass through workgroup memory, one matrix per
// subgroup at a time, for the epilogue.
//
// Matrices are loaded from and stored to arrays of scalars, because Metal accepts nothing else.

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

const TILE_K_QUADS: u32 = TILE_K / 4u;
const SIDE_QUADS: u32 = SIDE / 4u;
const MATRIX: u32 = SIDE * SIDE;
const SUBTILES: u32 = 4u;
const SUBTILE_P: u32 = ROWS * SIDE; // pixels of a subtile
const OWN: u32 = (2u * SUBTILE_P * TILE_K_QUADS + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE; // vec4s that an invocation loads per step

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;         // (pictures, height, width, inputs)
@group(0) @binding(2) var<storage, read> weight: array<Scalar>;  // (taps, inputs / SIDE, outputs / SIDE, SIDE, SIDE), rounded up; one column per output
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>;  // (pixels, outputs), if RESIDUAL
@group(0) @binding(5) var<storage, read> gate: array<Quad>;      // (pictures, inputs), 0 to 1, if GATED
@group(0) @binding(6) var<storage, read_write> y: array<Quad>;   // (pixels, outputs)

var<workgroup> tile: array<Scalar, 2u * SUBTILE_P * TILE_K>; // (2 * SUBTILE_P, TILE_K)
var<workgroup> made: array<f32, SUBTILES * MATRIX>;      // (SUBTILES, SIDE, SIDE)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let matrices = (params.outputs + SIDE_QUADS - 1u) / SIDE_QUADS; // across all outputs
    let across = (matrices + 2u * COLUMNS - 1u) / (2u * COLUMNS);
    let index = group.y * groups.x + group.x;
    let first_pixel = index / across * 2u * SUBTILE_P;
    let steps = TAPS * steps_of_tap();

    for (var first = 0u; first < SUBTILES; first += subgroups) {
        // The subtiles of this round, and their pixels in the tile. A surplus subgroup repeats the last
        // subtile, unstored.
        let end = min(first + subgroups, SUBTILES);
        let pixels = vec2(first / 2u, (end + 1u) / 2u) * SUBTILE_P;
        let subtile = min(first + subgroup, SUBTILES - 1u);
        let first_matrix = (index % across * 2u + subtile % 2u) * COLUMNS;

        // Pixels past the last repeat it and are not stored.
        let first_item = pixels.x * TILE_K_QUADS + invocation;
        var windows: array<Window, OWN>;
        for (var n = 0u; n < OWN; n++) {
            let pixel = first_pixel + (first_item + n * WORKGROUP_SIZE) / TILE_K_QUADS;
            windows[n] = window_of(min(pixel, params.batch_pixels - 1u));
        }
        var next = fetch(0u, invocation, windows);
        var sum: array<array<SumMatrix, COLUMNS>, ROWS>;
        for (var step = 0u; step < steps; step++) {
            for (var n = 0u; n < OWN; n++) {
                let item = first_item + n * WORKGROUP_SIZE;
                if (item < pixels.y * TILE_K_QUADS) {
                    // Rounded to f16 again where maps are f16, because the matrix units accept nothing else.
                    let v = Quad(value_of(next[n]));
                    for (var channel = 0u; channel < 4u; channel++) {
                        tile[item * 4u + channel] = v[channel];
                    }
                }
            }
            workgroupBarrier();
            // After the last step too, where the values are unused: a branch would wait for the loads.
            next = fetch(step + 1u, invocation, windows);
            for (var k = 0u; k < TILE_K / SIDE; k++) {
                var left: array<LeftMatrix, ROWS>;
                for (var r = 0u; r < ROWS; r++) {
                    let at = (subtile / 2u * ROWS + r) * SIDE * TILE_K + k * SIDE;
                    left[r] = coopLoadT<LeftMatrix>(&tile[at], TILE_K);
                }
                for (var c = 0u; c < COLUMNS; c++) {
                    // Matrices past the last repeat it; their sums are not stored.
                    let matrix = (step * (TILE_K / SIDE) + k) * matrices + min(first_matrix + c, matrices - 1u);
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
                if (first + subgroup < SUBTILES) {
                    coopStoreT(sum[r][c], &made[subtile * MATRIX], SIDE);
                }
                workgroupBarrier();
                for (var item = first * MATRIX / 4u + invocation; item < end * MATRIX / 4u; item += WORKGROUP_SIZE) {
                    let source = item / (MATRIX / 4u);
                    let row = item / SIDE_QUADS % SIDE;
                    let pixel = first_pixel + source / 2u * SUBTILE_P + r * SIDE + row;
                    let o = ((index % across * 2u + source % 2u) * COLUMNS + c) * SIDE_QUADS + item % SIDE_QUADS;
                    if (pixel < params.batch_pixels && o < params.outputs) {
                        let at = item * 4u;
                        let v = vec4(made[at], made[at + 1u], made[at + 2u], made[at + 3u]);
                        finish(pixel, o, with_residual(pixel, o, v + bias[o]));
                    }
                }
                workgroupBarrier();
            }
        }
    }
    raise();
}

fn steps_of_tap() -> u32 {
    return (params.inputs + TILE_K_QUADS - 1u) / TILE_K_QUADS;
}

// An invocation's loads of a step. WORKGROUP_SIZE is a multiple of TILE_K_QUADS, so an invocation loads the
// same term of all its pixels.
fn fetch(step: u32, invocation: u32, windows: array<Window, OWN>) -> array<Loaded, OWN> {
    var term = term_of(0u, step * TILE_K_QUADS + invocation % TILE_K_QUADS);
    if (TAPS > 1u) {
        term = term_of(step / steps_of_tap(), step % steps_of_tap() * TILE_K_QUADS + invocation % TILE_K_QUADS);
    }
    var fetched: array<Loaded, OWN>;
    for (var n = 0u; n < OWN; n++) {
        fetched[n] = load(windows[n], term);
    }
    return fetched;
}
