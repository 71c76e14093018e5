// Pointwise convolution: a matrix product of pixels by channels.
//
//   y[p, o] = activate(sum over i of x[p, i] * gate[i] * weight[i, o] + bias[o] + residual[p, o])
//
// A thread keeps PIXELS x QUADS vec4 sums in registers and walks the inputs four at a time, or DEPTH times as
// many, all of whose loads are on their way together.
// In a workgroup LANES_O threads lie along the outputs, so that they share each load of x
// and read weights side by side, and LANES_P along the pixels, so that they share weights.

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

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;        // (pixels, inputs)
@group(0) @binding(2) var<storage, read> weight: array<WeightBlock>; // (inputs, outputs); a column an input
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;     // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>; // (pixels, outputs), if RESIDUAL
@group(0) @binding(5) var<storage, read> gate: array<Quad>;     // (pictures, inputs), 0 to 1, if GATED
@group(0) @binding(6) var<storage, read_write> y: array<Quad>;  // (pixels, outputs)

@compute @workgroup_size(LANES_O * LANES_P)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (params.outputs + LANES_O * QUADS - 1u) / (LANES_O * QUADS);
    let tile = group.y * groups.x + group.x;
    let first_output = (tile % across) * LANES_O * QUADS + lane % LANES_O;
    let first_pixel = (tile / across * LANES_P + lane / LANES_O) * PIXELS;
    if (first_output >= params.outputs || first_pixel >= params.pixels) {
        return;
    }

    // What lies beyond the edge is computed from the last row or column and not stored.
    var row: array<u32, PIXELS>;
    var gates: array<u32, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        let pixel = min(first_pixel + p, params.pixels - 1u);
        row[p] = pixel * params.inputs;
        gates[p] = gates_of(first_pixel, pixel);
    }
    var output: array<u32, QUADS>;
    var sum: array<array<SumQuad, QUADS>, PIXELS>;
    for (var q = 0u; q < QUADS; q++) {
        output[q] = min(first_output + q * LANES_O, params.outputs - 1u);
        for (var p = 0u; p < PIXELS; p++) {
            sum[p][q] = SumQuad(bias[output[q]]);
        }
    }

    var i = 0u;
    var blocks = 0u; // of the inputs before
    if (DEPTH > 1u) {
        for (; i + DEPTH <= params.inputs; i += DEPTH) {
            var taken: array<array<SumQuad, PIXELS>, DEPTH>;
            var w: array<array<SumBlock, QUADS>, DEPTH>;
            for (var d = 0u; d < DEPTH; d++) {
                for (var p = 0u; p < PIXELS; p++) {
                    taken[d][p] = load_input(near(row[p] + i), near(gates[p] + i), d);
                }
                for (var q = 0u; q < QUADS; q++) {
                    w[d][q] = weights_block(weight[blocks + output[q]], output[q]);
                }
                blocks += params.outputs;
            }
            for (var d = 0u; d < DEPTH; d++) {
                for (var q = 0u; q < QUADS; q++) {
                    for (var p = 0u; p < PIXELS; p++) {
                        sum[p][q] += w[d][q] * taken[d][p];
                    }
                }
            }
        }
    }
    for (; i < params.inputs; i++) {
        var taken: array<SumQuad, PIXELS>;
        for (var p = 0u; p < PIXELS; p++) {
            taken[p] = load_input(row[p], gates[p], i);
        }
        for (var q = 0u; q < QUADS; q++) {
            let w = weights_block(weight[blocks + output[q]], output[q]);
            for (var p = 0u; p < PIXELS; p++) {
                sum[p][q] += w * taken[p];
            }
        }
        blocks += params.outputs;
    }

    var made: array<array<vec4<f32>, QUADS>, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        for (var q = 0u; q < QUADS; q++) {
            let pixel = min(first_pixel + p, params.pixels - 1u);
            made[p][q] = carried(pixel, output[q], vec4<f32>(sum[p][q]));
        }
    }
    for (var p = 0u; p < PIXELS; p++) {
        for (var q = 0u; q < QUADS; q++) {
            let o = first_output + q * LANES_O;
            if (first_pixel + p < params.pixels && o < params.outputs) {
                finish(first_pixel + p, o, made[p][q]);
            }
        }
    }
    raise();
}
