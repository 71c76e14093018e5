//! Depthwise convolution: every channel by itself, so a vector is a few channels of one pixel.

use std::ops::Range;

use aligned_vec::AVec;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::pixelwise::{self, activate};
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

    /// From pictures of shape `x` to pictures of shape `y`, rows in parallel.
    pub fn run(&self, x: Shape, input: &[f32], y: Shape, output: &mut [f32], residual: Option<&[f32]>) {
        let picture = x.h * x.w * x.c;
        let rows = output.par_chunks_exact_mut(y.w * y.c).enumerate();
        // A task of fewer values than this would cost more to hand over than to do.
        rows.with_min_len((8192 / (y.w * y.c)).max(1)).for_each(|(at, row)| {
            let input = &input[at / y.h * picture..][..picture];
            let residual = residual.map(|residual| &residual[at * row.len()..][..row.len()]);
            Arch::new().dispatch(Row { conv: self, x, input, y: at % y.h, output: row, residual });
        });
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
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
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
            let place = Place { row: y, rows: rows.clone(), column, columns };
            let out = &mut self.output[column * x.c..][..run * x.c];
            let residual = self.residual.map(|residual| &residual[column * x.c..][..run * x.c]);
            if run == RUN {
                pixels::<S, RUN>(simd, conv, x, self.input, place, out, residual);
            } else {
                pixels::<S, 1>(simd, conv, x, self.input, place, out, residual);
            }
            column += run;
        }
    }
}

/// An output's place, and the taps that meet the map there.
struct Place {
    row: usize,
    rows: Range<usize>,
    column: usize,
    columns: Range<usize>,
}

/// `N` outputs beside one another that meet the map with the same taps.
#[inline(always)]
fn pixels<S: Simd, const N: usize>(
    simd: S,
    conv: &Depthwise,
    x: Shape,
    input: &[f32],
    place: Place,
    output: &mut [f32],
    residual: Option<&[f32]>,
) {
    let whole = x.c - x.c % S::F32_LANES;
    for channel in (0..whole).step_by(S::F32_LANES) {
        vector::<S, N, true>(simd, conv, x, input, &place, output, residual, channel);
    }
    if whole < x.c {
        vector::<S, N, false>(simd, conv, x, input, &place, output, residual, whole);
    }
}

/// The same of a vector of channels from `channel` on, or of those that are left.
#[inline(always)]
#[allow(clippy::too_many_arguments)] // the loop nest of one kernel
fn vector<S: Simd, const N: usize, const WHOLE: bool>(
    simd: S,
    conv: &Depthwise,
    x: Shape,
    input: &[f32],
    place: &Place,
    output: &mut [f32],
    residual: Option<&[f32]>,
    channel: usize,
) {
    let (c, next) = (x.c, conv.stride * x.c);
    let mut sums = [load::<S, WHOLE>(simd, &conv.bias, channel, c - channel); N];
    for ky in place.rows.clone() {
        // Taps that meet the map are within it: neither difference is ever negative.
        let row = place.row * conv.stride + ky * conv.dilation - conv.padding[0];
        let column = place.column * conv.stride + place.columns.start * conv.dilation - conv.padding[1];
        let mut at = (row * x.w + column) * c + channel;
        let mut tap = (ky * conv.kernel + place.columns.start) * c + channel;
        for _ in place.columns.clone() {
            let weight = load::<S, WHOLE>(simd, &conv.weights, tap, c - channel);
            for (i, sum) in sums.iter_mut().enumerate() {
                let value = load::<S, WHOLE>(simd, input, at + i * next, c - channel);
                *sum = simd.mul_add_f32s(value, weight, *sum);
            }
            at += conv.dilation * c;
            tap += c;
        }
    }
    for (i, mut sum) in sums.into_iter().enumerate() {
        let channels = i * c + channel..(i + 1) * c;
        if let Some(residual) = residual {
            sum = simd.add_f32s(sum, load::<S, WHOLE>(simd, residual, channels.start, c - channel));
        }
        let sum = activate(simd, sum, conv.activation);
        let out = &mut output[channels];
        if WHOLE { S::as_mut_simd_f32s(out).0[0] = sum } else { simd.partial_store_f32s(out, sum) }
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
