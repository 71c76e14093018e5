// Max pool in int8: the largest integer in a KERNEL x KERNEL window, among its pixels inside the map,
// rescaled to the scale of y. An invocation makes one word, four channels of a pixel.

struct Params {
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    top: u32,     // rows of padding above
    left: u32,    // columns of padding on the left
    outputs: u32, // channels / 4, rounded up
    invocations: u32, // pictures * out_height * out_width * outputs
    x_zero: u32,  // zero point of x
    multiplier: u32, // from x to y: multiplier / 2^shift
    shift: u32,
    zero: u32,    // zero point of y
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;       // (pictures, height, width, outputs)
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // (pictures, out_height, out_width, outputs)

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index >= params.invocations) {
        return;
    }
    let quad = index % params.outputs;
    let pixel = index / params.outputs;
    let column = pixel % params.out_width * STRIDE;
    let row = pixel / params.out_width % params.out_height * STRIDE;
    let picture = pixel / (params.out_width * params.out_height);
    var largest = vec4(-128i);
    for (var ky = 0u; ky < KERNEL; ky++) {
        // Negative positions wrap around to huge values: one comparison covers both edges.
        let iy = row + ky - params.top;
        for (var kx = 0u; kx < KERNEL; kx++) {
            let ix = column + kx - params.left;
            let line = (picture * params.height + min(iy, params.height - 1u)) * params.width;
            let word = x[(line + min(ix, params.width - 1u)) * params.outputs + quad];
            if (iy < params.height && ix < params.width) {
                largest = max(largest, unpack4xI8(word));
            }
        }
    }
    let offset = largest - bitcast<i32>(params.x_zero);
    let moved = rescaled(offset, vec4(bitcast<i32>(params.multiplier)), vec4(params.shift));
    y[index] = pack4xI8Clamp(moved + bitcast<i32>(params.zero));
}
