//! Packing of weights and biases for kernels.

use std::sync::Arc;

use super::{Packing, int8::word};
use crate::{
    Tensor,
    graph::{Conv, weight_integer},
};

/// Packs a convolution's weights as `mat4x4` blocks: `[k, k, inputs / 4, outputs / 4]` blocks of four
/// columns, one column per input, padded with zeros.
pub(super) fn blocks(weight: &Tensor) -> Vec<f32> {
    let &[outputs, inputs, kh, kw] = weight.dims() else {
        unreachable!("a convolution's weight has four dimensions")
    };
    let (out_quads, in_quads) = (outputs.div_ceil(4), inputs.div_ceil(4));
    let mut packed = vec![0.0; kh * kw * in_quads * out_quads * 16];
    for (o, of_output) in weight.data().chunks_exact((inputs * kh * kw).max(1)).enumerate() {
        for (i, of_input) in of_output.chunks_exact((kh * kw).max(1)).enumerate() {
            for (tap, &value) in of_input.iter().enumerate() {
                let block = (tap * in_quads + i / 4) * out_quads + o / 4;
                packed[block * 16 + i % 4 * 4 + o % 4] = value;
            }
        }
    }
    packed
}

/// Packs a convolution's weights as int8, in a packing's order, four per word. The weights are integer
/// multiples of `scales`, one scale per output.
pub fn pack_int8(conv: &Conv, scales: &[f32], packing: Packing) -> Vec<u32> {
    let each = conv.weight.data().len() / conv.outputs();
    let integer = |at: usize| f32::from(weight_integer(conv.weight.data()[at], scales[at / each]));
    let weight = Arc::new(Tensor::from_fn(conv.weight.dims(), integer));
    let packed = packing.of(&Conv { weight, ..conv.clone() });
    let (words, _) = packed.as_chunks();
    words.iter().map(|bytes: &[f32; 4]| word(bytes.map(|q| q as i8))).collect()
}

/// Packs a convolution's biases, padded to whole quads; zeros if it has none.
pub fn pack_bias(conv: &Conv) -> Vec<f32> {
    let mut packed = vec![0.0; conv.outputs().next_multiple_of(4)];
    if let Some(bias) = &conv.bias {
        packed[..conv.outputs()].copy_from_slice(bias.data());
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_hold_each_weight_once() {
        let weight = Tensor::from_fn([5, 3, 1, 1], |i| i as f32 + 1.0);
        let packed = blocks(&weight);
        assert_eq!(packed.len(), 2 * 16);
        // Output 4, input 2: second block, third column, first row.
        assert_eq!(packed[16 + 2 * 4], weight.data()[4 * 3 + 2]);
        assert_eq!(packed.iter().filter(|&&v| v != 0.0).count(), 15);
    }
}
