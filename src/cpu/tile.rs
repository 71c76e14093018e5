//! A matrix product in tiles of rows by vectors of outputs, whose sums stay in registers and leave them biased, added
//! to and activated.

use std::{marker::PhantomData, ops::Range};

use aligned_vec::{AVec, avec};
use pulp::{Arch, Simd, WithSimd};

use super::pixelwise::{self, Finite, activate, with_code};
use crate::graph::{Activation, Conv};

/// Bytes of weights that stay in a core's cache from one tile to the next.
const CACHED: usize = 384 << 10;

/// The most rows and vectors of a tile: its sums, as many weights and an input fit the registers.
const fn most(lanes: usize) -> [usize; 2] {
    // AVX-512 and NEON have 32 registers, AVX2 has 16.
    if lanes == 16 || cfg!(target_arch = "aarch64") { [8, 3] } else { [6, 2] }
}

/// A convolution's weights as tiles read them: panels of a few vectors of outputs, behind one another, each
/// `[inputs][outputs of the panel]`.
pub struct Packed {
    /// Values of a row: channels times taps.
    pub inputs: usize,
    outputs: usize,
    panels: Vec<Panel>,
    weights: AVec<f32>,
    /// Of whole vectors.
    bias: AVec<f32>,
}

/// Outputs that a tile makes of its rows.
struct Panel {
    /// The first of them.
    first: usize,
    vectors: usize,
    /// Whether all of its vectors' outputs are there: what lacks some has one.
    whole: bool,
    /// Where its weights begin.
    at: usize,
}

impl Packed {
    /// Rows are windows, tap by tap.
    pub fn new(conv: &Conv) -> Self {
        let (channels, taps) = (conv.inputs(), conv.kernel() * conv.kernel());
        let (inputs, outputs) = (channels * taps, conv.outputs());
        let weight = conv.weight.data();
        let lanes = Arch::new().dispatch(Lanes);
        let (vectors, [_, widest]) = (outputs / lanes, most(lanes));
        let count = vectors.div_ceil(widest);
        // As wide as one another, as far as they can be.
        let part = |i: usize| i * vectors / count;
        let whole = (0..count).map(|i| (part(i), part(i + 1) - part(i), true));
        let rest = (outputs % lanes > 0).then_some((vectors, 1, false));
        let (mut panels, mut weights) = (Vec::new(), avec![]);
        for (first, vectors, whole) in whole.chain(rest) {
            let first = first * lanes;
            panels.push(Panel { first, vectors, whole, at: weights.len() });
            for input in 0..inputs {
                let (tap, channel) = (input / channels, input % channels);
                for output in first..first + vectors * lanes {
                    let at = (output * channels + channel) * taps + tap;
                    weights.push(if output < outputs { weight[at] } else { 0.0 });
                }
            }
        }
        let mut bias = pixelwise::bias(conv);
        bias.resize(outputs.next_multiple_of(lanes), 0.0);
        Self { inputs, outputs, panels, weights, bias }
    }

    /// Values of weights and biases.
    pub fn values(&self) -> usize {
        self.weights.len() + self.bias.len()
    }

    /// Into how many parts outputs can be shared out.
    pub fn panels(&self) -> usize {
        self.panels.len()
    }
}

/// Lanes of the vectors that everything here is dispatched to.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// Where a product goes: rows of outputs, of which jobs that run side by side write other rows or other outputs.
pub struct Sums<'a> {
    first: *mut f32,
    rows: usize,
    outputs: usize,
    residual: Option<&'a [f32]>,
    activation: Activation,
    output: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a slice, exclusively borrowed for as long, of which no two jobs write the same values.
#[allow(unsafe_code)]
unsafe impl Sync for Sums<'_> {}

impl<'a> Sums<'a> {
    pub fn new(
        output: &'a mut [f32],
        outputs: usize,
        residual: Option<&'a [f32]>,
        activation: Activation,
    ) -> Self {
        assert!(residual.is_none_or(|residual| residual.len() == output.len()));
        let rows = output.len() / outputs;
        Self { first: output.as_mut_ptr(), rows, outputs, residual, activation, output: PhantomData }
    }
}

/// Rows of inputs, each in segments that lie anywhere.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// `[rows][segments]`
    starts: &'a [*const f32],
    segments: usize,
    /// Values of a segment.
    len: usize,
}

impl<'a> Rows<'a> {
    /// # Safety
    /// From each start on there are `len` values, which nobody writes for as long as these rows are used.
    #[allow(unsafe_code)]
    pub unsafe fn new(starts: &'a [*const f32], segments: usize, len: usize) -> Self {
        Self { starts, segments, len }
    }
}

/// Rows times some of the panels. Two that run side by side have other rows of sums or other panels.
pub struct Job<'a> {
    pub packed: &'a Packed,
    pub rows: Rows<'a>,
    pub sums: &'a Sums<'a>,
    /// The first row.
    pub first: usize,
    pub panels: Range<usize>,
}

impl Job<'_> {
    /// Whether all sums are finite.
    pub fn run(self) -> bool {
        Arch::new().dispatch(self)
    }
}

