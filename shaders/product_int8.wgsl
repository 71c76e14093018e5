// Pointwise and dense convolution in int8. A word is four channels of a pixel. A pointwise layer is one row
// of pixels here.
//
// An invocation's register tile is a run, COLUMNS adjacent outputs of one row, by QUADS x 4 channels;
// invocations are laid out as in `dense.wgsl`. TOGETHER taps of a row of the window, all of them or one, and
// DEPTH words of inputs are processed at a time: their loads are in flight together. SPLIT invocations split
// the inputs of one tile (split-K); their accumulators are added up in workgroup memory.
//
// If DOT, bytes are multiplied by packed dot products: on devices that have them, and for sums that may reach
// 2^24. Otherwise products are added up in f32, which is exact below 2^24 and faster on devices without them.

struct Params {
    alarm: u32, // the overflow flag's value if this step overflows
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,     // rows of padding above
    left: u32,    // columns of padding on the left
    inputs: u32,  // channels / 4, rounded up
    iterations: u32, // of DEPTH words of inputs each
    outputs: u32, // channels / 4, rounded up
    runs: u32,    // pictures * out_height * ceil(out_width / COLUMNS)
    padding: u32, // the zero point of x in all four bytes: the padding
    zero: u32,    // zero point of y, or the index of the table's entry for 0
    least: u32,   // bounds of the rescaled sums
    most: u32,
    residual_zero: u32,  // zero point of the residual
    part_pixels: u32,   // pixels per picture, if PLACED
    part_first: u32,    // quads before the part in each picture of the whole map
    whole_pixel: u32,   // quads from one pixel of the whole map to the next
    whole_picture: u32, // quads from one picture of the whole map to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;             // (pictures, height, width, inputs)
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;  // (KERNEL, KERNEL, iterations * DEPTH, outputs); one word per output if DOT, else per input
@group(0) @binding(3) var<storage, read> output_params: array<vec4<i32>>; // (outputs, 4)
@group(0) @binding(4) var<storage, read> table: array<u32>;         // four entries per word, if HAS_TABLE
@group(0) @binding(5) var<storage, read> residual: array<u32>;      // shaped as y, if RESIDUAL
@group(0) @binding(6) var<storage, read_write> y: array<u32>;       // (pictures, out_height, out_width, outputs)

// The distance in columns between the pixels that a run reads with TOGETHER taps, and their number.
const BETWEEN: u32 = select(1u, STRIDE, TOGETHER == 1u);
const SPAN: u32 = (COLUMNS - 1u) * (STRIDE / BETWEEN) + TOGETHER;

const TILES: u32 = WORKGROUP_O * WORKGROUP_P;
const SUMS: u32 = COLUMNS * QUADS;
var<workgroup> partial: array<vec4<i32>, (SPLIT - 1u) * TILES * SUMS + 1u>; // (SPLIT - 1, SUMS, TILES)

@compute @workgroup_size(TILES * SPLIT)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let across = (params.outputs + WORKGROUP_O * QUADS - 1u) / (WORKGROUP_O * QUADS);
    let tile = group.y * groups.x + group.x;
    let first_output = tile % across * WORKGROUP_O * QUADS + invocation % WORKGROUP_O;
    let nth = tile / across * WORKGROUP_P + invocation % TILES / WORKGROUP_O;
    let run = min(nth, params.runs - 1u);
    let split = invocation / TILES;
    let runs = (params.out_width + COLUMNS - 1u) / COLUMNS; // of a row
    let first = run % runs * COLUMNS;
    let row = run / runs;
    let picture = row / params.out_height;

    // Outputs past the last channel repeat it and are not stored.
    var output: array<u32, QUADS>;
    for (var q = 0u; q < QUADS; q++) {
        output[q] = min(first_output + q * WORKGROUP_O, params.outputs - 1u);
    }
    var sum: array<array<vec4<i32>, QUADS>, COLUMNS>; // if DOT
    var exact: array<array<vec4<f32>, QUADS>, COLUMNS>; // if not DOT
    for (var ky = 0u; ky < KERNEL; ky++) {
        // Negative positions wrap around to huge values: one comparison covers both edges.
        let iy = row % params.out_height * STRIDE + ky * DILATION - params.top;
        let line = (picture * params.height + min(iy, params.height - 1u)) * params.width;
        for (var kx = 0u; kx < KERNEL; kx += TOGETHER) {
            var pixel: array<u32, SPAN>;
            var inside: array<bool, SPAN>;
            for (var s = 0u; s < SPAN; s++) {
                let ix = first * STRIDE + kx * DILATION + s * BETWEEN - params.left;
                inside[s] = ix < params.width && iy < params.height;
                pixel[s] = (line + min(ix, params.width - 1u)) * params.inputs;
            }
            for (var iteration = split; iteration < params.iterations; iteration += SPLIT) {
                // In the last iteration words past the inputs belong to another pixel; their weights are
                // zero.
                var input: array<array<u32, SPAN>, DEPTH>;
                var w: array<array<array<vec4<u32>, QUADS>, TOGETHER>, DEPTH>;
                for (var d = 0u; d < DEPTH; d++) {
                    for (var s = 0u; s < SPAN; s++) {
                        // Bounded as in `bounded_offset.wgsl`, in words of 4 bytes instead of quads of 16.
                        input[d][s] = x[min(pixel[s] + iteration * DEPTH, 0x1fffffffu) + d];
                    }
                    for (var k = 0u; k < TOGETHER; k++) {
                        let tap = ky * KERNEL + kx + k;
                        let block = ((tap * params.iterations + iteration) * DEPTH + d) * params.outputs;
                        for (var q = 0u; q < QUADS; q++) {
                            w[d][k][q] = weight[block + output[q]];
                        }
                    }
                }
                for (var d = 0u; d < DEPTH; d++) {
                    var value: array<vec4<f32>, SPAN>;
                    for (var s = 0u; s < SPAN; s++) {
                        if (KERNEL > 1u) {
                            input[d][s] = select(params.padding, input[d][s], inside[s]);
                        }
                        if (DOT == 0u) {
                            value[s] = vec4<f32>(unpack4xI8(input[d][s]));
                        }
                    }
                    for (var k = 0u; k < TOGETHER; k++) {
                        for (var q = 0u; q < QUADS; q++) {
                            let word = w[d][k][q];
                            if (DOT == 1u) {
                                for (var c = 0u; c < COLUMNS; c++) {
                                    let v = input[d][c * (STRIDE / BETWEEN) + k];
                                    sum[c][q] += dots(v, word);
                                }
                            } else {
                                let weights = unpacked(word);
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
                if (split > 0u) {
                    partial[((split - 1u) * SUMS + c * QUADS + q) * TILES + invocation % TILES] = sum[c][q];
                }
            }
        }
        workgroupBarrier();
        for (var c = 0u; c < COLUMNS; c++) {
            for (var q = 0u; q < QUADS; q++) {
                for (var other = 0u; other < SPLIT - 1u; other++) {
                    sum[c][q] += partial[(other * SUMS + c * QUADS + q) * TILES + invocation % TILES];
                }
            }
        }
    }
    if (split > 0u || nth >= params.runs) {
        return;
    }
    for (var q = 0u; q < QUADS; q++) {
        let n = output_params_of(output[q]);
        for (var c = 0u; c < COLUMNS; c++) {
            let pixel = row * params.out_width + min(first + c, params.out_width - 1u);
            sum[c][q] = with_residual(n, pixel, output[q], sum[c][q]);
        }
        let o = first_output + q * WORKGROUP_O;
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
