//! Depthwise convolution: every channel by itself, so a vector is a few channels of one pixel.

use std::ops::Range;

use aligned_vec::AVec;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::pixelwise::{self, Finite, activate};
use crate::{
    Shape,
    graph::{Activation, Conv, Window},
};

/// Neighbouring outputs that a loop makes together: each weight is loaded once for all of them.
const RUN: usize = 4;

/// A depthwise convolution with its weights as the loops read them.
pub struct Depthwise {
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: [usize; 2],
    /// `[kernel][kernel][channels]`
    weights: AVec<f32>,
    bias: AVec<f32>,
    activation: Activation,
}

impl Depthwise {
    pub fn new(conv: &Conv, window: Window) -> Self {
        let (taps, channels) = (conv.kernel() * conv.kernel(), conv.outputs());
        let weight = conv.weight.data();
        Self {
            kernel: conv.kernel(),
            stride: conv.stride,
            dilation: conv.dilation,
            padding: [window.top, window.left],
            weights: AVec::from_iter(
                0,
                (0..taps * channels).map(|i| weight[i % channels * taps + i / channels]),
            ),
            bias: pixelwise::bias(conv),
            activation: conv.activation,
        }
    }

    /// Values of weights and biases.
    pub fn weights(&self) -> usize {
        self.weights.len() + self.bias.len()
    }

    /// From pictures of shape `x` to pictures of shape `y`, rows in parallel; whether all sums are finite.
    pub fn run(
        &self,
        x: Shape,
        input: &[f32],
        y: Shape,
        output: &mut [f32],
        residual: Option<&[f32]>,
    ) -> bool {
        let picture = x.h * x.w * x.c;
        let rows = output.par_chunks_exact_mut(y.w * y.c).enumerate();
        // A task of fewer values than this would cost more to hand over than to do.
        let row = |(at, row): (usize, &mut [f32])| {
            let input = &input[at / y.h * picture..][..picture];
            let residual = residual.map(|residual| &residual[at * row.len()..][..row.len()]);
            Arch::new().dispatch(Row { conv: self, x, input, y: at % y.h, output: row, residual })
        };
        rows.with_min_len((8192 / (y.w * y.c)).max(1)).map(row).reduce(|| true, |a, b| a && b)
    }

    /// The taps, in one direction, that meet the map of `size` for the output at `at`.
    fn taps(&self, at: usize, before: usize, size: usize) -> Range<usize> {
        let first = (at * self.stride) as isize - before as isize;
        let step = self.dilation as isize;
        let skipped = if first < 0 { (-first + step - 1) / step } else { 0 };
        let reach = (size as isize - first + step - 1) / step;
        skipped as usize..(reach.clamp(skipped, self.kernel as isize)) as usize
    }
}

/// One row of outputs.
struct Row<'a> {
    conv: &'a Depthwise,
    x: Shape,
    /// The picture.
    input: &'a [f32],
    /// Which row.
    y: usize,
    output: &'a mut [f32],
    residual: Option<&'a [f32]>,
}

impl WithSimd for Row<'_> {
    /// Whether all sums are finite.
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let mut finite = Finite::new(simd);
        let Self { conv, x, y, .. } = self;
        assert!(self.input.len() == x.h * x.w * x.c && conv.bias.len() == x.c);
        assert!(self.residual.is_none_or(|residual| residual.len() == self.output.len()));
        let rows = conv.taps(y, conv.padding[0], x.h);
        let width = self.output.len() / x.c;
        let whole = |column: usize| {
            let taps = conv.taps(column, conv.padding[1], x.w);
            taps.start == 0 && taps.end == conv.kernel
        };
        let mut column = 0;
        while column < width {
            let run = if column + RUN <= width && whole(column) && whole(column + RUN - 1) { RUN } else { 1 };
            let columns = conv.taps(column, conv.padding[1], x.w);
            let pixels = Pixels {
                simd,
                conv,
                x,
                input: self.input,
                row: y,
                rows: rows.clone(),
                column,
                columns,
                output: &mut self.output[column * x.c..][..run * x.c],
                residual: self.residual.map(|residual| &residual[column * x.c..][..run * x.c]),
                finite: &mut finite,
            };
            match run {
                RUN => pixels.run::<RUN, 1>(),
                _ => pixels.run::<1, RUN>(),
            }
            column += run;
        }
        finite.all(simd)
    }
}

