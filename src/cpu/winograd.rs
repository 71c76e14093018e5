//! Dense 3x3 convolutions by Winograd's F(2x2, 3x3) (Lavin and Gray, arXiv 1509.09308). With inputs, weights
//! and sums transformed, four outputs take 16 multiply-adds per input channel instead of 36.

use aligned_vec::{AVec, avec};
use pulp::{Arch, Simd, WithSimd};

use super::{
    activation::{self, Function, with_function},
    memory::Memory,
    pixelwise::{self, Finite},
    threads,
    tile::{Job, OutputMatrix, Packed, Rows},
};
use crate::{
    Shape, Tensor,
    graph::{Activation, Conv, ConvKind, Window},
};

/// Points per transformed tile.
const POINTS: usize = 16;

/// Bytes of transformed inputs and sums that a band keeps in its core's cache.
const CACHE: usize = 512 << 10;

/// The least number of tiles per band: each band reads all weights once.
const LEAST_TILES: usize = 48;

/// Channel counts must be multiples of this, the widest vector of any processor.
const VECTOR: usize = 16;

/// With fewer channels, the transforms take longer than they save.
const LEAST_CHANNELS: usize = 32;

/// A convolution with transformed weights.
pub struct Winograd {
    /// One product per point.
    points: Vec<Packed>,
    /// Rows above and columns to the left.
    padding: [usize; 2],
    bias: AVec<f32>,
    activation: Activation,
}

impl Winograd {
    /// True if the convolution can be computed so at all.
    pub fn applies(conv: &Conv) -> bool {
        (conv.kernel(), conv.stride, conv.dilation) == (3, 1, 1) && conv.kind() == Some(ConvKind::Dense)
    }

    /// True if this is faster than a direct convolution. Its weights are 16/9 as large, and maps of few tiles
    /// are bound by reading them.
    pub fn pays(conv: &Conv, window: Window) -> bool {
        let channels = [conv.inputs(), conv.outputs()];
        let vectors = channels.iter().all(|count| count % VECTOR == 0 && *count >= LEAST_CHANNELS);
        Self::applies(conv) && vectors && window.height.div_ceil(2) * window.width.div_ceil(2) >= LEAST_TILES
    }

    pub fn new(conv: &Conv, window: Window, memory: &mut Memory) -> Self {
        let (inputs, outputs) = (conv.inputs(), conv.outputs());
        let transformed: Vec<[f32; POINTS]> = conv.weight.data().chunks_exact(9).map(weights).collect();
        let point = |at: usize| {
            let weight = Tensor::from_fn([outputs, inputs, 1, 1], |i| transformed[i][at]);
            Packed::new(&Conv { weight: weight.into(), bias: None, ..conv.clone() }, memory)
        };
        Self {
            points: (0..POINTS).map(point).collect(),
            padding: [window.top, window.left],
            bias: pixelwise::bias(conv),
            activation: conv.activation,
        }
    }

    /// The number of weights and biases.
    pub fn weights(&self) -> usize {
        self.points.iter().map(Packed::values).sum::<usize>() + self.bias.len()
    }

    /// Runs on maps of shape `x`, giving maps of shape `y`, with the rows of tiles split over `threads`
    /// threads. Returns whether all sums are finite.
    pub fn run(
        &self,
        x: Shape,
        input: &[f32],
        y: Shape,
        output: &mut [f32],
        residual: Option<&[f32]>,
        threads: usize,
    ) -> bool {
        let (wide, high) = (y.w.div_ceil(2), y.h.div_ceil(2));
        let fit = CACHE / (4 * POINTS * (x.c + y.c) * wide);
        let rows = fit.max(LEAST_TILES.div_ceil(wide)).min(high);
        // The same number of bands per thread; bands differ in height by at most one row of tiles.
        let count = high.div_ceil(rows).next_multiple_of(threads.div_ceil(y.n)).min(high);
        let (picture, line) = (x.h * x.w * x.c, y.w * y.c);
        let mut bands = Vec::new();
        for (n, mut rest) in output.chunks_exact_mut(y.h * line).enumerate() {
            for tiles in (0..count).map(|i| i * high / count..(i + 1) * high / count) {
                let lines = (2 * tiles.end).min(y.h) - 2 * tiles.start;
                let (band, others) = std::mem::take(&mut rest).split_at_mut(lines * line);
                bands.push((n, tiles.start, band));
                rest = others;
            }
        }
        let band = |(n, first, output): (usize, usize, &mut [f32])| {
            let residual = residual.map(|from| &from[(n * y.h + 2 * first) * line..][..output.len()]);
            let input = &input[n * picture..][..picture];
            Band { conv: self, x, input, y, first, wide, output, residual }.run()
        };
        let finite = threads::all(threads, bands, band);
        activation::activate_late(self.activation, output);
        finite
    }
}

