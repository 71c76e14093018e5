//! Matrix products in register tiles of rows by vectors of outputs. Accumulators start from the bias and stay
//! in registers; the epilogue adds the residual, activates and stores them.

use std::{marker::PhantomData, ops::Range};

use aligned_vec::AVec;
#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;
use pulp::{Arch, Simd, WithSimd};

use super::{
    activation::{Function, with_function},
    memory::{Buffer, Memory},
    pixelwise::{self, Finite},
};
use crate::graph::{Activation, Conv};

/// The maximum bytes of weights that stay in a core's cache between tiles.
const CACHED: usize = 384 << 10;

/// The maximum rows and vectors of a tile. Registers hold its accumulators, a vector of weights per column,
/// and an input.
const fn max_tile(lanes: usize) -> [usize; 2] {
    // AVX-512 and NEON have 32 registers, AVX2 has 16. Browsers' compilers use only 15, and without a fused
    // multiply-add each product takes a register of its own.
    if cfg!(target_arch = "wasm32") {
        [4, 2]
    } else if lanes == 16 || cfg!(target_arch = "aarch64") {
        [8, 3]
    } else {
        [6, 2]
    }
}

/// A convolution's packed weights: consecutive panels of a few vectors of outputs, each `[inputs][outputs of
/// the panel]`.
pub struct Packed {
    /// Values per row: channels times taps.
    pub inputs: usize,
    outputs: usize,
    panels: Vec<Panel>,
    weights: Buffer<f32>,
    /// Padded to whole vectors.
    bias: AVec<f32>,
}

/// The outputs of one tile.
struct Panel {
    /// The first output.
    first: usize,
    columns: Columns,
    /// The offset of its weights.
    at: usize,
}

/// The vectors of a panel.
#[derive(Clone, Copy)]
enum Columns {
    /// Full vectors.
    Vectors(usize),
    /// One partial vector.
    Part,
    /// Eight outputs in AVX-512: a vector of half the length takes half the time on many processors.
    #[cfg(target_arch = "x86_64")]
    Half,
}

impl Columns {
    /// The columns for the last `count` outputs, fewer than a vector.
    fn rest(count: usize, lanes: usize) -> Self {
        #[cfg(target_arch = "x86_64")]
        if count == 8 && lanes == 16 {
            return Self::Half;
        }
        debug_assert!(count < lanes);
        Self::Part
    }

    /// The number of outputs, with padding.
    fn len(self, lanes: usize) -> usize {
        match self {
            Self::Vectors(count) => count * lanes,
            Self::Part => lanes,
            #[cfg(target_arch = "x86_64")]
            Self::Half => 8,
        }
    }
}

impl Packed {
    /// Packs weights for rows that hold windows tap by tap.
    pub fn new(conv: &Conv, memory: &mut Memory) -> Self {
        let (channels, taps) = (conv.inputs(), conv.kernel() * conv.kernel());
        let (inputs, outputs) = (channels * taps, conv.outputs());
        let weight = conv.weight.data();
        let lanes = Arch::new().dispatch(Lanes);
        let (vectors, [_, widest]) = (outputs / lanes, max_tile(lanes));
        let count = vectors.div_ceil(widest);
        // Panels differ in width by at most one vector.
        let part = |i: usize| i * vectors / count;
        let whole = (0..count).map(|i| (part(i), Columns::Vectors(part(i + 1) - part(i))));
        let rest = outputs % lanes;
        let rest = (rest > 0).then(|| (vectors, Columns::rest(rest, lanes)));
        let (mut panels, mut weights) = (Vec::new(), Vec::new());
        for (first, columns) in whole.chain(rest) {
            let first = first * lanes;
            panels.push(Panel { first, columns, at: weights.len() });
            for input in 0..inputs {
                let (tap, channel) = (input / channels, input % channels);
                for output in first..first + columns.len(lanes) {
                    let at = (output * channels + channel) * taps + tap;
                    weights.push(if output < outputs { weight[at] } else { 0.0 });
                }
            }
        }
        let mut bias = pixelwise::bias(conv);
        bias.resize(outputs.next_multiple_of(lanes), 0.0);
        Self { inputs, outputs, panels, weights: memory.copy_of(&weights), bias }
    }

