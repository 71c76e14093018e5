//! Depthwise convolution, vectorised over the channels of one pixel.

use std::ops::Range;

use aligned_vec::AVec;
use pulp::{Arch, Simd, WithSimd};

use super::{
    activation::{self, Function, with_function},
    memory::{Buffer, Memory},
    pixelwise::{self, Finite, first_run},
    threads,
};
use crate::{
    Shape,
    graph::{Activation, Conv, Window},
};

/// Bytes of a task's input. A task passes over its input once per vector of channels, so the input should
/// stay in the core's cache.
const CACHE: usize = 256 << 10;

/// The least number of outputs per task: below it, scheduling takes longer than computing.
const LEAST_OUTPUTS: usize = 8192;

/// A depthwise convolution with packed weights.
pub struct Depthwise {
    kernel: usize,
    stride: usize,
    dilation: usize,
    padding: [usize; 2],
    /// `[kernel][kernel][channels]`
    weights: Buffer<f32>,
    bias: AVec<f32>,
    activation: Activation,
}

impl Depthwise {
    pub fn new(conv: &Conv, window: Window, memory: &mut Memory) -> Self {
        let (taps, channels) = (conv.kernel() * conv.kernel(), conv.outputs());
        let weight = conv.weight.data();
        let packed = (0..taps * channels).map(|i| weight[i % channels * taps + i / channels]);
        Self {
            kernel: conv.kernel(),
            stride: conv.stride,
            dilation: conv.dilation,
            padding: [window.top, window.left],
            weights: memory.copy_of(&packed.collect::<Vec<_>>()),
            bias: pixelwise::bias(conv),
            activation: conv.activation,
        }
    }

    /// The number of weights and biases.
    pub fn weights(&self) -> usize {
        self.weights.len() + self.bias.len()
    }

    /// Runs on maps of shape `x`, giving maps of shape `y`, with the rows split over `threads` threads.
    /// Returns whether all sums are finite.
    pub fn run(
        &self,
        x: Shape,
        input: &[f32],
        y: Shape,
        output: &mut [f32],
        residual: Option<&[f32]>,
        threads: usize,
    ) -> bool {
        let (picture, row) = (x.h * x.w * x.c, y.w * y.c);
        let fit = CACHE / (4 * x.w * x.c * self.stride);
        let rows =
            fit.clamp(1, y.h.div_ceil(threads.div_ceil(y.n))).max(LEAST_OUTPUTS.div_ceil(row)).min(y.h);
        // A band lies within one picture.
        let bands = output.chunks_exact_mut(y.h * row).enumerate().flat_map(|(n, picture)| {
            picture.chunks_mut(rows * row).enumerate().map(move |(band, output)| (n, band * rows, output))
        });
        let band = |(n, first, output): (usize, usize, &mut [f32])| {
            let residual = residual.map(|residual| &residual[(n * y.h + first) * row..][..output.len()]);
            let input = &input[n * picture..][..picture];
            Band { conv: self, x, input, first, width: y.w, output, residual }.run()
        };
        let finite = threads::all(threads, bands.collect(), band);
        activation::activate_late(self.activation, output);
        finite
    }

    /// The taps along one axis that are on a map of `size`, for output `at`.
    fn taps(&self, at: usize, before: usize, size: usize) -> Range<usize> {
        let first = (at * self.stride) as isize - before as isize;
        let step = self.dilation as isize;
        let skipped = if first < 0 { (-first + step - 1) / step } else { 0 };
        let reach = (size as isize - first + step - 1) / step;
        skipped as usize..(reach.clamp(skipped, self.kernel as isize)) as usize
    }
}

/// A band of output rows of one picture.
struct Band<'a> {
    conv: &'a Depthwise,
    x: Shape,
    /// The picture's input map.
    input: &'a [f32],
    /// The first row.
    first: usize,
    width: usize,
    output: &'a mut [f32],
    residual: Option<&'a [f32]>,
}

impl WithSimd for Band<'_> {
    /// True if all sums are finite.
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> bool {
        let mut finite = Finite::new(simd);
        let Self { conv, x, first, width, .. } = self;
        let rows = self.output.len() / (width * x.c);
        assert!(self.input.len() == x.h * x.w * x.c && conv.bias.len() == x.c);
        assert!(conv.weights.len() == conv.kernel * conv.kernel * x.c);
        assert!(self.output.len() == rows * width * x.c);
        assert!(self.residual.is_none_or(|residual| residual.len() == self.output.len()));
        // Sweeps are only for vectors: in scalar builds they would add code without saving time.
        if matches!(conv.kernel, 3 | 5) && S::F32_LANES > 1 && x.c >= S::F32_LANES {
            // Columns whose taps are all on the map.
            let inner =
                first_run(width, |column| conv.taps(column, conv.padding[1], x.w).len() == conv.kernel);
            let mut channel = 0;
            while channel < x.c {
                // The last vector may overlap the previous one.
                let from = channel.min(x.c - S::F32_LANES);
                let mut row = 0;
                while row < rows {
                    row += with_function!(conv.activation, function => {
                        self.rows(simd, from, row, &inner, function, &mut finite)
                    });
                }
                channel += S::F32_LANES;
            }
            return finite.all(simd);
        }
        for (row, column) in (0..rows).flat_map(|row| (0..width).map(move |column| (row, column))) {
            let at = (row * width + column) * x.c;
            let taps =
                [conv.taps(first + row, conv.padding[0], x.h), conv.taps(column, conv.padding[1], x.w)];
            let mut pixel = Pixel {
                simd,
                conv,
                x,
                input: self.input,
                at: [first + row, column],
                taps,
                output: &mut self.output[at..at + x.c],
                residual: self.residual.map(|residual| &residual[at..at + x.c]),
                finite: &mut finite,
            };
            pixel.run();
        }
        finite.all(simd)
    }
}

