//! What is done to a pixel's channels one after another: bias, residual and activation, means,
//! gates, maxima, and joints.

use std::ops::Range;

use aligned_vec::{AVec, avec};
use pulp::{Arch, Simd};
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

/// The function, of a vector, but for gates'. No closure stands between vectors and the loop around them, here and in what calls
/// this: one that is not inlined lacks the processor's features, and makes a call of every instruction.
#[inline(always)]
pub fn activate<S: Simd>(simd: S, x: S::f32s, activation: Activation) -> S::f32s {
    match activation {
        Activation::Identity => x,
        Activation::Relu => simd.max_f32s(x, simd.splat_f32s(0.0)),
        Activation::Relu6 => relu6(simd, x),
        Activation::HardSwish => simd.mul_f32s(x, hard_sigmoid(simd, x)),
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
        Arch::new().dispatch(|| {
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
        Arch::new().dispatch(|| {
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
        Arch::new().dispatch(|| {
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
