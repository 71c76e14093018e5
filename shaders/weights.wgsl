// Weights as they come from their buffer, of four outputs: a column, or a block of four. The host puts this file behind any
// kernel that calls one of these, or `weights_int8.wgsl` where they are bytes. `output` is the bias's place of the four.

fn weights_quad(v: WeightQuad, output: u32) -> SumQuad {
    return SumQuad(v);
}

fn weights_block(v: WeightBlock, output: u32) -> SumBlock {
    return SumBlock(v);
}
