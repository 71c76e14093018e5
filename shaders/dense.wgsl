// Dense convolution: every output channel reads every input channel over a KERNEL x KERNEL
// window. The stem is one, its picture three channels and a zero: a pixel is one load.
//
// A thread makes a run of COLUMNS neighbouring outputs of one row for QUADS x 4 channels, in
// registers. In a workgroup LANES_O threads lie along the outputs, so that they share each load
// of x and read weights side by side, and LANES_P along the runs, so that they share weights.
// TOGETHER taps of a row of the window are taken at a time, all of them or one: all share their pixels, and their
// loads are on their way together. Of their pixels only those before BEFORE or from BEHIND on can lie beyond the map.
// SPLIT threads share the inputs of one tile between them and their sums meet in workgroup memory.

struct Params {
    alarm: u32, // what the flag gets if this step overflows
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,     // rows of zeros above
    left: u32,    // columns of zeros to the left
    inputs: u32,  // channels, in fours
    outputs: u32, // channels, in fours
    runs: u32,    // pictures * out_height * ceil(out_width / COLUMNS)
    part_pixels: u32,   // of a picture, if PLACED
    part_first: u32,    // fours of channels before the part
    whole_pixel: u32,   // from a pixel of the whole to the next
    whole_picture: u32, // from a picture of the whole to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;        // (pictures, height, width, inputs)
@group(0) @binding(2) var<storage, read> weight: array<WeightBlock>; // (KERNEL, KERNEL, inputs, outputs); a column an input
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;     // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>; // as y, if RESIDUAL
@group(0) @binding(5) var<storage, read_write> y: array<Quad>;  // (pictures, out_height, out_width, outputs)

// Pixels that a run reaches with so many neighbouring taps, and columns from one to the next.
const BETWEEN: u32 = select(1u, STRIDE, TOGETHER == 1u);
const TAPS: u32 = (COLUMNS - 1u) * (STRIDE / BETWEEN) + TOGETHER;

const TILES: u32 = LANES_O * LANES_P;
const SUMS: u32 = COLUMNS * QUADS;
var<workgroup> partial: array<vec4<f32>, (SPLIT - 1u) * TILES * SUMS + 1u>; // (SPLIT - 1, SUMS, TILES)

@compute @workgroup_size(TILES * SPLIT)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (params.outputs + LANES_O * QUADS - 1u) / (LANES_O * QUADS);
    let tile = group.y * groups.x + group.x;
    let first_output = tile % across * LANES_O * QUADS + lane % LANES_O;
    let nth = tile / across * LANES_P + lane % TILES / LANES_O;
    let run = min(nth, params.runs - 1u);
    let part = lane / TILES;
    let runs = (params.out_width + COLUMNS - 1u) / COLUMNS; // of a row
    let first = run % runs * COLUMNS;
    let row = run / runs;
    let picture = row / params.out_height;

    // What lies beyond the last channel is computed from it and not stored.
    var output: array<u32, QUADS>;
    var sum: array<array<vec4<f32>, QUADS>, COLUMNS>;
    for (var q = 0u; q < QUADS; q++) {
        output[q] = min(first_output + q * LANES_O, params.outputs - 1u);
        for (var c = 0u; c < COLUMNS; c++) {
            sum[c][q] = select(vec4(0.0), bias[output[q]], part == 0u);
        }
    }
    for (var ky = 0u; ky < KERNEL; ky++) {
        // Left of or above the picture wraps round to a huge number: one comparison serves both sides.
        let iy = row % params.out_height * STRIDE + ky * DILATION - params.top;
        if (iy >= params.height) {
            continue;
        }
        let line = (picture * params.height + iy) * params.width;
        for (var kx = 0u; kx < KERNEL; kx += TOGETHER) {
            var pixel: array<u32, TAPS>;
            var inside: array<bool, TAPS>;
            for (var t = 0u; t < TAPS; t++) {
                let ix = first * STRIDE + kx * DILATION + t * BETWEEN - params.left;
                inside[t] = ix < params.width;
                pixel[t] = (line + min(ix, params.width - 1u)) * params.inputs;
            }
            for (var i = part; i < params.inputs; i += SPLIT) {
                var taken: array<vec4<f32>, TAPS>;
                for (var t = 0u; t < TAPS; t++) {
                    taken[t] = vec4<f32>(x[pixel[t] + i]);
                    // Of whole rows of windows only the ends can lie beyond the map.
                    if (TOGETHER < KERNEL || t < BEFORE || t >= BEHIND) {
                        taken[t] = select(vec4(0.0), taken[t], inside[t]);
                    }
                }
                for (var k = 0u; k < TOGETHER; k++) {
                    let block = ((ky * KERNEL + kx + k) * params.inputs + i) * params.outputs;
                    for (var q = 0u; q < QUADS; q++) {
                        let w = weights_block(weight[block + output[q]], output[q]);
                        for (var c = 0u; c < COLUMNS; c++) {
                            sum[c][q] += w * taken[c * (STRIDE / BETWEEN) + k];
                        }
                    }
                }
            }
        }
    }
    if (SPLIT > 1u) {
        for (var c = 0u; c < COLUMNS; c++) {
            for (var q = 0u; q < QUADS; q++) {
                if (part > 0u) {
                    partial[((part - 1u) * SUMS + c * QUADS + q) * TILES + lane % TILES] = sum[c][q];
                }
            }
        }
        workgroupBarrier();
        for (var c = 0u; c < COLUMNS; c++) {
            for (var q = 0u; q < QUADS; q++) {
                for (var other = 0u; other < SPLIT - 1u; other++) {
                    sum[c][q] += partial[(other * SUMS + c * QUADS + q) * TILES + lane % TILES];
                }
            }
        }
    }
    if (part > 0u || nth >= params.runs) {
        return;
    }
    for (var c = 0u; c < COLUMNS; c++) {
        let pixel = row * params.out_width + min(first + c, params.out_width - 1u);
        for (var q = 0u; q < QUADS; q++) {
            sum[c][q] = carried(pixel, output[q], sum[c][q]);
        }
    }
    for (var c = 0u; c < COLUMNS; c++) {
        for (var q = 0u; q < QUADS; q++) {
            let o = first_output + q * LANES_O;
            if (first + c < params.out_width && o < params.outputs) {
                finish(row * params.out_width + first + c, o, sum[c][q]);
            }
        }
    }
    raise();
}
