// Dense convolution: every output channel reads every input channel in a KERNEL x KERNEL window. The stem is
// one; the picture's three channels are padded with a zero, so that a pixel is one load.
//
// An invocation's register tile is a run, COLUMNS adjacent outputs of one row, by QUADS x 4 channels. In a
// workgroup WORKGROUP_O invocations lie along the outputs, so that they share each load of x and read
// adjacent weights, and WORKGROUP_P along the runs, so that they share weights. TOGETHER taps of a row of the
// window are processed at a time, all of them or one: they share pixels, and their loads are in flight
// together. With all taps together, only pixels before BEFORE or from BEHIND on can lie outside the map.
// SPLIT invocations split the inputs of one tile (split-K); their accumulators are added up in workgroup
// memory.

struct Params {
    alarm: u32, // the overflow flag's value if this step overflows
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,     // rows of zero padding above
    left: u32,    // columns of zero padding on the left
    inputs: u32,  // channels / 4, rounded up
    outputs: u32, // channels / 4, rounded up
    runs: u32,    // pictures * out_height * ceil(out_width / COLUMNS)
    part_pixels: u32,   // pixels per picture, if PLACED
    part_first: u32,    // quads before the part in each picture of the whole map
    whole_pixel: u32,   // quads from one pixel of the whole map to the next
    whole_picture: u32, // quads from one picture of the whole map to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;        // (pictures, height, width, inputs)
@group(0) @binding(2) var<storage, read> weight: array<WeightBlock>; // (KERNEL, KERNEL, inputs, outputs); one column per input
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;     // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>; // shaped as y, if RESIDUAL
@group(0) @binding(5) var<storage, read_write> y: array<Quad>;  // (pictures, out_height, out_width, outputs)

// The distance in columns between the pixels that a run reads with TOGETHER taps, and their number.
const BETWEEN: u32 = select(1u, STRIDE, TOGETHER == 1u);
const SPAN: u32 = (COLUMNS - 1u) * (STRIDE / BETWEEN) + TOGETHER;

const TILES: u32 = WORKGROUP_O * WORKGROUP_P;
const SUMS: u32 = COLUMNS * QUADS;
var<workgroup> partial: array<vec4<f32>, (SPLIT - 1u) * TILES * SUMS + 1u>; // (SPLIT - 1, SUMS, TILES)

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
    var sum: array<array<vec4<f32>, QUADS>, COLUMNS>;
    for (var q = 0u; q < QUADS; q++) {
        output[q] = min(first_output + q * WORKGROUP_O, params.outputs - 1u);
        for (var c = 0u; c < COLUMNS; c++) {
            sum[c][q] = select(vec4(0.0), bias[output[q]], split == 0u);
        }
    }
    for (var ky = 0u; ky < KERNEL; ky++) {
        // Negative positions wrap around to huge values: one comparison covers both edges.
        let iy = row % params.out_height * STRIDE + ky * DILATION - params.top;
        if (iy >= params.height) {
            continue;
        }
        let line = (picture * params.height + iy) * params.width;
        for (var kx = 0u; kx < KERNEL; kx += TOGETHER) {
            var pixel: array<u32, SPAN>;
            var inside: array<bool, SPAN>;
            for (var s = 0u; s < SPAN; s++) {
                let ix = first * STRIDE + kx * DILATION + s * BETWEEN - params.left;
                inside[s] = ix < params.width;
                pixel[s] = (line + min(ix, params.width - 1u)) * params.inputs;
            }
            for (var i = split; i < params.inputs; i += SPLIT) {
                var input: array<vec4<f32>, SPAN>;
                for (var s = 0u; s < SPAN; s++) {
                    input[s] = vec4<f32>(x[pixel[s] + i]);
                    // With whole rows of the window only the ends can lie outside the map.
                    if (TOGETHER < KERNEL || s < BEFORE || s >= BEHIND) {
                        input[s] = select(vec4(0.0), input[s], inside[s]);
                    }
                }
                for (var k = 0u; k < TOGETHER; k++) {
                    let block = ((ky * KERNEL + kx + k) * params.inputs + i) * params.outputs;
                    for (var q = 0u; q < QUADS; q++) {
                        let w = weights_block(weight[block + output[q]], output[q]);
                        for (var c = 0u; c < COLUMNS; c++) {
                            sum[c][q] += w * input[c * (STRIDE / BETWEEN) + k];
                        }
                    }
                }
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
    for (var c = 0u; c < COLUMNS; c++) {
        let pixel = row * params.out_width + min(first + c, params.out_width - 1u);
        for (var q = 0u; q < QUADS; q++) {
            sum[c][q] = with_residual(pixel, output[q], sum[c][q]);
        }
    }
    for (var c = 0u; c < COLUMNS; c++) {
        for (var q = 0u; q < QUADS; q++) {
            let o = first_output + q * WORKGROUP_O;
            if (first + c < params.out_width && o < params.outputs) {
                finish(row * params.out_width + first + c, o, sum[c][q]);
            }
        }
    }
    raise();
}
