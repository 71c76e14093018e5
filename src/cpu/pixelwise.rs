//! Operations channel by channel: activations, means, gates, max pooling and concatenation.

use std::ops::Range;

use aligned_vec::{AVec, avec};
use pulp::Simd;
use rayon::prelude::*;

use crate::{
    Shape,
    graph::{Activation, ConcatAxis, Conv, MaxPool, Window},
};

/// Returns a convolution's bias, zeros if it has none.
pub fn bias(conv: &Conv) -> AVec<f32> {
    conv.bias.as_ref().map_or_else(|| avec![0.0; conv.outputs()], |bias| AVec::from_slice(0, bias.data()))
}

/// Clamps as integers: from 0 on, floats have the order of their bits, and negative floats are negative integers.
/// On many processors, integer comparisons leave the units of multiply-adds free.
#[inline(always)]
fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let bits = simd.max_i32s(simd.transmute_i32s_f32s(x), simd.splat_i32s(0));
    simd.transmute_f32s_i32s(bits)
}

/// [`relu`], at most 6.
#[inline(always)]
fn relu6<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let bits = simd.transmute_i32s_f32s(relu(simd, x));
    simd.transmute_f32s_i32s(simd.min_i32s(bits, simd.splat_i32s(6.0f32.to_bits().cast_signed())))
}

#[inline(always)]
fn hard_sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let x = relu6(simd, simd.add_f32s(x, simd.splat_f32s(3.0)));
    simd.mul_f32s(x, simd.splat_f32s(1.0 / 6.0))
}

/// x / (1 + exp(-x)). The exponential is 2^n exp(r) with an integer n and |r| of at most ln 2 / 2. exp(r) is
/// the polynomial of Cephes' `expf`, within two units in the last place.
#[inline(always)]
fn swish<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| simd.splat_f32s(value);
    // 1.5 * 2^23: adding it rounds a number to an integer, which is then in the lowest bits.
    let rounder = splat(12_582_912.0);
    // Beyond 87 and -87, exponentials leave f32's range.
    let t = simd.max_f32s(simd.min_f32s(simd.neg_f32s(x), splat(87.0)), splat(-87.0));
    let n = simd.mul_add_e_f32s(t, splat(std::f32::consts::LOG2_E), rounder);
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(n), simd.splat_u32s(23));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(bits, simd.splat_u32s(1.0f32.to_bits())));
    let n = simd.sub_f32s(n, rounder);
    // ln 2 in two parts; the first has few enough bits for an exact product with n.
    let r = simd.mul_add_e_f32s(n, splat(-0.693_359_4), t);
    let r = simd.mul_add_e_f32s(n, splat(2.121_944_4e-4), r);
    let mut sum = splat(1.987_569_1e-4);
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = simd.mul_add_e_f32s(sum, r, splat(factor));
    }
    let exp = simd.mul_add_e_f32s(sum, simd.mul_f32s(r, r), simd.add_f32s(r, splat(1.0)));
    simd.div_f32s(x, simd.mul_add_e_f32s(exp, power, splat(1.0)))
}

/// Applies an activation to a vector, unless it is a gate's (hard-sigmoid or sigmoid). This function and its
/// callers put no vector code into closures: a closure that is not inlined is compiled without the
/// processor's features, and each of its vector instructions becomes a call.
#[inline(always)]
pub fn activate<S: Simd>(simd: S, x: S::f32s, activation: Activation) -> S::f32s {
    match activation {
        Activation::Identity => x,
        Activation::Relu => relu(simd, x),
        Activation::Relu6 => relu6(simd, x),
        Activation::HardSwish => simd.mul_f32s(x, hard_sigmoid(simd, x)),
        Activation::Swish => swish(simd, x),
        // Gates have few values: see `activate_late`.
        Activation::HardSigmoid | Activation::Sigmoid => x,
    }
}

/// Applies the gates' activations, which [`activate`] skips, after a convolution has stored its sums.
pub fn activate_late(activation: Activation, values: &mut [f32]) {
    if matches!(activation, Activation::HardSigmoid | Activation::Sigmoid) {
        values.iter_mut().for_each(|value| *value = activation.apply(*value));
    }
}

/// Evaluates `body` with the activation's code as a constant, so that vector loops do not branch on it. For a
/// gate's activation the code is the identity's: see [`activate_late`].
macro_rules! with_code {
    ($activation:expr, $code:ident => $body:expr) => {
        match $activation {
            Activation::Relu => {
                const $code: u32 = Activation::Relu.code();
                $body
            }
            Activation::Relu6 => {
                const $code: u32 = Activation::Relu6.code();
                $body
            }
            Activation::HardSwish => {
                const $code: u32 = Activation::HardSwish.code();
                $body
            }
            Activation::Swish => {
                const $code: u32 = Activation::Swish.code();
                $body
            }
            Activation::Identity | Activation::HardSigmoid | Activation::Sigmoid => {
                const $code: u32 = Activation::Identity.code();
                $body
            }
        }
    };
}
pub(super) use with_code;

/// Records whether all checked values are finite: activations would hide those that are not.
#[derive(Clone, Copy)]
pub struct Finite<S: Simd>(S::f32s);

impl<S: Simd> Finite<S> {
    #[inline(always)]
    pub fn new(simd: S) -> Self {
        Self(simd.splat_f32s(0.0))
    }

    /// Checks a vector. x - x is NaN unless x is finite, and NaN survives the sum. Many processors have
    /// separate units for additions, so that they do not compete with products.
    #[inline(always)]
    pub fn check(&mut self, simd: S, x: S::f32s) {
        self.0 = simd.add_f32s(self.0, simd.sub_f32s(x, x));
    }

