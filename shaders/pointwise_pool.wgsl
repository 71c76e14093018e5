// Pointwise convolution and the mean of each of its outputs over a picture's pixels.
//
//   y[o] = mean over p of activate(sum over i of x[p, i] * weight[i, o] + bias[o])
//
// A workgroup has LANES_O x 4 outputs of one picture. Its LANES_P threads along the pixels take
// PIXELS of them at a time, with the loads of DEPTH inputs on their way together, add up what comes of them, and meet
// in workgroup memory.

struct Params {
    alarm: u32, // what the flag gets if this step overflows
    pictures: u32,
    pixels: u32,  // of one picture
    inputs: u32,  // channels, in fours
    outputs: u32, // channels, in fours
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;         // (pictures, pixels, inputs)
@group(0) @binding(2) var<storage, read> weight: array<WeightBlock>;   // (inputs, outputs); a column an input
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (outputs)
@group(0) @binding(4) var<storage, read_write> y: array<Quad>;   // (pictures, outputs)

var<workgroup> partial: array<vec4<f32>, LANES_P * LANES_O>; // (LANES_P, LANES_O)

@compute @workgroup_size(LANES_P * LANES_O)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (params.outputs + LANES_O - 1u) / LANES_O;
    let tile = group.y * groups.x + group.x;
    let picture = tile / across;
    let first = picture * params.pixels;
    let output = tile % across * LANES_O + lane % LANES_O;
    let column = min(output, params.outputs - 1u);

    var total = vec4(0.0);
    for (var pixel = lane / LANES_O * PIXELS; pixel < params.pixels; pixel += LANES_P * PIXELS) {
        // What lies beyond the edge is computed from the last pixel and not added.
        var row: array<u32, PIXELS>;
        var sum: array<vec4<f32>, PIXELS>;
        for (var p = 0u; p < PIXELS; p++) {
            row[p] = (first + min(pixel + p, params.pixels - 1u)) * params.inputs;
            sum[p] = bias[column];
        }
        var i = 0u;
        var block = column;
        if (DEPTH > 1u) {
            for (; i + DEPTH <= params.inputs; i += DEPTH) {
                var taken: array<array<vec4<f32>, PIXELS>, DEPTH>;
                var w: array<mat4x4<f32>, DEPTH>;
                for (var d = 0u; d < DEPTH; d++) {
                    for (var p = 0u; p < PIXELS; p++) {
                        taken[d][p] = vec4<f32>(x[near(row[p] + i) + d]);
                    }
                    w[d] = weights_block(weight[block], column);
                    block += params.outputs;
                }
                for (var d = 0u; d < DEPTH; d++) {
                    for (var p = 0u; p < PIXELS; p++) {
                        sum[p] += w[d] * taken[d][p];
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
            total += select(vec4(0.0), activate(ACTIVATION, sum[p]), pixel + p < params.pixels);
        }
    }
    partial[lane] = total;
    workgroupBarrier();

    if (lane < LANES_O && output < params.outputs && picture < params.pictures) {
        for (var p = 1u; p < LANES_P; p++) {
            total += partial[p * LANES_O + lane];
        }
        y[picture * params.outputs + output] = Quad(total / f32(params.pixels));
    }
    raise();
}
