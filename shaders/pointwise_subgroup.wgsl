// Pointwise convolution whose weights are loaded cooperatively by a subgroup.
//
//   y[p, o] = activate(sum over i of x[p, i] * gate[i] * weight[i, o] + bias[o] + residual[p, o])
//
// An invocation's register tile is PIXELS x QUADS vec4 accumulators; it iterates over the inputs four at a
// time. All invocations of a workgroup make the same output channels and lie along the pixels. They process
// one or two blocks of weights at a time (BLOCKS): a lane loads one column and gets the others from other
// lanes, which is one load instead of four or eight. A subgroup has at least as many lanes as there are
// columns; in larger subgroups several lanes load the same column.

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
@group(0) @binding(1) var<storage, read> x: array<Quad>;         // (pixels, inputs)
@group(0) @binding(2) var<storage, read> weight: array<Quad>;    // (inputs, outputs, 4); one column per input
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // (outputs)
@group(0) @binding(4) var<storage, read> residual: array<Quad>;  // (pixels, outputs), if RESIDUAL
@group(0) @binding(5) var<storage, read> gate: array<Quad>;      // (pictures, inputs), 0 to 1, if GATED
@group(0) @binding(6) var<storage, read_write> y: array<Quad>;   // (pixels, outputs)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let across = (params.outputs + QUADS - 1u) / QUADS;
    let tile = group.y * groups.x + group.x;
    let first_output = tile % across * QUADS;
    let first_pixel = (tile / across * WORKGROUP_SIZE + invocation) * PIXELS;

    // Pixels and outputs past the edge repeat the last one and are not stored. No early return: all lanes
    // must reach the broadcasts.
    var row: array<u32, PIXELS>;
    var gates: array<u32, PIXELS>;
    for (var p = 0u; p < PIXELS; p++) {
        let pixel = min(first_pixel + p, params.batch_pixels - 1u);
        row[p] = pixel * params.inputs;
        gates[p] = gates_of(first_pixel, pixel);
    }
    var column: array<u32, QUADS / BLOCKS>;
    var sum: array<array<vec4<f32>, QUADS>, PIXELS>;
    for (var q = 0u; q < QUADS; q++) {
        let output = min(first_output + q, params.outputs - 1u);
        for (var p = 0u; p < PIXELS; p++) {
            sum[p][q] = bias[output];
        }
    }

    for (var b = 0u; b < QUADS / BLOCKS; b++) {
        let mine = first_output + b * BLOCKS + lane / 4u % BLOCKS;
        column[b] = min(mine, params.outputs - 1u) * 4u + lane % 4u;
    }

    for (var i = 0u; i < params.inputs; i++) {
        var input: array<vec4<f32>, PIXELS>;
        for (var p = 0u; p < PIXELS; p++) {
            input[p] = load_input(row[p], gates[p], i);
        }
        for (var b = 0u; b < QUADS / BLOCKS; b++) {
            let own = vec4<f32>(weight[i * params.outputs * 4u + column[b]]);
            let w = mat4x4<f32>(
                subgroupBroadcast(own, 0u),
                subgroupBroadcast(own, 1u),
                subgroupBroadcast(own, 2u),
                subgroupBroadcast(own, 3u),
            );
            for (var p = 0u; p < PIXELS; p++) {
                sum[p][b * BLOCKS] += w * input[p];
            }
            if (BLOCKS == 2u) {
                let second = mat4x4<f32>(
                    subgroupBroadcast(own, 4u),
                    subgroupBroadcast(own, 5u),
                    subgroupBroadcast(own, 6u),
                    subgroupBroadcast(own, 7u),
                );
                for (var p = 0u; p < PIXELS; p++) {
                    sum[p][b * BLOCKS + BLOCKS - 1u] += second * input[p];
                }
            }
        }
    }

    for (var p = 0u; p < PIXELS; p++) {
        for (var q = 0u; q < QUADS; q++) {
            let o = min(first_output + q, params.outputs - 1u);
            sum[p][q] = with_residual(min(first_pixel + p, params.batch_pixels - 1u), o, sum[p][q]);
        }
    }
    for (var p = 0u; p < PIXELS; p++) {
        for (var q = 0u; q < QUADS; q++) {
            let o = first_output + q;
            if (first_pixel + p < params.batch_pixels && o < params.outputs) {
                finish(first_pixel + p, o, sum[p][q]);
            }
        }
    }
    raise();
}