    /// The number of weights and biases.
    pub fn values(&self) -> usize {
        self.weights.len() + self.bias.len()
    }

    /// The number of panels, which separate tasks can compute.
    pub fn panels(&self) -> usize {
        self.panels.len()
    }
}

/// The number of f32 lanes of the dispatched vectors.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// The output matrix of a product. Concurrent jobs write disjoint rows or disjoint columns.
pub struct OutputMatrix<'a> {
    first: *mut f32,
    rows: usize,
    outputs: usize,
    residual: Option<&'a [f32]>,
    activation: Activation,
    output: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for an exclusively borrowed slice, and no two jobs write the same values.
#[allow(unsafe_code)]
unsafe impl Sync for OutputMatrix<'_> {}

impl<'a> OutputMatrix<'a> {
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

/// Rows of inputs, each in segments at arbitrary addresses.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// `[rows][segments]`
    starts: &'a [*const f32],
    segments: usize,
    /// The number of values per segment.
    len: usize,
}

impl<'a> Rows<'a> {
    /// # Safety
    /// Each start points to `len` values, which nothing writes while these rows are in use.
    #[allow(unsafe_code)]
    pub unsafe fn new(starts: &'a [*const f32], segments: usize, len: usize) -> Self {
        Self { starts, segments, len }
    }
}

/// A product of some rows and some panels. Concurrent jobs have disjoint output rows or disjoint panels.
pub struct Job<'a> {
    pub packed: &'a Packed,
    pub rows: Rows<'a>,
    pub output: &'a OutputMatrix<'a>,
    /// The first output row.
    pub first: usize,
    pub panels: Range<usize>,
}

impl Job<'_> {
    /// Computes the product. Returns whether all sums are finite.
    pub fn run(self) -> bool {
        Arch::new().dispatch(self)
    }
}

impl WithSimd for Job<'_> {
    type Output = bool;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Self { packed, rows, output, first, panels } = self;
        let count = rows.starts.len() / rows.segments;
        assert!(rows.starts.len() == count * rows.segments && packed.inputs == rows.segments * rows.len);
        assert!(first + count <= output.rows && packed.outputs == output.outputs);
        let [highest, widest] = max_tile(S::F32_LANES);
        let tiles = count.div_ceil(highest);
        let panels = &packed.panels[panels];
        // If all weights fit the cache, a row tile runs through all panels, so that maps are read and written
        // in order.
        let together = if 4 * packed.weights.len() <= CACHED { panels.len() } else { 1 };
        let mut finite = Finite::new(simd);
        #[cfg(target_arch = "x86_64")]
        let mut half = None;
        #[cfg(target_arch = "x86_64")]
        if S::F32_LANES == 16
            && let Some(simd) = V3::try_new()
        {
            half = Some((simd, Finite::new(simd)));
        }
        // Known to the compiler, which drops the code of tiles that this instruction set has no registers for.
        let fits = |rows: usize, vectors: usize| rows <= highest && vectors <= widest;
        for panels in panels.chunks(together) {
            // Tiles differ in height by at most one row.
            for at in (0..tiles).map(|i| i * count / tiles..(i + 1) * count / tiles) {
                for panel in panels {
                    let tile = Tile { packed, rows, output, panel, row: at.start, out: first + at.start };
                    macro_rules! run {
                        ($($rows:literal)*) => {
                            match (at.len(), panel.columns) {
                                $(
                                    ($rows, Columns::Vectors(3)) if fits($rows, 3) => {
                                        tile.run::<S, $rows, 3, true>(simd, &mut finite);
                                    }
                                    ($rows, Columns::Vectors(2)) if fits($rows, 2) => {
                                        tile.run::<S, $rows, 2, true>(simd, &mut finite);
                                    }
                                    ($rows, Columns::Vectors(1)) if fits($rows, 1) => {
                                        tile.run::<S, $rows, 1, true>(simd, &mut finite);
                                    }
                                    ($rows, Columns::Part) if fits($rows, 1) => {
                                        tile.run::<S, $rows, 1, false>(simd, &mut finite);
                                    }
                                    #[cfg(target_arch = "x86_64")]
                                    ($rows, Columns::Half) if S::F32_LANES == 16 => {
                                        if let Some((simd, finite)) = &mut half {
                                            tile.run::<V3, $rows, 1, true>(*simd, finite);
                                        }
                                    }
                                )*
                                _ => unreachable!("a tile has at most 8 rows by 3 vectors"),
                            }
                        };
                    }
                    run!(1 2 3 4 5 6 7 8);
                }
            }
        }
        let finite = finite.all(simd);
        #[cfg(target_arch = "x86_64")]
        if let Some((simd, halves)) = half {
            return halves.all(simd) && finite;
        }
        finite
    }
}

