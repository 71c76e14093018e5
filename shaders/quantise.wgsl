// Quantises a map to int8, rounding half to even. An invocation converts four channels of a pixel.

struct Params {
    invocations: u32, // pictures * pixels * quads
    inverse_scale: u32, // as f32 bits
    zero: u32,    // zero point
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;      // (invocations)
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // (invocations)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index < params.invocations) {
        let offset = clamp(round(vec4<f32>(x[index]) * bitcast<f32>(params.inverse_scale)), vec4(-512.0), vec4(512.0));
        y[index] = pack4xI8Clamp(vec4<i32>(offset) + bitcast<i32>(params.zero));
    }
}
