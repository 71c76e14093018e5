// Products of bytes. The host appends this file to any kernel that calls `dots`.

// The products of four inputs with the weights of four outputs: a word per output.
fn dots(input: u32, w: vec4<u32>) -> vec4<i32> {
    return vec4(
        dot4I8Packed(input, w.x),
        dot4I8Packed(input, w.y),
        dot4I8Packed(input, w.z),
        dot4I8Packed(input, w.w),
    );
}

// The weights of four inputs, a word and a column each, for four outputs.
fn unpacked(w: vec4<u32>) -> mat4x4<f32> {
    return mat4x4<f32>(
        vec4<f32>(unpack4xI8(w.x)),
        vec4<f32>(unpack4xI8(w.y)),
        vec4<f32>(unpack4xI8(w.z)),
        vec4<f32>(unpack4xI8(w.w)),
    );
}
