// Copies a part into an int8 concatenation, rescaled to its scale. An invocation makes one word, four
// channels of a pixel.

struct Params {
    invocations: u32, // pictures * pixels * outputs
    outputs: u32, // channels / 4, rounded up
    x_zero: u32,  // zero point of x
    multiplier: u32, // from x to y: multiplier / 2^shift
    shift: u32,
    zero: u32,    // zero point of y
    part_pixels: u32,   // pixels per picture, if PLACED
    part_first: u32,    // quads before the part in each picture of the whole map
    whole_pixel: u32,   // quads from one pixel of the whole map to the next
    whole_picture: u32, // quads from one picture of the whole map to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;       // (pictures, pixels, outputs)
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // laid out as in `placement.wgsl`

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index < params.invocations) {
        let offset = unpack4xI8(x[index]) - bitcast<i32>(params.x_zero);
        let moved = rescaled(offset, vec4(bitcast<i32>(params.multiplier)), vec4(params.shift));
        y[place(index / params.outputs) + index % params.outputs] = pack4xI8Clamp(moved + bitcast<i32>(params.zero));
    }
}