/// Transforms a window of weights: G g Gᵀ.
fn weights(window: &[f32]) -> [f32; POINTS] {
    let along = |g: [f64; 3]| {
        let (ends, middle) = ((g[0] + g[2]) / 2.0, g[1] / 2.0);
        [g[0], ends + middle, ends - middle, g[2]]
    };
    let row = |y: usize| along([0, 1, 2].map(|x| f64::from(window[3 * y + x])));
    let rows = [row(0), row(1), row(2)];
    let columns = [0, 1, 2, 3].map(|x| along([rows[0][x], rows[1][x], rows[2][x]]));
    std::array::from_fn(|at| columns[at % 4][at / 4] as f32)
}

/// A band of tile rows of one picture.
struct Band<'a> {
    conv: &'a Winograd,
    x: Shape,
    /// The picture's input map.
    input: &'a [f32],
    y: Shape,
    /// The first row of tiles.
    first: usize,
    /// Tiles per row.
    wide: usize,
    /// The output rows of these tiles. The last tile row may have only one.
    output: &'a mut [f32],
    residual: Option<&'a [f32]>,
}

impl Band<'_> {
    /// Runs the band. Returns whether all sums are finite.
    #[allow(unsafe_code)]
    fn run(self) -> bool {
        let Self { conv, x, y, wide, .. } = self;
        let tiles = self.output.len().div_ceil(y.w * y.c).div_ceil(2) * wide;
        let mut points: AVec<f32> = avec![0.0; POINTS * tiles * x.c];
        let mut sums: AVec<f32> = avec![0.0; POINTS * tiles * y.c];
        let zeros: AVec<f32> = avec![0.0; x.c];
        let Self { input, first, .. } = self;
        Arch::new().dispatch(Inputs { conv, x, input, first, wide, zeros: &zeros, points: &mut points });
        let mut finite = true;
        let mut starts: Vec<*const f32> = Vec::with_capacity(tiles);
        let products = points.chunks_exact(tiles * x.c).zip(sums.chunks_exact_mut(tiles * y.c));
        for (packed, (points, sums)) in conv.points.iter().zip(products) {
            starts.clear();
            starts.extend(points.chunks_exact(x.c).map(<[f32]>::as_ptr));
            // SAFETY: each start points to a row of `points` with `x.c` values.
            let rows = unsafe { Rows::new(&starts, 1, x.c) };
            let output = OutputMatrix::new(sums, y.c, None, Activation::Identity);
            finite &= Job { packed, rows, output: &output, first: 0, panels: 0..packed.panels() }.run();
        }
        let Self { output, residual, .. } = self;
        Arch::new().dispatch(Outputs { conv, y, wide, sums: &sums, output, residual }) && finite
    }
}

/// The input transform: Bᵀ d B.
struct Inputs<'a> {
    conv: &'a Winograd,
    x: Shape,
    input: &'a [f32],
    first: usize,
    wide: usize,
    /// A pixel of zeros, for positions off the map.
    zeros: &'a [f32],
    /// `[points][tiles][channels]`
    points: &'a mut [f32],
}

