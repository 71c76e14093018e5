// Benchmark: copying x to y measures memory bandwidth or, with few invocations, a launch. An invocation
// copies four channels of a pixel.

struct Params {
    invocations: u32, // quads
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (invocations)
@group(0) @binding(2) var<storage, read_write> y: array<Quad>; // (invocations)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index < params.invocations) {
        y[index] = x[index];
    }
}
