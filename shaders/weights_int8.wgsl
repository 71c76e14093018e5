// Weights of four outputs as bytes: one column, or a block of four. The scale of each output lies in `bias`,
// after all biases and in their order. See `weights.wgsl`.

fn weights_scale(output: u32) -> vec4<f32> {
    return bias[arrayLength(&bias) / 2u + output];
}

fn weights_quad(v: WeightQuad, output: u32) -> SumQuad {
    return SumQuad(weights_scale(output) * vec4<f32>(unpack4xI8(v)));
}

fn weights_block(v: WeightBlock, output: u32) -> SumBlock {
    let scale = weights_scale(output);
    return SumBlock(
        SumQuad(scale * vec4<f32>(unpack4xI8(v.x))),
        SumQuad(scale * vec4<f32>(unpack4xI8(v.y))),
        SumQuad(scale * vec4<f32>(unpack4xI8(v.z))),
        SumQuad(scale * vec4<f32>(unpack4xI8(v.w))),
    );
}