struct Tile<'a> {
    packed: &'a Packed,
    rows: Rows<'a>,
    output: &'a OutputMatrix<'a>,
    panel: &'a Panel,
    /// The first input row.
    row: usize,
    /// The first output row.
    out: usize,
}

impl Tile<'_> {
    /// Computes `M` rows by `N` full vectors if `WHOLE`, else by one partial vector.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn run<S: Simd, const M: usize, const N: usize, const WHOLE: bool>(
        self,
        simd: S,
        finite: &mut Finite<S>,
    ) {
        let Self { packed, rows: Rows { starts, segments, len }, panel, .. } = self;
        debug_assert!((self.row + M) * segments <= starts.len());
        debug_assert!(panel.at + packed.inputs * N * S::F32_LANES <= packed.weights.len());
        // SAFETY: `Job::with_simd` checks that each row has all its starts and is within the output. Each
        // start points to `len` values, see `Rows`. A panel's weights are `inputs` rows of its vectors, and
        // biases are whole vectors, see `Packed::new`. Loads are unaligned. Bounds checks would take longer
        // than the arithmetic.
        let sums = unsafe {
            let bias = packed.bias.as_ptr().add(panel.first).cast::<S::f32s>();
            let mut weights = packed.weights.as_ptr().add(panel.at).cast::<S::f32s>();
            let mut sums = [std::array::from_fn(|n| bias.add(n).read_unaligned()); M];
            for segment in 0..segments {
                let rows: [*const f32; M] =
                    std::array::from_fn(|m| *starts.as_ptr().add((self.row + m) * segments + segment));
                macro_rules! multiply_adds {
                    ($len:expr) => {
                        for i in 0..$len {
                            let weight = weights.cast::<[S::f32s; N]>().read_unaligned();
                            for (sums, row) in sums.iter_mut().zip(rows) {
                                let value = simd.splat_f32s(*row.add(i));
                                for (sum, weight) in sums.iter_mut().zip(weight) {
                                    *sum = simd.mul_add_e_f32s(value, weight, *sum);
                                }
                            }
                            weights = weights.add(N);
                        }
                    };
                }
                // A constant length for the first layer's segments: three pixels of three channels.
                if M == 8 && N <= 2 && len == 9 {
                    multiply_adds!(9);
                } else {
                    multiply_adds!(len);
                }
            }
            sums
        };
        with_function!(self.output.activation, function => {
            self.epilogue::<S, M, N, WHOLE>(simd, sums, function, finite)
        })
    }

    /// The epilogue: adds the residual, checks that sums are finite, applies the activation and stores. The loops
    /// have no branches, so that the compiler unrolls them and keeps the sums in registers.
    #[inline(always)]
    #[allow(unsafe_code)]
    fn epilogue<S: Simd, const M: usize, const N: usize, const WHOLE: bool>(
        self,
        simd: S,
        mut sums: [[S::f32s; N]; M],
        function: impl Function,
        finite: &mut Finite<S>,
    ) {
        let OutputMatrix { first, outputs, residual, .. } = *self.output;
        let at = |m: usize, n: usize| (self.out + m) * outputs + self.panel.first + n * S::F32_LANES;
        let left = outputs - self.panel.first;
        debug_assert!(self.out + M <= self.output.rows && (!WHOLE || N * S::F32_LANES <= left));
        // SAFETY: `Job::with_simd` checks that the rows are within the output. The columns are the panel's:
        // whole vectors, or the `left` ones. No other job reads or writes them, and a residual is as long as
        // the output.
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
                    finite.check(simd, sum);
                    let sum = function.apply(simd, sum);
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
