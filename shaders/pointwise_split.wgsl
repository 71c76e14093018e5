// Pointwise convolution of few pixels: fully connected layers, squeeze-excite, tiny maps.
//
//   y[p, o] = activate(sum over i of x[p, i] * gate[i] * weight[i, o] + bias[o] + residual[p, o])
//
// There are too few outputs to fill a GPU with one invocation each. So WORKGROUP_I invocations of a workgroup
// split the inputs of an output (split-K), and their accumulators are added up in workgroup memory.
// WORKGROUP_O invocations lie along the outputs. An invocation has PIXELS pixels; the loads of DEPTH of its
// iterations are in flight together.

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

var<workgroup> partial: array<vec4<f32>, WORKGROUP_I * WORKGROUP_O * PIXELS>; // (WORKGROUP_I, PIXELS, WORKGROUP_O)

@compute @workgroup_size(WORKGROUP_I * WORKGROUP_O)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let across = (params.outputs + WORKGROUP_O - 1u) / WORKGROUP_O;
    let tile = group.y * groups.x + group.x;
    let first_output = tile % across * WORKGROUP_O;
    let first_pixel = tile / across * PIXELS;

    // Pixels and outputs past the edge repeat the last one and are not stored.
    let output = min(first_output + invocation % WORKGROUP_O, params.outputs - 1u);
    var row: array<u32, PIXELS>;
    var gates: array<u32, PIXELS>;
    var sum: array<vec4<f32>, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        let pixel = min(first_pixel + p, params.batch_pixels - 1u);
        row[p] = pixel * params.inputs;
        gates[p] = gates_of(first_pixel, pixel);
    }
    var i = invocation / WORKGROUP_O;
    var block = i * params.outputs + output;
    let next = WORKGROUP_I * params.outputs;
    if (DEPTH > 1u) {
        for (var iteration = params.inputs / (DEPTH * WORKGROUP_I); iteration > 0u; iteration--) {
            var input: array<array<vec4<f32>, PIXELS>, DEPTH>;
            var w: array<mat4x4<f32>, DEPTH>;
            for (var d = 0u; d < DEPTH; d++) {
                for (var p = 0u; p < PIXELS; p++) {
                    input[d][p] = load_input(bounded_offset(row[p] + i), bounded_offset(gates[p] + i), d * WORKGROUP_I);
                }
                w[d] = weights_block(weight[block], output);
                block += next;
            }
            for (var d = 0u; d < DEPTH; d++) {
                for (var p = 0u; p < PIXELS; p++) {
                    sum[p] += w[d] * input[d][p];
                }
            }
            i += DEPTH * WORKGROUP_I;
        }
    }
    for (; i < params.inputs; i += WORKGROUP_I) {
        let w = weights_block(weight[block], output);
        for (var p = 0u; p < PIXELS; p++) {
            sum[p] += w * load_input(row[p], gates[p], i);
        }
        block += next;
    }
    for (var p = 0u; p < PIXELS; p++) {
        partial[(invocation / WORKGROUP_O * PIXELS + p) * WORKGROUP_O + invocation % WORKGROUP_O] = sum[p];
    }
    workgroupBarrier();

    for (var done = invocation; done < PIXELS * WORKGROUP_O; done += WORKGROUP_I * WORKGROUP_O) {
        let p = first_pixel + done / WORKGROUP_O;
        let o = first_output + done % WORKGROUP_O;
        if (p < params.batch_pixels && o < params.outputs) {
            var v = with_residual(p, o, bias[o]);
            for (var i = 0u; i < WORKGROUP_I; i++) {
                v += partial[i * PIXELS * WORKGROUP_O + done];
            }
            finish(p, o, v);
        }
    }
    raise();
}
