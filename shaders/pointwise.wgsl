// Pointwise convolution: a matrix product of pixels by channels.
//
//   y[p, o] = activate(sum over i of x[p, i] * gate[i] * weight[i, o] + bias[o] + residual[p, o])
//
// An invocation's register tile is PIXELS x QUADS vec4 accumulators. It iterates over the inputs DEPTH quads
// at a time, whose loads are in flight together, then over the rest one quad at a time. In a workgroup
// WORKGROUP_O invocations lie along the outputs, so that they share each load of x and read adjacent weights,
// and WORKGROUP_P along the pixels, so that they share weights.

struct Params {
    alarm: u32, // the overflow flag's value if this step overflows
    batch_pixels: u32,   // pixels in the whole batch
    picture_pixels: u32, // pixels per picture
    inputs: u32,  // channels / 4, rounded up
    outputs: u32, // channels / 4, rounded up
    part_pixels: u32,   // pixels per picture, if PLACED
    part_first: u32,    // quads before the part in each picture of the whole map
    whole_pixel: u32,   // quads from one pixel of the whole map to the next
    whole_picture: u32, // quads from one picture of the whole map to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;        // (pixels, inputs)
@group(0) @binding(2) var<storage, read> weight: array<WeightBlock>; // (inputs, outputs); one column per input
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;     // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>; // (pixels, outputs), if RESIDUAL
@group(0) @binding(5) var<storage, read> gate: array<Quad>;     // (pictures, inputs), 0 to 1, if GATED
@group(0) @binding(6) var<storage, read_write> y: array<Quad>;  // (pixels, outputs)

@compute @workgroup_size(WORKGROUP_O * WORKGROUP_P)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let across = (params.outputs + WORKGROUP_O * QUADS - 1u) / (WORKGROUP_O * QUADS);
    let tile = group.y * groups.x + group.x;
    let first_output = (tile % across) * WORKGROUP_O * QUADS + invocation % WORKGROUP_O;
    let first_pixel = (tile / across * WORKGROUP_P + invocation / WORKGROUP_O) * PIXELS;
    if (first_output >= params.outputs || first_pixel >= params.batch_pixels) {
        return;
    }

    // Pixels and outputs past the edge repeat the last one and are not stored.
    var row: array<u32, PIXELS>;
    var gates: array<u32, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        let pixel = min(first_pixel + p, params.batch_pixels - 1u);
        row[p] = pixel * params.inputs;
        gates[p] = gates_of(first_pixel, pixel);
    }
    var output: array<u32, QUADS>;
    var sum: array<array<SumQuad, QUADS>, PIXELS>;
    for (var q = 0u; q < QUADS; q++) {
        output[q] = min(first_output + q * WORKGROUP_O, params.outputs - 1u);
        for (var p = 0u; p < PIXELS; p++) {
            sum[p][q] = SumQuad(bias[output[q]]);
        }
    }

    var i = 0u;
    var blocks = 0u; // offset of the input's blocks of weights
    if (DEPTH > 1u) {
        for (; i + DEPTH <= params.inputs; i += DEPTH) {
            var input: array<array<SumQuad, PIXELS>, DEPTH>;
            var w: array<array<SumBlock, QUADS>, DEPTH>;
            for (var d = 0u; d < DEPTH; d++) {
                for (var p = 0u; p < PIXELS; p++) {
                    input[d][p] = load_input(bounded_offset(row[p] + i), bounded_offset(gates[p] + i), d);
                }
                for (var q = 0u; q < QUADS; q++) {
                    w[d][q] = weights_block(weight[blocks + output[q]], output[q]);
                }
                blocks += params.outputs;
            }
            for (var d = 0u; d < DEPTH; d++) {
                for (var q = 0u; q < QUADS; q++) {
                    for (var p = 0u; p < PIXELS; p++) {
                        sum[p][q] += w[d][q] * input[d][p];
                    }
                }
            }
        }
    }
    for (; i < params.inputs; i++) {
        var input: array<SumQuad, PIXELS>;
        for (var p = 0u; p < PIXELS; p++) {
            input[p] = load_input(row[p], gates[p], i);
        }
        for (var q = 0u; q < QUADS; q++) {
            let w = weights_block(weight[blocks + output[q]], output[q]);
            for (var p = 0u; p < PIXELS; p++) {
                sum[p][q] += w * input[p];
            }
        }
        blocks += params.outputs;
    }

    var made: array<array<vec4<f32>, QUADS>, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        for (var q = 0u; q < QUADS; q++) {
            let pixel = min(first_pixel + p, params.batch_pixels - 1u);
            made[p][q] = with_residual(pixel, output[q], vec4<f32>(sum[p][q]));
        }
    }
    for (var p = 0u; p < PIXELS; p++) {
        for (var q = 0u; q < QUADS; q++) {
            let o = first_output + q * WORKGROUP_O;
            if (first_pixel + p < params.batch_pixels && o < params.outputs) {
                finish(first_pixel + p, o, made[p][q]);
            }
        }
    }
    raise();
}