/// Outputs beside one another that meet the map with the same taps.
struct Pixels<'a, S: Simd> {
    simd: S,
    conv: &'a Depthwise,
    x: Shape,
    input: &'a [f32],
    /// The outputs' row and the first one's column.
    row: usize,
    column: usize,
    /// Taps that meet the map.
    rows: Range<usize>,
    columns: Range<usize>,
    output: &'a mut [f32],
    residual: Option<&'a [f32]>,
    finite: &'a mut Finite<S>,
}

impl<S: Simd> Pixels<'_, S> {
    /// `N` pixels, `V` vectors of channels at a time: sums that do not wait for one another.
    #[inline(always)]
    fn run<const N: usize, const V: usize>(mut self) {
        let c = self.x.c;
        let mut channel = 0;
        while channel + V * S::F32_LANES <= c {
            self.tile::<N, V, true>(channel);
            channel += V * S::F32_LANES;
        }
        while channel + S::F32_LANES <= c {
            self.tile::<N, 1, true>(channel);
            channel += S::F32_LANES;
        }
        if channel < c {
            self.tile::<N, 1, false>(channel);
        }
    }

    /// The channels from `channel` on: whole vectors, or what is left of one.
    #[inline(always)]
    fn tile<const N: usize, const V: usize, const WHOLE: bool>(&mut self, channel: usize) {
        let Self { simd, conv, x, input, .. } = *self;
        let (c, next) = (x.c, conv.stride * x.c);
        let vector = |v: usize| v * S::F32_LANES;
        let left = c - channel;
        let mut sums = [[simd.splat_f32s(0.0); V]; N];
        for sums in &mut sums {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = load::<S, WHOLE>(simd, &conv.bias, channel + vector(v), left);
            }
        }
        for ky in self.rows.clone() {
            // Taps that meet the map are within it: neither difference is ever negative.
            let row = self.row * conv.stride + ky * conv.dilation - conv.padding[0];
            let column = self.column * conv.stride + self.columns.start * conv.dilation - conv.padding[1];
            let mut at = (row * x.w + column) * c + channel;
            let mut tap = (ky * conv.kernel + self.columns.start) * c + channel;
            for _ in self.columns.clone() {
                for v in 0..V {
                    let weight = load::<S, WHOLE>(simd, &conv.weights, tap + vector(v), left);
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let value = load::<S, WHOLE>(simd, input, at + i * next + vector(v), left);
                        sums[v] = simd.mul_add_f32s(value, weight, sums[v]);
                    }
                }
                at += conv.dilation * c;
                tap += c;
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (v, mut sum) in sums.into_iter().enumerate() {
                let first = i * c + channel + vector(v);
                if let Some(residual) = self.residual {
                    sum = simd.add_f32s(sum, load::<S, WHOLE>(simd, residual, first, left));
                }
                self.finite.see(simd, sum);
                let sum = activate(simd, sum, conv.activation);
                let out = &mut self.output[first..(i + 1) * c];
                if WHOLE { S::as_mut_simd_f32s(out).0[0] = sum } else { simd.partial_store_f32s(out, sum) }
            }
        }
    }
}

/// The vector at `at`, or, unless it is a `WHOLE` one, the `rest` values that are left there.
#[inline(always)]
#[allow(unsafe_code)]
fn load<S: Simd, const WHOLE: bool>(simd: S, values: &[f32], at: usize, rest: usize) -> S::f32s {
    if !WHOLE {
        return simd.partial_load_f32s(&values[at..at + rest]);
    }
    debug_assert!(at + S::F32_LANES <= values.len());
    // SAFETY: a tap that meets the map lies within it, `Row` has checked that the map, weights and
    // biases are as long as their shapes say, and a whole vector of channels lies within its pixel.
    // A check of every load takes longer than the sums.
    unsafe { values.as_ptr().add(at).cast::<S::f32s>().read_unaligned() }
}