impl WithSimd for Job<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Self { packed, rows, sums, first, panels } = self;
        let count = rows.starts.len() / rows.segments;
        assert!(rows.starts.len() == count * rows.segments && packed.inputs == rows.segments * rows.len);
        assert!(first + count <= sums.rows && packed.outputs == sums.outputs);
        let [highest, _] = most(S::F32_LANES);
        let tiles = count.div_ceil(highest);
        let panels = &packed.panels[panels];
        // Row by row maps are read and written in order, for which weights have to stay in the cache.
        let together = if 4 * packed.weights.len() <= CACHED { panels.len() } else { 1 };
        let mut finite = Finite::new(simd);
        for panels in panels.chunks(together) {
            // As high as one another, as far as they can be.
            for at in (0..tiles).map(|i| i * count / tiles..(i + 1) * count / tiles) {
                for panel in panels {
                    let tile = Tile { simd, packed, rows, sums, panel, row: at.start, out: first + at.start };
                    let vectors = if panel.whole { panel.vectors } else { 0 };
                    macro_rules! run {
                        ($($rows:literal)*) => {
                            match (at.len(), vectors) {
                                $(
                                    ($rows, 3) => tile.run::<$rows, 3, true>(&mut finite),
                                    ($rows, 2) => tile.run::<$rows, 2, true>(&mut finite),
                                    ($rows, 1) => tile.run::<$rows, 1, true>(&mut finite),
                                    ($rows, _) => tile.run::<$rows, 1, false>(&mut finite),
                                )*
                                _ => unreachable!("no tile is higher"),
                            }
                        };
                    }
                    run!(1 2 3 4 5 6 7 8);
                }
            }
        }
        finite.all(simd)
    }
}

struct Tile<'a, S> {
    simd: S,
    packed: &'a Packed,
    rows: Rows<'a>,
    sums: &'a Sums<'a>,
    panel: &'a Panel,
    /// The first of the rows, and of the sums.
    row: usize,
    out: usize,
}

impl<S: Simd> Tile<'_, S> {
    /// `M` rows by `N` vectors, or, unless they are `WHOLE`, by what there is of one.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<const M: usize, const N: usize, const WHOLE: bool>(self, finite: &mut Finite<S>) {
        let Self { simd, packed, rows: Rows { starts, segments, len }, panel, .. } = self;
        debug_assert!((self.row + M) * segments <= starts.len());
        debug_assert!(panel.at + packed.inputs * N * S::F32_LANES <= packed.weights.len());
        // SAFETY: the job's rows are as many as it has starts for and fit the sums, see `Job::with_simd`, and behind
        // each start are `len` values, see `Rows`; the weights of a panel are `inputs` rows of its vectors, and biases
        // are whole vectors, see `Packed::new`. Vectors are read at any address. Indices that are checked would take
        // longer than the sums.
        let sums = unsafe {
            let bias = packed.bias.as_ptr().add(panel.first).cast::<S::f32s>();
            let mut weights = packed.weights.as_ptr().add(panel.at).cast::<S::f32s>();
            let mut sums = [std::array::from_fn(|n| bias.add(n).read_unaligned()); M];
            for segment in 0..segments {
                let rows: [*const f32; M] =
                    std::array::from_fn(|m| *starts.as_ptr().add((self.row + m) * segments + segment));
                macro_rules! turns {
                    ($len:expr) => {
                        for i in 0..$len {
                            let weight = weights.cast::<[S::f32s; N]>().read_unaligned();
                            for (sums, row) in sums.iter_mut().zip(rows) {
                                let value = simd.splat_f32s(*row.add(i));
                                for (sum, weight) in sums.iter_mut().zip(weight) {
                                    *sum = simd.mul_add_f32s(value, weight, *sum);
                                }
                            }
                            weights = weights.add(N);
                        }
                    };
                }
                // Of a picture three pixels of three channels: a length that the compiler knows.
                if M == 8 && N <= 2 && len == 9 {
                    turns!(9);
                } else {
                    turns!(len);
                }
            }
            sums
        };
        with_code!(self.sums.activation, CODE => self.finish::<M, N, WHOLE, CODE>(sums, finite))
    }

    /// Adds the residual, looks whether sums are finite, activates them by the function of this code and stores them.
    /// Loops without a branch are unrolled, and leave the sums in registers.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn finish<const M: usize, const N: usize, const WHOLE: bool, const CODE: u32>(
        self,
        mut sums: [[S::f32s; N]; M],
        finite: &mut Finite<S>,
    ) {
        let simd = self.simd;
        let Sums { first, outputs, residual, .. } = *self.sums;
        let at = |m: usize, n: usize| (self.out + m) * outputs + self.panel.first + n * S::F32_LANES;
        let left = outputs - self.panel.first;
        debug_assert!(self.out + M <= self.sums.rows && (!WHOLE || N * S::F32_LANES <= left));
        // SAFETY: the rows are some of the sums', see `Job::with_simd`, the outputs those of the panel, whole vectors
        // of them or what is `left`. Nobody else reads or writes them meanwhile, and a residual is as long.
        unsafe {
            if let Some(residual) = residual {
                for (m, sums) in sums.iter_mut().enumerate() {
                    for (n, sum) in sums.iter_mut().enumerate() {
                        let from = residual.as_ptr().add(at(m, n));
                        let more = match WHOLE {
                            true => from.cast::<S::f32s>().read_unaligned(),
                            false => simd.partial_load_f32s(std::slice::from_raw_parts(from, left)),
                        };
                        *sum = simd.add_f32s(*sum, more);
                    }
                }
            }
            for (m, sums) in sums.into_iter().enumerate() {
                for (n, sum) in sums.into_iter().enumerate() {
                    finite.see(simd, sum);
                    let sum = activate(simd, sum, Activation::ALL[CODE as usize]);
                    let to = first.add(at(m, n));
                    match WHOLE {
                        true => to.cast::<S::f32s>().write_unaligned(sum),
                        false => simd.partial_store_f32s(std::slice::from_raw_parts_mut(to, left), sum),
                    }
                }
            }
        }
    }
}
