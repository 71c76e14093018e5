//! Operations channel by channel: means, gates, max pooling and concatenation.

use std::ops::Range;

use aligned_vec::{AVec, avec};
use pulp::Simd;

use super::threads;
use crate::{
    Shape,
    graph::{ConcatAxis, Conv, MaxPool, Window},
};

/// Returns a convolution's bias, zeros if it has none.
pub fn bias(conv: &Conv) -> AVec<f32> {
    conv.bias.as_ref().map_or_else(|| avec![0.0; conv.outputs()], |bias| AVec::from_slice(0, bias.data()))
}

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
pub fn scale(x: Shape, input: &[f32], gates: &[f32], output: &mut [f32], threads: usize) {
    let row = x.w * x.c;
    threads::bands(threads, output, row, 16 << 10, |first, band| {
        let rows = band.chunks_exact_mut(row).zip(input[first * row..].chunks_exact(row));
        for (at, (output, input)) in rows.enumerate() {
            let gates = &gates[(first + at) / x.h * x.c..][..x.c];
            vectorised!({
                for (output, input) in output.chunks_exact_mut(x.c).zip(input.chunks_exact(x.c)) {
                    for ((output, input), gate) in output.iter_mut().zip(input).zip(gates) {
                        *output = input * gate;
                    }
                }
            });
        }
    });
}

/// Applies max pooling. Pixels off the map do not count, and no result is below `least`.
#[allow(clippy::too_many_arguments)]
pub fn max_pool<T: Copy + PartialOrd + Send + Sync>(
    pool: MaxPool,
    window: Window,
    x: Shape,
    input: &[T],
    y: Shape,
    output: &mut [T],
    least: T,
    threads: usize,
) {
    let row = y.w * y.c;
    let within = |at: usize, before: usize, size: usize| {
        let first = at * pool.stride;
        first.saturating_sub(before)..(first + pool.kernel).saturating_sub(before).min(size)
    };
    threads::bands(threads, output, row, 4 << 10, |first, band| {
        for (at, output) in band.chunks_exact_mut(row).enumerate() {
            let at = first + at;
            let picture = &input[at / y.h * x.h * x.w * x.c..][..x.h * x.w * x.c];
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
        }
    });
}

/// Concatenates maps. `each` is applied to every copied part, with the index of its map.
pub fn concat<'a, T: Copy + 'a>(
    axis: ConcatAxis,
    inputs: impl Iterator<Item = (Shape, &'a [T])>,
    y: Shape,
    output: &mut [T],
    each: impl Fn(usize, &mut [T]),
) {
    // Values that are contiguous in the output, and the part of them from one input: a pixel's channels, or a
    // whole picture.
    let (whole, part): (usize, fn(Shape) -> usize) = match axis {
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
