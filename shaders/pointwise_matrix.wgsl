// Pointwise convolution on matrix units.
//
//   y[p, o] = activate(sum over i of x[p, i] * gate[i] * weight[i, o] + bias[o] + residual[p, o])
//
// A workgroup is four subgroups, two along the pixels and two along the outputs. Each keeps
// ROWS x COLUMNS matrices of SIDE x SIDE sums and walks the inputs DEEP at a time: all threads
// bring the pixels of the tile to workgroup memory, zeros beyond the map's edges, and weights
// come from their buffer as matrices. In the end the sums pass through workgroup memory, a
// matrix of each subgroup at a time, for what single values need: bias, residual, activation.

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
const TILE_P: u32 = 2u * ROWS * SIDE;
const THREADS: u32 = 4u * LANES;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;         // (pixels, inputs)
@group(0) @binding(2) var<storage, read> weight: array<Quad>;    // (inputs / SIDE, outputs / SIDE, SIDE, SIDE), both rounded up
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>;  // (pixels, outputs), if RESIDUAL
@group(0) @binding(5) var<storage, read> gate: array<Quad>;      // (pictures, inputs), 0 to 1, if GATED
@group(0) @binding(6) var<storage, read_write> y: array<Quad>;   // (pixels, outputs)

var<workgroup> tile: array<Quad, TILE_P * DEEP_QUADS>;                // (TILE_P, DEEP)
var<workgroup> made: array<vec4<f32>, 4u * SIDE * SIDE_QUADS>; // (subgroups, SIDE, SIDE)

@compute @workgroup_size(4 * LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let matrices = (params.outputs + SIDE_QUADS - 1u) / SIDE_QUADS; // across all outputs
    let across = (matrices + 2u * COLUMNS - 1u) / (2u * COLUMNS);
    let index = group.y * groups.x + group.x;
    let first_pixel = index / across * TILE_P;
    let first_matrix = (index % across * 2u + subgroup % 2u) * COLUMNS;
    let first_row = subgroup / 2u * ROWS;

    var sum: array<array<SumMatrix, COLUMNS>, ROWS>;
    let steps = (params.inputs + DEEP_QUADS - 1u) / DEEP_QUADS;
    for (var step = 0u; step < steps; step++) {
        for (var item = lane; item < TILE_P * DEEP_QUADS; item += THREADS) {
            let pixel = first_pixel + item / DEEP_QUADS;
            let i = step * DEEP_QUADS + item % DEEP_QUADS;
            var v = Quad();
            if (pixel < params.pixels && i < params.inputs) {
                // Rounded again where maps are f16: that is what the units take.
                v = Quad(load_input(pixel * params.inputs, pixel / params.picture * params.inputs, i));
            }
            tile[item] = v;
        }
        workgroupBarrier();
        for (var k = 0u; k < DEEP / SIDE; k++) {
            var left: array<LeftMatrix, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                left[r] = coopLoadT<LeftMatrix>(&tile[(first_row + r) * SIDE * DEEP_QUADS + k * SIDE_QUADS], DEEP_QUADS);
            }
            for (var c = 0u; c < COLUMNS; c++) {
                // Beyond the last the last again: its sums are not stored.
                let matrix = (step * (DEEP / SIDE) + k) * matrices + min(first_matrix + c, matrices - 1u);
                let right = coopLoadT<RightMatrix>(&weight[matrix * SIDE * SIDE_QUADS], SIDE_QUADS);
                for (var r = 0u; r < ROWS; r++) {
                    sum[r][c] = coopMultiplyAdd(left[r], right, sum[r][c]);
                }
            }
        }
        workgroupBarrier();
    }

    for (var r = 0u; r < ROWS; r++) {
        for (var c = 0u; c < COLUMNS; c++) {
            coopStoreT(sum[r][c], &made[subgroup * SIDE * SIDE_QUADS], SIDE_QUADS);
            workgroupBarrier();
            for (var item = lane; item < 4u * SIDE * SIDE_QUADS; item += THREADS) {
                let maker = item / (SIDE * SIDE_QUADS);
                let row = item / SIDE_QUADS % SIDE;
                let pixel = first_pixel + (maker / 2u * ROWS + r) * SIDE + row;
                let o = ((index % across * 2u + maker % 2u) * COLUMNS + c) * SIDE_QUADS + item % SIDE_QUADS;
                if (pixel < params.pixels && o < params.outputs) {
                    finish(pixel, o, made[item] + bias[o]);
                }
            }
            workgroupBarrier();
        }
    }
    raise();
}