impl WithSimd for Inputs<'_> {
    type Output = ();

    #[inline(always)]
    #[allow(unsafe_code)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { conv, x, input, first, wide, zeros, points } = self;
        let each = points.len() / POINTS;
        let vectors = x.c / S::F32_LANES;
        debug_assert_eq!(vectors * S::F32_LANES, x.c);
        for tile in 0..each / x.c {
            let (row, column) = (2 * (first + tile / wide), 2 * (tile % wide));
            let pixel = |at: usize| {
                let inside =
                    |at: usize, before: usize, size: usize| at.checked_sub(before).filter(|at| *at < size);
                let row = inside(row + at / 4, conv.padding[0], x.h);
                match row.zip(inside(column + at % 4, conv.padding[1], x.w)) {
                    Some((row, column)) => input[(row * x.w + column) * x.c..][..x.c].as_ptr(),
                    None => zeros.as_ptr(),
                }
            };
            let pixels: [*const f32; POINTS] = std::array::from_fn(pixel);
            let to = points[tile * x.c..].as_mut_ptr();
            for at in (0..vectors).map(|vector| vector * S::F32_LANES) {
                // SAFETY: every pixel has `x.c` values, and so has a tile at each point; points are `each`
                // values apart. Loads and stores are unaligned.
                unsafe {
                    let d: [S::f32s; POINTS] =
                        std::array::from_fn(|i| pixels[i].add(at).cast::<S::f32s>().read_unaligned());
                    let mut half = d;
                    for i in 0..4 {
                        let [a, b, c, e] = [d[i], d[4 + i], d[8 + i], d[12 + i]];
                        half[i] = simd.sub_f32s(a, c);
                        half[4 + i] = simd.add_f32s(b, c);
                        half[8 + i] = simd.sub_f32s(c, b);
                        half[12 + i] = simd.sub_f32s(b, e);
                    }
                    for i in 0..4 {
                        let [a, b, c, e] = [half[4 * i], half[4 * i + 1], half[4 * i + 2], half[4 * i + 3]];
                        let to = |point: usize| to.add((4 * i + point) * each + at).cast::<S::f32s>();
                        to(0).write_unaligned(simd.sub_f32s(a, c));
                        to(1).write_unaligned(simd.add_f32s(b, c));
                        to(2).write_unaligned(simd.sub_f32s(c, b));
                        to(3).write_unaligned(simd.sub_f32s(b, e));
                    }
                }
            }
        }
    }
}

/// The output transform and epilogue: Aᵀ m A, bias, residual, activation.
struct Outputs<'a> {
    conv: &'a Winograd,
    y: Shape,
    wide: usize,
    /// `[points][tiles][channels]`
    sums: &'a [f32],
    output: &'a mut [f32],
    residual: Option<&'a [f32]>,
}

impl WithSimd for Outputs<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        with_function!(self.conv.activation, function => self.run(simd, function))
    }
}

impl Outputs<'_> {
    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd>(self, simd: S, function: impl Function) -> bool {
        let Self { conv, y, wide, sums, output, residual } = self;
        let each = sums.len() / POINTS;
        let rows = output.len() / (y.w * y.c);
        let mut finite = Finite::new(simd);
        for tile in 0..each / y.c {
            let (row, column) = (2 * (tile / wide), 2 * (tile % wide));
            let from = sums[tile * y.c..].as_ptr();
            let offset = |i: usize| {
                let (row, column) = (row + i / 2, column + i % 2);
                (row < rows && column < y.w).then_some((row * y.w + column) * y.c)
            };
            let offsets: [Option<usize>; 4] = std::array::from_fn(offset);
            for at in (0..y.c).step_by(S::F32_LANES) {
                // SAFETY: a tile has `y.c` values at each point, points are `each` values apart, and there
                // are `y.c` biases. An offset is that of a pixel, with `y.c` values in the output and in the
                // residual. `y.c` is a multiple of the vector length.
                unsafe {
                    let m: [S::f32s; POINTS] =
                        std::array::from_fn(|i| from.add(i * each + at).cast::<S::f32s>().read_unaligned());
                    let mut half = [m[0]; 8];
                    for i in 0..4 {
                        let [a, b, c, e] = [m[i], m[4 + i], m[8 + i], m[12 + i]];
                        half[i] = simd.add_f32s(simd.add_f32s(a, b), c);
                        half[4 + i] = simd.sub_f32s(simd.sub_f32s(b, c), e);
                    }
                    let bias = conv.bias.as_ptr().add(at).cast::<S::f32s>().read_unaligned();
                    for i in 0..2 {
                        let [a, b, c, e] = [half[4 * i], half[4 * i + 1], half[4 * i + 2], half[4 * i + 3]];
                        let both =
                            [simd.add_f32s(simd.add_f32s(a, b), c), simd.sub_f32s(simd.sub_f32s(b, c), e)];
                        for (offset, sum) in offsets[2 * i..][..2].iter().zip(both) {
                            let Some(offset) = offset else { continue };
                            let mut sum = simd.add_f32s(sum, bias);
                            if let Some(residual) = residual {
                                let more = residual.as_ptr().add(offset + at).cast::<S::f32s>();
                                sum = simd.add_f32s(sum, more.read_unaligned());
                            }
                            finite.check(simd, sum);
                            let sum = function.apply(simd, sum);
                            output.as_mut_ptr().add(offset + at).cast::<S::f32s>().write_unaligned(sum);
                        }
                    }
                }
            }
        }
        finite.all(simd)
    }
}