impl Band<'_> {
    /// Computes the band. Returns whether all sums are finite.
    fn run(self) -> bool {
        Arch::new().dispatch(self)
    }

    /// Sweeps one or two rows from `row` on and returns their number.
    #[inline(always)]
    fn rows<S: Simd, F: Function>(
        &mut self,
        simd: S,
        channel: usize,
        row: usize,
        inner: &Range<usize>,
        function: F,
        finite: &mut Finite<S>,
    ) -> usize {
        let Depthwise { kernel, stride, dilation, .. } = *self.conv;
        let two = dilation == 1 && row + 1 < self.output.len() / (self.width * self.x.c);
        match (kernel, stride) {
            (3, 1) if two => self.sweep::<S, 3, 9, 2, 1, 4, F>(simd, channel, row, inner, function, finite),
            (3, 2) if two => self.sweep::<S, 3, 9, 2, 2, 5, F>(simd, channel, row, inner, function, finite),
            (3, _) => self.sweep::<S, 3, 9, 1, 1, 3, F>(simd, channel, row, inner, function, finite),
            (_, 1) if two => self.sweep::<S, 5, 25, 2, 1, 6, F>(simd, channel, row, inner, function, finite),
            (_, 2) if two => self.sweep::<S, 5, 25, 2, 2, 7, F>(simd, channel, row, inner, function, finite),
            _ => self.sweep::<S, 5, 25, 1, 1, 5, F>(simd, channel, row, inner, function, finite),
        }
    }

    /// Computes one vector of channels in `ROWS` rows. Weights stay in registers. Two adjacent rows, which start
    /// `STRIDE` input rows apart, share each load from the `LINES` input rows that they read. All taps of the
    /// columns `inner` are on the map.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn sweep<
        S: Simd,
        const K: usize,
        const TAPS: usize,
        const ROWS: usize,
        const STRIDE: usize,
        const LINES: usize,
        F: Function,
    >(
        &mut self,
        simd: S,
        channel: usize,
        row: usize,
        inner: &Range<usize>,
        function: F,
        finite: &mut Finite<S>,
    ) -> usize {
        let Self { conv, x, first, width, .. } = *self;
        let (next, step) = (conv.dilation * x.c, conv.stride * x.c);
        // SAFETY: taps off the map are skipped, and a whole vector of channels lies within its pixel. `with_simd`
        // checks that map, weights, biases, outputs and residual have the lengths of their shapes.
        unsafe {
            let vector =
                |values: *const f32, at: usize| values.wrapping_add(at).cast::<S::f32s>().read_unaligned();
            let bias = vector(conv.bias.as_ptr(), channel);
            let weights: [S::f32s; TAPS] =
                std::array::from_fn(|tap| vector(conv.weights.as_ptr(), tap * x.c + channel));
            let line = |l: usize| {
                ((first + row) * conv.stride + l * conv.dilation)
                    .checked_sub(conv.padding[0])
                    .filter(|&at| at < x.h)
            };
            let on_map: [bool; LINES] = std::array::from_fn(|l| line(l).is_some());
            // Of each line, the first tap of the first column, which may lie before the map.
            let starts: [*const f32; LINES] = std::array::from_fn(|l| {
                let line = self.input.as_ptr().add(line(l).unwrap_or(0) * x.w * x.c + channel);
                line.wrapping_sub(conv.padding[1] * x.c)
            });
            let output = self.output.as_mut_ptr().add(row * width * x.c + channel);
            let residual = self.residual.map(|residual| residual.as_ptr().add(row * width * x.c + channel));
            // The outputs of a column, with the taps for which `$has` is true. The order of additions does not
            // depend on how rows are split.
            macro_rules! column {
                ($lines:expr, $at:expr, $has:expr) => {
                    let mut sums = [bias; ROWS];
                    for l in 0..LINES {
                        if on_map[l] {
                            for kx in 0..K {
                                if $has(kx) {
                                    let value = vector($lines[l], kx * next);
                                    for (r, sum) in sums.iter_mut().enumerate() {
                                        if l >= r * STRIDE && l - r * STRIDE < K {
                                            *sum = simd.mul_add_e_f32s(
                                                value,
                                                weights[(l - r * STRIDE) * K + kx],
                                                *sum,
                                            );
                                        }
                                    }
                                }
                            }
                        }
                    }
                    for (r, mut sum) in sums.into_iter().enumerate() {
                        let at = $at + r * width * x.c;
                        if let Some(residual) = residual {
                            sum = simd.add_f32s(sum, vector(residual, at));
                        }
                        finite.check(simd, sum);
                        let sum = function.apply(simd, sum);
                        output.add(at).cast::<S::f32s>().write_unaligned(sum);
                    }
                };
            }
            for column in (0..inner.start).chain(inner.end..width) {
                let taps = conv.taps(column, conv.padding[1], x.w);
                let lines = starts.map(|start| start.wrapping_add(column * step));
                column!(lines, column * x.c, |kx| taps.contains(&kx));
            }
            let mut lines = starts.map(|start| start.wrapping_add(inner.start * step));
            let mut at = inner.start * x.c;
            for _ in inner.clone() {
                column!(lines, at, |_| true);
                lines = lines.map(|line| line.wrapping_add(step));
                at += x.c;
            }
        }
        ROWS
    }
}

