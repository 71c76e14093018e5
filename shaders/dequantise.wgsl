// Dequantises an int8 map. An invocation converts four channels of a pixel.

struct Params {
    invocations: u32, // pictures * pixels * quads
    scale: u32, // as f32 bits
    zero: u32, // zero point
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;        // (invocations)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (invocations)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index < params.invocations) {
        y[index] = Quad(bitcast<f32>(params.scale) * vec4<f32>(unpack4xI8(x[index]) - bitcast<i32>(params.zero)));
    }
}
