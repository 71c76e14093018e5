// Squeeze-excite's last step in int8: multiplies every channel by its gate. An invocation makes one word,
// four channels of a pixel.

struct Params {
    picture_pixels: u32, // pixels per picture
    quads: u32,   // channels / 4, rounded up
    invocations: u32, // pictures * pixels * quads
    x_zero: u32,  // zero point of x
    gate_zero: u32, // zero point of the gate
    multiplier: u32, // from products to y: multiplier / 2^shift
    shift: u32,
    zero: u32,    // zero point of y
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;       // (pictures, pixels, quads)
@group(0) @binding(2) var<storage, read> gate: array<u32>;    // (pictures, quads)
@group(0) @binding(3) var<storage, read_write> y: array<u32>; // (pictures, pixels, quads)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index < params.invocations) {
        let picture = index / (params.picture_pixels * params.quads);
        let offset = unpack4xI8(x[index]) - bitcast<i32>(params.x_zero);
        let gates = unpack4xI8(gate[picture * params.quads + index % params.quads]);
        let gate_offset = gates - bitcast<i32>(params.gate_zero);
        let scaled = rescaled(offset * gate_offset, vec4(bitcast<i32>(params.multiplier)), vec4(params.shift));
        y[index] = pack4xI8Clamp(scaled + bitcast<i32>(params.zero));
    }
}
