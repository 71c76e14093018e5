// Weights of four outputs as loaded from their buffer: one column, or a block of four. The host appends this
// file to any kernel that calls one of these functions, or `weights_int8.wgsl` if weights are bytes. `output`
// is the index of the four outputs in `bias`.

fn weights_quad(v: WeightQuad, output: u32) -> SumQuad {
    return SumQuad(v);
}

fn weights_block(v: WeightBlock, output: u32) -> SumBlock {
    return SumBlock(v);
}
