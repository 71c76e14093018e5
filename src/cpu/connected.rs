//! Fully connected layers: as many dot products as outputs. Their time is that of reading the
//! weights, so they stay as the checkpoint has them and are read once, in order.

use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::{
    Tensor,
    graph::{Activation, Conv},
};

/// Weights that a task should read at least: handing over fewer would take longer.
const LEAST_WEIGHTS: usize = 16 << 10;

/// A pointwise convolution of pictures of one pixel.
pub struct Connected {
    /// `[outputs, inputs]`
    weight: Arc<Tensor>,
    bias: Option<Arc<Tensor>>,
    activation: Activation,
}

impl Connected {
    pub fn new(conv: &Conv) -> Self {
        Self { weight: conv.weight.clone(), bias: conv.bias.clone(), activation: conv.activation }
    }

    /// Values of weights and biases.
    pub fn weights(&self) -> usize {
        self.weight.data().len() + self.bias.as_ref().map_or(0, |bias| bias.data().len())
    }

    /// From rows of inputs to rows of outputs.
    pub fn run(&self, input: &[f32], output: &mut [f32], residual: Option<&[f32]>) {
        let (outputs, bias) = (self.weight.dims()[0], self.bias.as_ref().map(|bias| bias.data()));
        let inputs = self.weight.data().len() / outputs;
        let least = LEAST_WEIGHTS.div_ceil(inputs);
        for (at, (input, output)) in
            input.chunks_exact(inputs).zip(output.chunks_exact_mut(outputs)).enumerate()
        {
            let residual = residual.map(|residual| &residual[at * outputs..][..outputs]);
            let rows = self.weight.data().par_chunks_exact(inputs);
            output.par_iter_mut().zip(rows).enumerate().with_min_len(least).for_each(
                |(at, (output, row))| {
                    let sum = Arch::new().dispatch(Dot(input, row));
                    let sum = sum
                        + bias.map_or(0.0, |bias| bias[at])
                        + residual.map_or(0.0, |residual| residual[at]);
                    *output = self.activation.apply(sum);
                },
            );
        }
    }
}

/// The sum of the products of two rows.
struct Dot<'a>(&'a [f32], &'a [f32]);

impl WithSimd for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let ((a, last_a), (b, last_b)) = (S::as_simd_f32s(self.0), S::as_simd_f32s(self.1));
        let last = simd.mul_f32s(simd.partial_load_f32s(last_a), simd.partial_load_f32s(last_b));
        // Four sums, so that none waits for the one before.
        let mut sums = [last, simd.splat_f32s(0.0), simd.splat_f32s(0.0), simd.splat_f32s(0.0)];
        let (a, b) = (a.chunks(4), b.chunks(4));
        for (a, b) in a.zip(b) {
            for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
                *sum = simd.mul_add_f32s(*a, *b, *sum);
            }
        }
        let [a, b, c, d] = sums;
        simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)))
    }
}
