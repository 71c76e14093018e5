//! The int8 epilogue of a tile: residual, rescaling, activation, store.

use aligned_vec::AVec;

use super::{
    numbers::{Numbers, byte},
    vectors::{Isa, MAX_BLOCK, Vectors},
};
use crate::graph::{ActivationTable, EpilogueKind, Rescale, TABLE_ENTRIES};

/// The channel of the sum at index `at` in block order, the order of sums that [`vectors`](super::vectors)
/// describes.
pub fn channel(block: usize, at: usize) -> usize {
    let lanes = block / 4;
    let (vector, lane) = (at / lanes % 4, at % lanes);
    at / block * block + lane / 4 * 16 + 4 * vector + lane % 4
}

/// Reorders values of channels to block order. Padding channels get the default.
pub fn ordered<T: Copy + Default>(isa: Isa, values: &[T]) -> AVec<T> {
    let block = isa.block();
    let value = |at: usize| values.get(channel(block, at)).copied().unwrap_or_default();
    AVec::from_iter(0, (0..values.len().next_multiple_of(block)).map(value))
}

/// Rescaling factors in block order. A product is shifted right by at least 33 bits, so that only its upper
/// half is needed. If a factor's shift is smaller, the value is first shifted left.
pub struct Scales {
    /// Left shifts, if any is needed.
    left: Option<AVec<i32>>,
    /// `[blocks][3][block]`: multipliers, rounding terms, right shifts of upper halves.
    factors: AVec<i32>,
}

impl Scales {
    /// Returns None if a value as large as `most` would overflow when shifted left.
    pub fn new(isa: Isa, rescales: &[Rescale], most: &[i64]) -> Option<Self> {
        let by_half = rescales.iter().zip(most).map(|(rescale, most)| rescale.by_upper_half(*most));
        let shifts: Vec<[u32; 2]> = by_half.collect::<Option<_>>()?;
        let multipliers: Vec<i32> = rescales.iter().map(|rescale| rescale.multiplier).collect();
        let each = |value: &dyn Fn(&[u32; 2]) -> u32| {
            let values: Vec<i32> = shifts.iter().map(|shifts| value(shifts) as i32).collect();
            ordered(isa, &values)
        };
        let rounds = each(&|[_, right]| 1 << (right - 1));
        let kinds = [ordered(isa, &multipliers), rounds, each(&|[_, right]| *right)];
        let block = isa.block();
        let factor = |at: usize| kinds[at / block % 3][at / block / 3 * block + at % block];
        Some(Self {
            left: shifts.iter().any(|[left, _]| *left > 0).then(|| each(&|[left, _]| *left)),
            factors: AVec::from_iter(0, (0..3 * kinds[0].len()).map(factor)),
        })
    }

    pub fn bytes(&self) -> usize {
        4 * (self.left.as_ref().map_or(0, |left| left.len()) + self.factors.len())
    }

    /// Applies the factors to a block's sums of `P` pixels.
    #[inline(always)]
    pub fn apply<V: Vectors, const P: usize>(
        &self,
        v: V,
        block: usize,
        mut sums: [[V::Vector; 4]; P],
    ) -> [[V::Vector; 4]; P] {
        let factors = &self.factors[3 * block * V::BLOCK..][..3 * V::BLOCK];
        // Four calls instead of a loop that the compiler would not unroll, and one branch for all of them: it keeps the
        // sums in registers.
        if let Some(left) = &self.left {
            let left = &left[block * V::BLOCK..][..V::BLOCK];
            scale::<V, P>(v, Some(left), factors, 0, &mut sums);
            scale::<V, P>(v, Some(left), factors, 1, &mut sums);
            scale::<V, P>(v, Some(left), factors, 2, &mut sums);
            scale::<V, P>(v, Some(left), factors, 3, &mut sums);
        } else {
            scale::<V, P>(v, None, factors, 0, &mut sums);
            scale::<V, P>(v, None, factors, 1, &mut sums);
            scale::<V, P>(v, None, factors, 2, &mut sums);
            scale::<V, P>(v, None, factors, 3, &mut sums);
        }
        sums
    }
}

