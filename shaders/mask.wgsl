// A label map at any size, a byte a pixel, in rows that may be copied to a texture: each pixel has the
// class of the one under its centre. A thread has a word, of four pixels.

struct Params {
    height: u32, // of the label map
    width: u32,
    words: u32,  // of a row of it
    out_height: u32,
    out_width: u32,
    out_words: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> label: array<u32>;   // (height, words), a byte a pixel
@group(0) @binding(2) var<storage, read_write> y: array<u32>; // (out_height, out_words), a byte a pixel

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (group.y * groups.x + group.x) * LANES + lane;
    if (thread >= params.out_height * params.out_words) {
        return;
    }
    let row = (2u * (thread / params.out_words) + 1u) * params.height / (2u * params.out_height);
    let first = 4u * (thread % params.out_words);
    var bytes = 0u;
    for (var i = 0u; i < 4u; i++) {
        let column = (2u * (first + i) + 1u) * params.width / (2u * params.out_width);
        if (first + i < params.out_width) {
            let word = label[row * params.words + column / 4u];
            bytes |= ((word >> (8u * (column % 4u))) & 255u) << (8u * i);
        }
    }
    y[thread] = bytes;
}