/// One output pixel, for any kernel size and number of channels.
struct Pixel<'a, S: Simd> {
    simd: S,
    conv: &'a Depthwise,
    x: Shape,
    input: &'a [f32],
    /// Its row and column.
    at: [usize; 2],
    /// The taps that are on the map, along rows and columns.
    taps: [Range<usize>; 2],
    output: &'a mut [f32],
    residual: Option<&'a [f32]>,
    finite: &'a mut Finite<S>,
}

impl<S: Simd> Pixel<'_, S> {
    /// Computes four vectors of channels at a time: independent sums hide latency.
    #[inline(always)]
    fn run(&mut self) {
        let (c, mut channel) = (self.x.c, 0);
        while channel + 4 * S::F32_LANES <= c {
            self.tile::<4, true>(channel);
            channel += 4 * S::F32_LANES;
        }
        while channel + S::F32_LANES <= c {
            self.tile::<1, true>(channel);
            channel += S::F32_LANES;
        }
        if channel < c {
            self.tile::<1, false>(channel);
        }
    }

    /// Computes the channels from `channel` on: `V` whole vectors, or one partial vector.
    #[inline(always)]
    fn tile<const V: usize, const WHOLE: bool>(&mut self, channel: usize) {
        let Self { simd, conv, x, input, at: [row, column], .. } = *self;
        let [rows, columns] = self.taps.clone();
        let (c, left) = (x.c, x.c - channel);
        let vector = |v: usize| channel + v * S::F32_LANES;
        let mut sums: [S::f32s; V] =
            std::array::from_fn(|v| load::<S, WHOLE>(simd, &conv.bias, vector(v), left));
        for ky in rows {
            // The taps are on the map, so that neither difference is negative.
            let row = row * conv.stride + ky * conv.dilation - conv.padding[0];
            for kx in columns.clone() {
                let column = column * conv.stride + kx * conv.dilation - conv.padding[1];
                let (at, tap) = ((row * x.w + column) * c, (ky * conv.kernel + kx) * c);
                for (v, sum) in sums.iter_mut().enumerate() {
                    let weight = load::<S, WHOLE>(simd, &conv.weights, tap + vector(v), left);
                    let value = load::<S, WHOLE>(simd, input, at + vector(v), left);
                    *sum = simd.mul_add_e_f32s(value, weight, *sum);
                }
            }
        }
        for (v, mut sum) in sums.into_iter().enumerate() {
            if let Some(residual) = self.residual {
                sum = simd.add_f32s(sum, load::<S, WHOLE>(simd, residual, vector(v), left));
            }
            self.finite.check(simd, sum);
            let sum = with_function!(conv.activation, function => function.apply(simd, sum));
            let out = &mut self.output[vector(v)..];
            if WHOLE { S::as_mut_simd_f32s(out).0[0] = sum } else { simd.partial_store_f32s(out, sum) }
        }
    }
}

/// Loads the vector at `at`, or the `rest` remaining values if it is not `WHOLE`.
#[inline(always)]
#[allow(unsafe_code)]
fn load<S: Simd, const WHOLE: bool>(simd: S, values: &[f32], at: usize, rest: usize) -> S::f32s {
    if !WHOLE {
        return simd.partial_load_f32s(&values[at..at + rest]);
    }
    debug_assert!(at + S::F32_LANES <= values.len());
    // SAFETY: the tap is on the map, `Band` checks that map, weights and biases have the lengths of their
    // shapes, and a whole vector of channels lies within its pixel. A bounds check per load takes longer than
    // the arithmetic.
    unsafe { values.as_ptr().add(at).cast::<S::f32s>().read_unaligned() }
}