/// Scales vector `i` of each pixel's sums, after left shifts if there are any.
#[inline(always)]
fn scale<V: Vectors, const P: usize>(
    v: V,
    left: Option<&[i32]>,
    factors: &[i32],
    i: usize,
    sums: &mut [[V::Vector; 4]; P],
) {
    let at = i * V::LANES;
    let (multiplier, round) = (v.load(&factors[at..]), v.load(&factors[V::BLOCK + at..]));
    let right = v.load(&factors[2 * V::BLOCK + at..]);
    let left = left.map(|left| v.load(&left[at..]));
    for sums in sums {
        let shifted = match left {
            Some(left) => v.shift_left(sums[i], left),
            None => sums[i],
        };
        sums[i] = v.scale(shifted, multiplier, round, right);
    }
}

/// The epilogue of a convolution.
pub struct Epilogue {
    pub numbers: Numbers,
    pub isa: Isa,
    /// The biases in block order.
    bias: AVec<i32>,
    /// None if sums are too large for the vector path, or if outputs are f32.
    scales: Option<EpilogueScales>,
}

/// The factors for the residual and for the sums.
struct EpilogueScales {
    residual: Option<Scales>,
    sums: Scales,
}

impl Epilogue {
    pub fn new(isa: Isa, numbers: Numbers) -> Self {
        let integers = &numbers.integers;
        let residual = integers
            .residual
            .as_ref()
            .map(|residual| Scales::new(isa, &residual.rescales, &vec![255; residual.rescales.len()]));
        let scales = match (&integers.epilogue, residual) {
            (EpilogueKind::Float(_), _) | (_, Some(None)) => None,
            (EpilogueKind::Clamped { rescales, .. } | EpilogueKind::Table { rescales, .. }, residual) => {
                let sums = Scales::new(isa, rescales, &integers.most);
                sums.map(|sums| EpilogueScales { residual: residual.flatten(), sums })
            }
        };
        Self { isa, bias: ordered(isa, &numbers.bias), scales, numbers }
    }

    /// Bytes of biases, factors and the activation's table.
    pub fn bytes(&self) -> usize {
        let factors = self
            .scales
            .as_ref()
            .map_or(0, |scales| scales.sums.bytes() + scales.residual.as_ref().map_or(0, Scales::bytes));
        let table = if self.numbers.table.is_some() { TABLE_ENTRIES } else { 0 };
        4 * self.bias.len() + factors + table
    }

    /// The initial sums of a block: its biases.
    #[inline(always)]
    pub fn begin<V: Vectors>(&self, v: V, block: usize) -> [V::Vector; 4] {
        let bias = &self.bias[block * V::BLOCK..][..V::BLOCK];
        let mut sums = [v.splat(0); 4];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = v.load(&bias[i * V::LANES..]);
        }
        sums
    }

    /// Finishes and stores a block's sums of `P` pixels. Pixels are `stride` values apart in `output` and
    /// `residual`.
    #[inline(always)]
    pub fn store<V: Vectors, const P: usize>(
        &self,
        v: V,
        block: usize,
        mut sums: [[V::Vector; 4]; P],
        residual: Option<&[u8]>,
        output: &mut [u8],
        stride: usize,
    ) {
        let Some(factors) = &self.scales else {
            for (p, sums) in sums.into_iter().enumerate() {
                let residual = residual.map(|residual| &residual[p * stride..]);
                self.store_scalar(v, block, sums, residual, &mut output[p * stride * self.numbers.size()..]);
            }
            return;
        };
        let count = V::BLOCK.min(self.numbers.bias.len() - block * V::BLOCK);
        let integers = &self.numbers.integers;
        if let (Some(bytes), Some(scales), Some(rescale)) = (residual, &factors.residual, &integers.residual)
        {
            let zero = v.splat(-i32::from(byte(rescale.zero)));
            let mut added = [[zero; 4]; P];
            for (p, added) in added.iter_mut().enumerate() {
                *added = widened(v, &bytes[p * stride..][..count], zero);
            }
            let added = scales.apply(v, block, added);
            for (sums, added) in sums.iter_mut().zip(added) {
                for (sum, added) in sums.iter_mut().zip(added) {
                    *sum = v.add(*sum, added);
                }
            }
        }
        let sums = factors.sums.apply(v, block, sums);
        match (&integers.epilogue, &self.numbers.table) {
            (EpilogueKind::Clamped { zero, limits, .. }, _) => {
                let (zero, limits) = (byte(*zero), limits.map(byte));
                for (p, sums) in sums.iter().enumerate() {
                    v.store_bytes(v.pack(*sums, zero, limits), &mut output[p * stride..][..count]);
                }
            }
            (EpilogueKind::Table { table: ActivationTable { zero, .. }, .. }, Some(table)) => {
                if let Some((function, zero_byte)) = self.numbers.hard_swish {
                    let ends = [-zero, TABLE_ENTRIES as i32 - 1 - zero];
                    for (p, mut sums) in sums.into_iter().enumerate() {
                        for sum in &mut sums {
                            *sum = v.hard_swish(v.clamp(*sum, ends), function);
                        }
                        let bytes = v.pack(sums, zero_byte, [0, 255]);
                        v.store_bytes(bytes, &mut output[p * stride..][..count]);
                    }
                    return;
                }
                for (p, mut sums) in sums.into_iter().enumerate() {
                    for sum in &mut sums {
                        *sum = v.clamp(v.add(*sum, v.splat(*zero)), [0, TABLE_ENTRIES as i32 - 1]);
                    }
                    look_up::<V>(table, &spilled(v, sums), &mut output[p * stride..][..count]);
                }
            }
            _ => {}
        }
    }

    /// [`Epilogue::store`] without vectors, for one pixel.
    #[inline(always)]
    fn store_scalar<V: Vectors>(
        &self,
        v: V,
        block: usize,
        sums: [V::Vector; 4],
        residual: Option<&[u8]>,
        output: &mut [u8],
    ) {
        let sums = spilled(v, sums);
        let first = block * V::BLOCK;
        for at in 0..V::BLOCK.min(self.numbers.bias.len() - first) {
            let o = first + at;
            let added = residual.map_or(0, |residual| self.numbers.added(o, residual[at]));
            let sum = sums[sum_index::<V>(at)].wrapping_add(added);
            match &self.numbers.integers.epilogue {
                EpilogueKind::Float(factors) => {
                    output[4 * at..][..4].copy_from_slice(&(sum as f32 * factors[o]).to_ne_bytes());
                }
                _ => output[at] = self.numbers.byte(o, sum),
            }
        }
    }
}

