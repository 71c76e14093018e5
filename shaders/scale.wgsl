// Squeeze-excite's last step: multiplies every channel by its gate. An invocation makes four channels of a
// pixel.

struct Params {
    picture_pixels: u32, // pixels per picture
    quads: u32,   // channels / 4, rounded up
    invocations: u32, // pictures * pixels * quads
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<Quad>;       // (pictures, pixels, quads)
@group(0) @binding(2) var<storage, read> gate: array<Quad>;    // (pictures, quads)
@group(0) @binding(3) var<storage, read_write> y: array<Quad>; // (pictures, pixels, quads)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index < params.invocations) {
        let picture = index / (params.picture_pixels * params.quads);
        y[index] = x[index] * gate[picture * params.quads + index % params.quads];
    }
}
