// A label map as a picture of its classes' colours, at any size: each pixel has the class of the one
// under its centre. A thread has a pixel.

struct Params {
    height: u32, // of the label map
    width: u32,
    words: u32,  // of a row of it
    out_height: u32,
    out_width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> label: array<u32>;  // (height, words), a byte a pixel
@group(0) @binding(2) var<storage, read> colour: array<u32>; // (256): red, green, blue, opacity, a byte each
@group(0) @binding(3) var picture: texture_storage_2d<rgba8unorm, write>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread >= params.out_height * params.out_width) {
        return;
    }
    let at = vec2(thread % params.out_width, thread / params.out_width);
    let column = (2u * at.x + 1u) * params.width / (2u * params.out_width);
    let row = (2u * at.y + 1u) * params.height / (2u * params.out_height);
    let word = label[row * params.words + column / 4u];
    let kind = (word >> (8u * (column % 4u))) & 255u;
    textureStore(picture, at, unpack4x8unorm(colour[kind]));
}
