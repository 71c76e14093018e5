// Pointwise convolution of few pixels: fully connected layers, squeeze-excite, tiny maps.
//
//   y[p, o] = activate(sum over i of x[p, i] * gate[i] * weight[i, o] + bias[o] + residual[p, o])
//
// There are too few outputs to fill a GPU with a thread each, so LANES_I threads of a
// workgroup split the inputs of one output between them and their sums meet in workgroup
// memory. LANES_O lie along the outputs; each thread has PIXELS pixels, and loads for DEPTH of its turns at once.

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

var<workgroup> partial: array<vec4<f32>, LANES_I * LANES_O * PIXELS>; // (LANES_I, PIXELS, LANES_O)

@compute @workgroup_size(LANES_I * LANES_O)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (params.outputs + LANES_O - 1u) / LANES_O;
    let tile = group.y * groups.x + group.x;
    let first_output = tile % across * LANES_O;
    let first_pixel = tile / across * PIXELS;

    // What lies beyond the edge is computed from the last row or column and not stored.
    let output = min(first_output + lane % LANES_O, params.outputs - 1u);
    var row: array<u32, PIXELS>;
    var gates: array<u32, PIXELS>;
    var sum: array<vec4<f32>, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        let pixel = min(first_pixel + p, params.pixels - 1u);
        row[p] = pixel * params.inputs;
        gates[p] = gates_of(first_pixel, pixel);
    }
    var i = lane / LANES_O;
    var block = i * params.outputs + output;
    let next = LANES_I * params.outputs;
    if (DEPTH > 1u) {
        for (var turn = params.inputs / (DEPTH * LANES_I); turn > 0u; turn--) {
            var taken: array<array<vec4<f32>, PIXELS>, DEPTH>;
            var w: array<mat4x4<f32>, DEPTH>;
            for (var d = 0u; d < DEPTH; d++) {
                for (var p = 0u; p < PIXELS; p++) {
                    taken[d][p] = load_input(near(row[p] + i), near(gates[p] + i), d * LANES_I);
                }
                w[d] = weights_block(weight[block], output);
                block += next;
            }
            for (var d = 0u; d < DEPTH; d++) {
                for (var p = 0u; p < PIXELS; p++) {
                    sum[p] += w[d] * taken[d][p];
                }
            }
            i += DEPTH * LANES_I;
        }
    }
    for (; i < params.inputs; i += LANES_I) {
        let w = weights_block(weight[block], output);
        for (var p = 0u; p < PIXELS; p++) {
            sum[p] += w * load_input(row[p], gates[p], i);
        }
        block += next;
    }
    for (var p = 0u; p < PIXELS; p++) {
        partial[(lane / LANES_O * PIXELS + p) * LANES_O + lane % LANES_O] = sum[p];
    }
    workgroupBarrier();

    for (var done = lane; done < PIXELS * LANES_O; done += LANES_I * LANES_O) {
        let p = first_pixel + done / LANES_O;
        let o = first_output + done % LANES_O;
        if (p < params.pixels && o < params.outputs) {
            var v = carried(p, o, bias[o]);
            for (var i = 0u; i < LANES_I; i++) {
                v += partial[i * PIXELS * LANES_O + done];
            }
            finish(p, o, v);
        }
    }
    raise();
}