    #[inline(always)]
    pub fn all(self, simd: S) -> bool {
        !simd.reduce_sum_f32s(self.0).is_nan()
    }
}

/// The first run of indices below `len` for which `holds` is true: outputs whose windows are on the map.
pub fn first_run(len: usize, holds: impl Fn(usize) -> bool) -> Range<usize> {
    let first = (0..len).find(|&at| holds(at)).unwrap_or(len);
    first..(first..len).find(|&at| !holds(at)).unwrap_or(len)
}

/// Averages each channel over a picture's pixels.
pub fn mean(x: Shape, input: &[f32], output: &mut [f32]) {
    let pixels = x.h * x.w;
    for (picture, means) in input.chunks_exact(pixels * x.c).zip(output.chunks_exact_mut(x.c)) {
        vectorised!({
            means.fill(0.0);
            for pixel in picture.chunks_exact(x.c) {
                means.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
            }
            means.iter_mut().for_each(|sum| *sum /= pixels as f32);
        });
    }
}

/// Multiplies each channel by its gate.
pub fn scale(x: Shape, input: &[f32], gates: &[f32], output: &mut [f32]) {
    let row = x.w * x.c;
    let rows = output.par_chunks_exact_mut(row).zip(input.par_chunks_exact(row)).enumerate();
    rows.with_min_len((16_384 / row).max(1)).for_each(|(at, (output, input))| {
        let gates = &gates[at / x.h * x.c..][..x.c];
        vectorised!({
            for (output, input) in output.chunks_exact_mut(x.c).zip(input.chunks_exact(x.c)) {
                for ((output, input), gate) in output.iter_mut().zip(input).zip(gates) {
                    *output = input * gate;
                }
            }
        });
    });
}

/// Applies max pooling. Pixels off the map do not count, and no result is below `least`.
pub fn max_pool<T: Copy + PartialOrd + Send + Sync>(
    pool: MaxPool,
    window: Window,
    x: Shape,
    input: &[T],
    y: Shape,
    output: &mut [T],
    least: T,
) {
    let row = y.w * y.c;
    let rows = output.par_chunks_exact_mut(row).enumerate();
    rows.with_min_len((4096 / row).max(1)).for_each(|(at, output)| {
        let picture = &input[at / y.h * x.h * x.w * x.c..][..x.h * x.w * x.c];
        let within = |at: usize, before: usize, size: usize| {
            let first = at * pool.stride;
            first.saturating_sub(before)..(first + pool.kernel).saturating_sub(before).min(size)
        };
        vectorised!({
            for (column, output) in output.chunks_exact_mut(y.c).enumerate() {
                output.fill(least);
                for row in within(at % y.h, window.top, x.h) {
                    for column in within(column, window.left, x.w) {
                        let pixel = &picture[(row * x.w + column) * x.c..][..x.c];
                        for (largest, value) in output.iter_mut().zip(pixel) {
                            *largest = if value > largest { *value } else { *largest };
                        }
                    }
                }
            }
        });
    });
}

/// Concatenates maps. `each` is applied to every copied part, with the index of its map.
pub fn concat<'a, T: Copy + 'a>(
    joint: ConcatAxis,
    inputs: impl Iterator<Item = (Shape, &'a [T])>,
    y: Shape,
    output: &mut [T],
    each: impl Fn(usize, &mut [T]),
) {
    // Values that are contiguous in the output, and the part of them from one input: a pixel's channels, or a
    // whole picture.
    let (whole, part): (usize, fn(Shape) -> usize) = match joint {
        ConcatAxis::Channels => (y.c, |x| x.c),
        ConcatAxis::Pixels => (y.h * y.w * y.c, |x| x.h * x.w * x.c),
    };
    let mut first = 0;
    for (at, (x, input)) in inputs.enumerate() {
        let part = part(x);
        for (output, input) in output.chunks_exact_mut(whole).zip(input.chunks_exact(part)) {
            let output = &mut output[first..first + part];
            output.copy_from_slice(input);
            each(at, output);
        }
        first += part;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies the vector activation to every value.
    struct Activated<'a>(&'a mut [f32], Activation);

    impl pulp::WithSimd for Activated<'_> {
        type Output = ();

        fn with_simd<S: Simd>(self, simd: S) {
            for value in self.0 {
                let mut vector = [0.0; 64];
                simd.partial_store_f32s(
                    &mut vector[..S::F32_LANES],
                    activate(simd, simd.splat_f32s(*value), self.1),
                );
                *value = vector[0];
            }
        }
    }

    #[test]
    fn vector_activations_match_their_functions() {
        let xs: Vec<f32> =
            (-4000..=4000).map(|i| i as f32 * 0.03).chain([-1e30, -0.0, 1e-30, 1e30]).collect();
        for activation in [Activation::Relu, Activation::Relu6, Activation::HardSwish, Activation::Swish] {
            let mut found = xs.clone();
            pulp::Arch::new().dispatch(Activated(&mut found, activation));
            for (x, found) in xs.iter().zip(found) {
                let exact = match activation {
                    Activation::Swish => (f64::from(*x) / (1.0 + (-f64::from(*x)).exp())) as f32,
                    _ => activation.apply(*x),
                };
                // Far below zero the exponent is clamped to 87, and swish is close to 0.
                let most = 4e-7 * exact.abs() + 1e-37 * x.abs();
                assert!((found - exact).abs() <= most, "{activation} {x}: {found}, {exact}");
            }
        }
    }
}
