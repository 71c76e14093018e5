// A label map drawn in its classes' colours, scaled to any size, nearest neighbour. An invocation makes one
// pixel.

struct Params {
    height: u32, // of the label map
    width: u32,
    words: u32,  // per row of the label map
    out_height: u32,
    out_width: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> label: array<u32>;  // (height, words), one byte per pixel
@group(0) @binding(2) var<storage, read> colour: array<u32>; // (256): red, green, blue, opacity, a byte each
@group(0) @binding(3) var picture: texture_storage_2d<rgba8unorm, write>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index >= params.out_height * params.out_width) {
        return;
    }
    let at = vec2(index % params.out_width, index / params.out_width);
    let column = (2u * at.x + 1u) * params.width / (2u * params.out_width);
    let row = (2u * at.y + 1u) * params.height / (2u * params.out_height);
    let word = label[row * params.words + column / 4u];
    let kind = (word >> (8u * (column % 4u))) & 255u;
    textureStore(picture, at, unpack4x8unorm(colour[kind]));
}
