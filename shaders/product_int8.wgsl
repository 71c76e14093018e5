// Pointwise and dense convolution in integers: sums of products of four bytes at a time. A word is four channels of a
// pixel. What is pointwise is a single row of pixels.
//
// A thread makes a run of COLUMNS neighbouring outputs of one row for QUADS x 4 channels, in registers; threads lie as
// in `dense.wgsl`. TOGETHER taps of a row of the window are taken at a time, all of them or one, and DEPTH words of
// inputs: their loads are on their way together. SPLIT threads share the inputs of one tile and their sums meet in
// workgroup memory.
// Devices that multiply bytes have DOT. Others multiply and add faster in f32, which is as exact: the host sees to it
// that no sum reaches 2^24.

struct Params {
    alarm: u32, // what the flag gets if this step overflows
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,     // rows above the map
    left: u32,    // columns to its left
    inputs: u32,  // channels, in fours
    turns: u32,   // of DEPTH words of inputs each
    outputs: u32, // channels, in fours
    runs: u32,    // pictures * out_height * ceil(out_width / COLUMNS)
    around: u32,  // four bytes of what stands for 0 in x: what surrounds the map
    zero: u32,    // what stands for 0 in y, or the curve's place of it
    least: u32,   // what sums are cut off below, and above
    most: u32,
    carried_zero: u32,  // what stands for 0 in the residual
    part_pixels: u32,   // of a picture, if PLACED
    part_first: u32,    // fours of channels before the part
    whole_pixel: u32,   // from a pixel of the whole to the next
    whole_picture: u32, // from a picture of the whole to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;             // (pictures, height, width, inputs)
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;  // (KERNEL, KERNEL, turns * DEPTH, outputs); DOT: a word an output, else an input
@group(0) @binding(3) var<storage, read> numbers: array<vec4<i32>>; // (outputs, 4)
@group(0) @binding(4) var<storage, read> curve: array<u32>;         // four entries a word, if BENT
@group(0) @binding(5) var<storage, read> residual: array<u32>;      // as y, if RESIDUAL
@group(0) @binding(6) var<storage, read_write> y: array<u32>;       // (pictures, out_height, out_width, outputs)

// Pixels that a run reaches with so many neighbouring taps, and columns from one to the next.
const BETWEEN: u32 = select(1u, STRIDE, TOGETHER == 1u);
const TAPS: u32 = (COLUMNS - 1u) * (STRIDE / BETWEEN) + TOGETHER;

const TILES: u32 = LANES_O * LANES_P;
const SUMS: u32 = COLUMNS * QUADS;
var<workgroup> partial: array<vec4<i32>, (SPLIT - 1u) * TILES * SUMS + 1u>; // (SPLIT - 1, SUMS, TILES)

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
    for (var q = 0u; q < QUADS; q++) {
        output[q] = min(first_output + q * LANES_O, params.outputs - 1u);
    }
    var sum: array<array<vec4<i32>, QUADS>, COLUMNS>; // if DOT
    var exact: array<array<vec4<f32>, QUADS>, COLUMNS>; // if not
    for (var ky = 0u; ky < KERNEL; ky++) {
        // Left of or above the picture wraps round to a huge number: one comparison serves both sides.
        let iy = row % params.out_height * STRIDE + ky * DILATION - params.top;
        let line = (picture * params.height + min(iy, params.height - 1u)) * params.width;
        for (var kx = 0u; kx < KERNEL; kx += TOGETHER) {
            var pixel: array<u32, TAPS>;
            var inside: array<bool, TAPS>;
            for (var t = 0u; t < TAPS; t++) {
                let ix = first * STRIDE + kx * DILATION + t * BETWEEN - params.left;
                inside[t] = ix < params.width && iy < params.height;
                pixel[t] = (line + min(ix, params.width - 1u)) * params.inputs;
            }
            for (var turn = part; turn < params.turns; turn += SPLIT) {
                // The last turn's words beyond the inputs are of another pixel, and have weights of zero.
                var taken: array<array<u32, TAPS>, DEPTH>;
                var w: array<array<array<vec4<u32>, QUADS>, TOGETHER>, DEPTH>;
                for (var d = 0u; d < DEPTH; d++) {
                    for (var t = 0u; t < TAPS; t++) {
                        // As `near.wgsl` has it, of words, which are a quarter of a quad: all places are nearer.
                        taken[d][t] = x[min(pixel[t] + turn * DEPTH, 0x1fffffffu) + d];
                    }
                    for (var k = 0u; k < TOGETHER; k++) {
                        let tap = ky * KERNEL + kx + k;
                        let block = ((tap * params.turns + turn) * DEPTH + d) * params.outputs;
                        for (var q = 0u; q < QUADS; q++) {
                            w[d][k][q] = weight[block + output[q]];
                        }
                    }
                }
                for (var d = 0u; d < DEPTH; d++) {
                    var value: array<vec4<f32>, TAPS>;
                    for (var t = 0u; t < TAPS; t++) {
                        if (KERNEL > 1u) {
                            taken[d][t] = select(params.around, taken[d][t], inside[t]);
                        }
                        if (DOT == 0u) {
                            value[t] = vec4<f32>(unpack4xI8(taken[d][t]));
                        }
                    }
                    for (var k = 0u; k < TOGETHER; k++) {
                        for (var q = 0u; q < QUADS; q++) {
                            let word = w[d][k][q];
                            if (DOT == 1u) {
                                for (var c = 0u; c < COLUMNS; c++) {
                                    let v = taken[d][c * (STRIDE / BETWEEN) + k];
                                    sum[c][q] += vec4(
                                        dot4I8Packed(v, word.x),
                                        dot4I8Packed(v, word.y),
                                        dot4I8Packed(v, word.z),
                                        dot4I8Packed(v, word.w),
                                    );
                                }
                            } else {
                                let weights = mat4x4<f32>(
                                    vec4<f32>(unpack4xI8(word.x)),
                                    vec4<f32>(unpack4xI8(word.y)),
                                    vec4<f32>(unpack4xI8(word.z)),
                                    vec4<f32>(unpack4xI8(word.w)),
                                );
                                for (var c = 0u; c < COLUMNS; c++) {
                                    exact[c][q] += weights * value[c * (STRIDE / BETWEEN) + k];
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    if (DOT == 0u) {
        for (var c = 0u; c < COLUMNS; c++) {
            for (var q = 0u; q < QUADS; q++) {
                sum[c][q] = vec4<i32>(exact[c][q]);
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
    for (var q = 0u; q < QUADS; q++) {
        let n = numbers_of(output[q]);
        for (var c = 0u; c < COLUMNS; c++) {
            let pixel = row * params.out_width + min(first + c, params.out_width - 1u);
            sum[c][q] = carried(n, pixel, output[q], sum[c][q]);
        }
        let o = first_output + q * LANES_O;
        for (var c = 0u; c < COLUMNS; c++) {
            if (first + c < params.out_width && o < params.outputs) {
                complete(n, row * params.out_width + first + c, o, sum[c][q]);
            }
        }
    }
    if (FLOAT == 1u) {
        raise();
    }
}
