// Pointwise convolution and the mean of each of its outputs over a picture's pixels.
//
//   y[o] = mean over p of activate(sum over i of x[p, i] * weight[i, o] + bias[o])
//
// A workgroup makes WORKGROUP_O x 4 outputs of one picture. Its WORKGROUP_P invocations along the pixels
// process PIXELS at a time, with the loads of DEPTH inputs in flight together. Each adds up its activated
// outputs; the totals are then added up in workgroup memory.

struct Params {
    alarm: u32, // the overflow flag's value if this step overflows
    pictures: u32,
    picture_pixels: u32, // pixels per picture
    inputs: u32,  // channels / 4, rounded up
    outputs: u32, // channels / 4, rounded up
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;         // (pictures, pixels, inputs)
@group(0) @binding(2) var<storage, read> weight: array<WeightBlock>;   // (inputs, outputs); one column per input
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (outputs)
@group(0) @binding(4) var<storage, read_write> y: array<Quad>;   // (pictures, outputs)

var<workgroup> partial: array<vec4<f32>, WORKGROUP_P * WORKGROUP_O>; // (WORKGROUP_P, WORKGROUP_O)

@compute @workgroup_size(WORKGROUP_P * WORKGROUP_O)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let across = (params.outputs + WORKGROUP_O - 1u) / WORKGROUP_O;
    let tile = group.y * groups.x + group.x;
    let picture = tile / across;
    let first = picture * params.picture_pixels;
    let output = tile % across * WORKGROUP_O + invocation % WORKGROUP_O;
    let column = min(output, params.outputs - 1u);

    var total = vec4(0.0);
    for (var pixel = invocation / WORKGROUP_O * PIXELS; pixel < params.picture_pixels; pixel += WORKGROUP_P * PIXELS) {
        // Pixels past the last repeat it and are not added.
        var row: array<u32, PIXELS>;
        var sum: array<vec4<f32>, PIXELS>;
        for (var p = 0u; p < PIXELS; p++) {
            row[p] = (first + min(pixel + p, params.picture_pixels - 1u)) * params.inputs;
            sum[p] = bias[column];
        }
        var i = 0u;
        var block = column;
        if (DEPTH > 1u) {
            for (; i + DEPTH <= params.inputs; i += DEPTH) {
                var input: array<array<vec4<f32>, PIXELS>, DEPTH>;
                var w: array<mat4x4<f32>, DEPTH>;
                for (var d = 0u; d < DEPTH; d++) {
                    for (var p = 0u; p < PIXELS; p++) {
                        input[d][p] = vec4<f32>(x[bounded_offset(row[p] + i) + d]);
                    }
                    w[d] = weights_block(weight[block], column);
                    block += params.outputs;
                }
                for (var d = 0u; d < DEPTH; d++) {
                    for (var p = 0u; p < PIXELS; p++) {
                        sum[p] += w[d] * input[d][p];
                    }
                }
            }
        }
        for (; i < params.inputs; i++) {
            let w = weights_block(weight[block], column);
            block += params.outputs;
            for (var p = 0u; p < PIXELS; p++) {
                sum[p] += w * vec4<f32>(x[row[p] + i]);
            }
        }
        for (var p = 0u; p < PIXELS; p++) {
            total += select(vec4(0.0), activate(ACTIVATION, sum[p]), pixel + p < params.picture_pixels);
        }
    }
    partial[invocation] = total;
    workgroupBarrier();

    if (invocation < WORKGROUP_O && output < params.outputs && picture < params.pictures) {
        for (var p = 1u; p < WORKGROUP_P; p++) {
            total += partial[p * WORKGROUP_O + invocation];
        }
        y[picture * params.outputs + output] = Quad(total / f32(params.picture_pixels));
    }
    raise();
}
