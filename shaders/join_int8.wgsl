// A part of a larger map in integers, in that map's steps. A thread has a word, four channels of a pixel.

struct Params {
    threads: u32, // pictures * pixels * outputs
    outputs: u32, // channels, in fours
    x_zero: u32,  // what stands for 0, in each
    multiplier: u32,
    shift: u32,
    zero: u32,
    part_pixels: u32,   // of a picture, if PLACED
    part_first: u32,    // fours of channels before the part
    whole_pixel: u32,   // from a pixel of the whole to the next
    whole_picture: u32, // from a picture of the whole to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;       // (pictures, pixels, outputs)
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // as `placement.wgsl` has it

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread < params.threads) {
        let steps = unpack4xI8(x[thread]) - bitcast<i32>(params.x_zero);
        let moved = rescaled(steps, vec4(bitcast<i32>(params.multiplier)), vec4(params.shift));
        y[place(thread / params.outputs) + thread % params.outputs] = pack4xI8Clamp(moved + bitcast<i32>(params.zero));
    }
}
