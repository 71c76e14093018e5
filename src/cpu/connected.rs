//! Fully connected layers: as many dot products as outputs. Their time is that of reading the
//! weights, so they stay as the checkpoint has them and are read once, in order.

use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::{
    Tensor,
    graph::{Activation, Conv},
};

/// Dot products that are made together.
const TOGETHER: usize = 4;

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

    /// From rows of inputs to rows of outputs; whether all sums are finite.
    pub fn run(&self, input: &[f32], output: &mut [f32], residual: Option<&[f32]>) -> bool {
        let mut finite = true;
        let outputs = self.weight.dims()[0];
        let inputs = self.weight.data().len() / outputs;
        let share = LEAST_WEIGHTS.div_ceil(inputs).next_multiple_of(TOGETHER);
        for (at, (input, output)) in
            input.chunks_exact(inputs).zip(output.chunks_exact_mut(outputs)).enumerate()
        {
            let weights = self.weight.data().par_chunks(share * inputs);
            output.par_chunks_mut(share).zip(weights).for_each(|(output, weights)| {
                Arch::new().dispatch(Rows { input, weights, output });
            });
            for (i, sum) in output.iter_mut().enumerate() {
                let bias = self.bias.as_ref().map_or(0.0, |bias| bias.data()[i]);
                let residual = residual.map_or(0.0, |residual| residual[at * outputs + i]);
                let whole = *sum + bias + residual;
                finite &= whole.is_finite();
                *sum = self.activation.apply(whole);
            }
        }
        finite
    }
}

/// Dot products of one row of inputs with rows of weights.
struct Rows<'a> {
    input: &'a [f32],
    weights: &'a [f32],
    output: &'a mut [f32],
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let inputs = self.input.len();
        let rows = self.weights.chunks(TOGETHER * inputs).zip(self.output.chunks_mut(TOGETHER));
        for (weights, output) in rows {
            if output.len() == TOGETHER {
                dots::<S, TOGETHER>(simd, self.input, weights, output);
            } else {
                for (weights, output) in weights.chunks_exact(inputs).zip(output.chunks_exact_mut(1)) {
                    dots::<S, 1>(simd, self.input, weights, output);
                }
            }
        }
    }
}

/// `N` dot products, whose sums do not wait for one another.
#[inline(always)]
fn dots<S: Simd, const N: usize>(simd: S, input: &[f32], weights: &[f32], output: &mut [f32]) {
    let (vectors, last) = S::as_simd_f32s(input);
    let rows: [&[f32]; N] = std::array::from_fn(|i| &weights[i * input.len()..][..input.len()]);
    let rows = rows.map(|row| S::as_simd_f32s(row));
    let mut sums = [simd.splat_f32s(0.0); N];
    for (at, input) in vectors.iter().enumerate() {
        for (sum, (row, _)) in sums.iter_mut().zip(&rows) {
            *sum = simd.mul_add_f32s(*input, row[at], *sum);
        }
    }
    if !last.is_empty() {
        let last = simd.partial_load_f32s(last);
        for (sum, (_, row)) in sums.iter_mut().zip(&rows) {
            *sum = simd.mul_add_f32s(last, simd.partial_load_f32s(row), *sum);
        }
    }
    for (output, sum) in output.iter_mut().zip(sums) {
        *output = simd.reduce_sum_f32s(sum);
    }
}
