//! What is done to a pixel's channels one after another: bias, residual and activation, means,
//! gates, maxima, and joints.

use std::ops::Range;

use aligned_vec::{AVec, avec};
use pulp::Simd;
use rayon::prelude::*;

use crate::{
    Shape,
    graph::{Activation, Conv, Joint, MaxPool, Window},
};

/// A convolution's bias, zeros if it has none.
pub fn bias(conv: &Conv) -> AVec<f32> {
    conv.bias.as_ref().map_or_else(|| avec![0.0; conv.outputs()], |bias| AVec::from_slice(0, bias.data()))
}

#[inline(always)]
fn relu6<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.min_f32s(simd.max_f32s(x, simd.splat_f32s(0.0)), simd.splat_f32s(6.0))
}

#[inline(always)]
fn hard_sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let x = relu6(simd, simd.add_f32s(x, simd.splat_f32s(3.0)));
    simd.mul_f32s(x, simd.splat_f32s(1.0 / 6.0))
}

/// x / (1 + exp(-x)). The exponential is 2^n exp(r) with n whole and r at most half of ln 2, and exp(r) the polynomial of
/// Cephes' `expf`: within two units in the last place.
#[inline(always)]
fn swish<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| simd.splat_f32s(value);
    // Added to a number, it leaves no room for a fraction, and what is whole of it in the lowest bits.
    let whole = splat(12_582_912.0);
    // Beyond 87 exponentials of both signs leave f32.
    let t = simd.max_f32s(simd.min_f32s(simd.neg_f32s(x), splat(87.0)), splat(-87.0));
    let n = simd.mul_add_f32s(t, splat(std::f32::consts::LOG2_E), whole);
    let bits = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(n), simd.splat_u32s(23));
    let power = simd.transmute_f32s_u32s(simd.add_u32s(bits, simd.splat_u32s(1.0f32.to_bits())));
    let n = simd.sub_f32s(n, whole);
    // ln 2 in two parts, the first of so few bits that its product with n is exact.
    let r = simd.mul_add_f32s(n, splat(-0.693_359_4), t);
    let r = simd.mul_add_f32s(n, splat(2.121_944_4e-4), r);
    let mut sum = splat(1.987_569_1e-4);
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        sum = simd.mul_add_f32s(sum, r, splat(factor));
    }
    let exp = simd.mul_add_f32s(sum, simd.mul_f32s(r, r), simd.add_f32s(r, splat(1.0)));
    simd.div_f32s(x, simd.mul_add_f32s(exp, power, splat(1.0)))
}

/// The function, of a vector, but for gates'. No closure stands between vectors and the loop around them, here and in what calls
/// this: one that is not inlined lacks the processor's features, and makes a call of every instruction.
#[inline(always)]
pub fn activate<S: Simd>(simd: S, x: S::f32s, activation: Activation) -> S::f32s {
    match activation {
        Activation::Identity => x,
        Activation::Relu => simd.max_f32s(x, simd.splat_f32s(0.0)),
        Activation::Relu6 => relu6(simd, x),
        Activation::HardSwish => simd.mul_f32s(x, hard_sigmoid(simd, x)),
        Activation::Swish => swish(simd, x),
        // Of gates' few values: see `activate_late`.
        Activation::HardSigmoid | Activation::Sigmoid => x,
    }
}

/// What [`activate`] leaves out, once a convolution has stored its sums.
pub fn activate_late(activation: Activation, values: &mut [f32]) {
    if matches!(activation, Activation::HardSigmoid | Activation::Sigmoid) {
        values.iter_mut().for_each(|value| *value = activation.apply(*value));
    }
}

/// Does something with the code of an activation as a constant, so that no vector chooses among functions. Gates' are
/// nobody's: see [`activate_late`].
macro_rules! with_code {
    ($activation:expr, $code:ident => $does:expr) => {
        match $activation {
            Activation::Relu => {
                const $code: u32 = Activation::Relu.code();
                $does
            }
            Activation::Relu6 => {
                const $code: u32 = Activation::Relu6.code();
                $does
            }
            Activation::HardSwish => {
                const $code: u32 = Activation::HardSwish.code();
                $does
            }
            Activation::Swish => {
                const $code: u32 = Activation::Swish.code();
                $does
            }
            _ => {
                const $code: u32 = Activation::Identity.code();
                $does
            }
        }
    };
}
pub(super) use with_code;

/// Whether every value that was looked at is finite: activations hide what is not.
#[derive(Clone, Copy)]
pub struct Finite<S: Simd>(S::f32s);

impl<S: Simd> Finite<S> {
    #[inline(always)]
    pub fn new(simd: S) -> Self {
        Self(simd.splat_f32s(0.0))
    }

    /// Looks at a vector: what is not finite, less itself, is no number, and stays so. Sums, as processors have other
    /// units for them than for products.
    #[inline(always)]
    pub fn see(&mut self, simd: S, x: S::f32s) {
        self.0 = simd.add_f32s(self.0, simd.sub_f32s(x, x));
    }

    #[inline(always)]
    pub fn all(self, simd: S) -> bool {
        !simd.reduce_sum_f32s(self.0).is_nan()
    }
}

/// The first run of what is so, of so many: outputs whose windows lie within a map.
pub fn first_run(len: usize, so: impl Fn(usize) -> bool) -> Range<usize> {
    let first = (0..len).find(|&at| so(at)).unwrap_or(len);
    first..(first..len).find(|&at| !so(at)).unwrap_or(len)
}

/// The mean of each channel over a picture's pixels.
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

/// Each channel times its gate.
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

/// The largest value of each window, and no less than `least`: pixels beyond the map do not count.
pub fn largest<T: Copy + PartialOrd + Send + Sync>(
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

/// Maps joined into one; `each` is done to what is copied of the map with this number.
pub fn join<'a, T: Copy + 'a>(
    joint: Joint,
    inputs: impl Iterator<Item = (Shape, &'a [T])>,
    y: Shape,
    output: &mut [T],
    each: impl Fn(usize, &mut [T]),
) {
    // Of each input what lies together in the output: channels of a pixel, or all of a picture.
    let (whole, part): (usize, fn(Shape) -> usize) = match joint {
        Joint::Channels => (y.c, |x| x.c),
        Joint::Pixels => (y.h * y.w * y.c, |x| x.h * x.w * x.c),
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

    /// Every value of a table, by the function that vectors have.
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
    fn vectors_have_the_functions_values() {
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
                // Far below zero, where the exponential is that of 87, a swish is next to nothing.
                let most = 4e-7 * exact.abs() + 1e-37 * x.abs();
                assert!((found - exact).abs() <= most, "{activation} {x}: {found}, {exact}");
            }
        }
    }
}