/// Stores a block's sums to memory, in block order.
#[inline(always)]
fn spilled<V: Vectors>(v: V, sums: [V::Vector; 4]) -> [i32; MAX_BLOCK] {
    let mut values = [0; MAX_BLOCK];
    for (values, sums) in values.chunks_exact_mut(V::LANES).zip(sums) {
        v.store(sums, values);
    }
    values
}

/// Looks up the bytes at these indices of a table.
#[inline(always)]
fn look_up<V: Vectors>(table: &[u8; TABLE_ENTRIES], indices: &[i32; MAX_BLOCK], output: &mut [u8]) {
    // The table's length is a power of two: `%` keeps indices in range without a check.
    let entry = |index: i32| u32::from(table[index as usize % TABLE_ENTRIES]);
    // Four bytes as one integer. Given four separate stores, the compiler would vectorise them by assembling a vector
    // byte by byte.
    let quad = |at: usize| match indices[sum_index::<V>(at)..].first_chunk::<4>() {
        Some(&[a, b, c, d]) => (entry(a) | entry(b) << 8 | entry(c) << 16 | entry(d) << 24).to_le_bytes(),
        None => [0; 4],
    };
    let (quads, rest) = output.as_chunks_mut::<4>();
    if quads.len() == V::BLOCK / 4 {
        // Of constant length, so that the compiler unrolls it.
        for (at, output) in quads[..V::BLOCK / 4].iter_mut().enumerate() {
            *output = quad(4 * at);
        }
    } else {
        for (at, output) in quads.iter_mut().enumerate() {
            *output = quad(4 * at);
        }
    }
    if !rest.is_empty() {
        rest.copy_from_slice(&quad(4 * quads.len())[..rest.len()]);
    }
}

/// The index of channel `at`'s sum within a block.
#[inline(always)]
fn sum_index<V: Vectors>(at: usize) -> usize {
    at / 4 % 4 * V::LANES + at / 16 % (V::LANES / 4) * 4 + at % 4
}

/// Widens a block's bytes to 32-bit integers and adds `offset`.
#[inline(always)]
pub fn widened<V: Vectors>(v: V, bytes: &[u8], offset: V::Vector) -> [V::Vector; 4] {
    let none = v.splat(0);
    let mut values = v.interleave([v.load_bytes(bytes), none, none, none]);
    for value in &mut values {
        *value = v.add(*value, offset);
    }
    values
}
