// Pointwise convolution on matrix units.
//
//   y[p, o] = activate(sum over i of x[p, i] * gate[i] * weight[i, o] + bias[o] + residual[p, o])
//
// A workgroup has four shares, two along the pixels and two along the outputs, each of ROWS x COLUMNS matrices of
// SIDE x SIDE sums. As many subgroups as the driver divides it into take a share each, in as many rounds as that takes:
// four of the fewest lanes one, two of twice as many two. They walk the inputs DEEP at a time: all threads bring the
// pixels to workgroup memory, zeros beyond the map's edges, and weights come from their buffer as matrices. In the end
// the sums pass through workgroup memory, a matrix of each subgroup at a time, for what single values need: bias,
// residual, activation.
//
// What matrices are loaded from and stored to is arrays of scalars: Metal has it no other way.

struct Params {
    alarm: u32, // what the flag gets if this step overflows
    pixels: u32,  // of the whole batch
    picture: u32, // pixels of one picture
    inputs: u32,  // channels, in fours
    outputs: u32, // channels, in fours
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

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;         // (pixels, inputs)
@group(0) @binding(2) var<storage, read> weight: array<Scalar>;  // (inputs / SIDE, outputs / SIDE, SIDE, SIDE), both rounded up; an output a column
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
    let steps = (params.inputs + DEEP_QUADS - 1u) / DEEP_QUADS;

    for (var first = 0u; first < SHARES; first += subgroups) {
        // The shares of this round, and their pixels in the tile. A subgroup too many makes the last share for nobody.
        let end = min(first + subgroups, SHARES);
        let pixels = vec2(first / 2u, (end + 1u) / 2u) * SHARE_P;
        let share = min(first + subgroup, SHARES - 1u);
        let first_matrix = (index % across * 2u + share % 2u) * COLUMNS;

        var sum: array<array<SumMatrix, COLUMNS>, ROWS>;
        for (var step = 0u; step < steps; step++) {
            for (var item = pixels.x * DEEP_QUADS + lane; item < pixels.y * DEEP_QUADS; item += THREADS) {
                let pixel = first_pixel + item / DEEP_QUADS;
                let i = step * DEEP_QUADS + item % DEEP_QUADS;
                var v = Quad();
                if (pixel < params.pixels && i < params.inputs) {
                    // Rounded again where maps are f16: that is what the units take.
                    v = Quad(load_input(pixel * params.inputs, pixel / params.picture * params.inputs, i));
                }
                for (var channel = 0u; channel < 4u; channel++) {
                    tile[item * 4u + channel] = v[channel];
                }
            }
            workgroupBarrier();
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
