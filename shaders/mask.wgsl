// A label map scaled to any size, nearest neighbour, one byte per pixel, in rows that can be copied to a
// texture. An invocation makes one word, four pixels.

struct Params {
    height: u32, // of the label map
    width: u32,
    words: u32,  // per row of the label map
    out_height: u32,
    out_width: u32,
    out_words: u32, // per row of y
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> label: array<u32>;   // (height, words), one byte per pixel
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // (out_height, out_words), one byte per pixel

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP_SIZE + invocation;
    if (index >= params.out_height * params.out_words) {
        return;
    }
    let row = (2u * (index / params.out_words) + 1u) * params.height / (2u * params.out_height);
    let first = 4u * (index % params.out_words);
    var bytes = 0u;
    for (var i = 0u; i < 4u; i++) {
        let column = (2u * (first + i) + 1u) * params.width / (2u * params.out_width);
        if (first + i < params.out_width) {
            let word = label[row * params.words + column / 4u];
            bytes |= ((word >> (8u * (column % 4u))) & 255u) << (8u * i);
        }
    }
    y[index] = bytes;
}
