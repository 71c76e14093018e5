//! From sums to what a map holds, in the tile that has just made them: residual, rescaling, activation.

use aligned_vec::AVec;

use super::{
    numbers::{Ending, Numbers},
    vectors::{Isa, MOST, Vectors},
};
use crate::graph::{CURVE, Rescale};

/// The channel that place `at` of many blocks' sums is of, and whether it is one of `channels`.
pub fn channel(block: usize, at: usize) -> usize {
    let lanes = block / 4;
    let (vector, lane) = (at / lanes % 4, at % lanes);
    at / block * block + lane / 4 * 16 + 4 * vector + lane % 4
}

/// Values of channels in the order in which blocks hold them; what is no channel has the default.
pub fn ordered<T: Copy + Default>(isa: Isa, values: &[T]) -> AVec<T> {
    let block = isa.block();
    let value = |at: usize| values.get(channel(block, at)).copied().unwrap_or_default();
    AVec::from_iter(0, (0..values.len().next_multiple_of(block)).map(value))
}

/// Factors as vectors take them, in the order of blocks: shifted by at least 33, so that the upper half of a product
/// is all that counts of it. Shifting what they are applied to makes up for that.
pub struct Scales {
    left: Option<AVec<i32>>,
    multiplier: AVec<i32>,
    round: AVec<i32>,
    right: AVec<i32>,
}

impl Scales {
    /// None if what a factor is applied to, which may be so large, has no room to be shifted.
    pub fn new(isa: Isa, rescales: &[Rescale], most: &[i64]) -> Option<Self> {
        let left = |rescale: &Rescale| 33u32.saturating_sub(rescale.shift);
        let fits = |(rescale, most): (&Rescale, &i64)| {
            left(rescale) == 0 || *most < 1 << (31 - left(rescale).min(31))
        };
        if !rescales.iter().zip(most).all(fits) {
            return None;
        }
        let each =
            |value: &dyn Fn(&Rescale) -> i32| ordered(isa, &rescales.iter().map(value).collect::<Vec<i32>>());
        let shift = |rescale: &Rescale| rescale.shift + left(rescale);
        Some(Self {
            left: rescales.iter().any(|r| left(r) > 0).then(|| each(&|r| left(r) as i32)),
            multiplier: each(&|r| r.multiplier),
            round: each(&|r| 1 << (shift(r) - 33)),
            right: each(&|r| shift(r) as i32 - 32),
        })
    }

    pub fn bytes(&self) -> usize {
        4 * (self.left.as_ref().map_or(0, |left| left.len()) + 3 * self.multiplier.len())
    }

    /// Those of the vector at `at`.
    #[inline(always)]
    pub fn load<V: Vectors>(&self, v: V, at: usize) -> Scale<V> {
        Scale {
            left: self.left.as_ref().map(|left| v.load(&left[at..])),
            multiplier: v.load(&self.multiplier[at..]),
            round: v.load(&self.round[at..]),
            right: v.load(&self.right[at..]),
        }
    }
}

/// A vector of factors.
#[derive(Clone, Copy)]
pub struct Scale<V: Vectors> {
    left: Option<V::Vector>,
    multiplier: V::Vector,
    round: V::Vector,
    right: V::Vector,
}

impl<V: Vectors> Scale<V> {
    #[inline(always)]
    pub fn apply(self, v: V, mut values: V::Vector) -> V::Vector {
        if let Some(left) = self.left {
            values = v.shift_left(values, left);
        }
        v.scale(values, self.multiplier, self.round, self.right)
    }
}

/// What follows a convolution's sums.
pub struct Finish {
    pub numbers: Numbers,
    pub isa: Isa,
    /// In the order of blocks.
    bias: AVec<i32>,
    /// None if sums are too large for vectors, or become floating point.
    vectors: Option<Followed>,
}

/// The factors of residual and sums.
struct Followed {
    residual: Option<Scales>,
    sums: Scales,
}

impl Finish {
    pub fn new(isa: Isa, numbers: Numbers) -> Self {
        let residual = numbers
            .residual
            .as_ref()
            .map(|residual| Scales::new(isa, &residual.rescales, &vec![255; residual.rescales.len()]));
        let vectors = match (&numbers.ending, residual) {
            (Ending::Float(_), _) | (_, Some(None)) => None,
            (Ending::Cut { rescales, .. } | Ending::Bent { rescales, .. }, residual) => {
                let sums = Scales::new(isa, rescales, &numbers.most);
                sums.map(|sums| Followed { residual: residual.flatten(), sums })
            }
        };
        Self { isa, bias: ordered(isa, &numbers.bias), vectors, numbers }
    }

    /// Bytes of biases and factors.
    pub fn bytes(&self) -> usize {
        let factors = self
            .vectors
            .as_ref()
            .map_or(0, |vectors| vectors.sums.bytes() + vectors.residual.as_ref().map_or(0, Scales::bytes));
        let curve = if matches!(self.numbers.ending, Ending::Bent { .. }) { CURVE } else { 0 };
        4 * self.bias.len() + factors + curve
    }

    /// What the sums of a block begin with.
    #[inline(always)]
    pub fn begin<V: Vectors>(&self, v: V, block: usize) -> [V::Vector; 4] {
        let bias = &self.bias[block * V::BLOCK..][..V::BLOCK];
        let mut sums = [v.splat(0); 4];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = v.load(&bias[i * V::LANES..]);
        }
        sums
    }

    /// Stores the sums of a block for as many pixels, one behind the other in `output` and `residual`, whose first
    /// channel is `first`.
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
        let Some(vectors) = &self.vectors else {
            for (p, sums) in sums.into_iter().enumerate() {
                let residual = residual.map(|residual| &residual[p * stride..]);
                self.one_by_one(v, block, sums, residual, &mut output[p * stride * self.numbers.size()..]);
            }
            return;
        };
        let there = V::BLOCK.min(self.numbers.bias.len() - block * V::BLOCK);
        if let (Some(bytes), Some(scales), Some(way)) = (residual, &vectors.residual, &self.numbers.residual)
        {
            let zero = v.splat(-i32::from(way.zero));
            for (p, sums) in sums.iter_mut().enumerate() {
                let mut added = v.interleave([
                    v.load_bytes(&bytes[p * stride..][..there]),
                    v.splat(0),
                    v.splat(0),
                    v.splat(0),
                ]);
                for (i, (sum, added)) in sums.iter_mut().zip(&mut added).enumerate() {
                    let scale = scales.load(v, block * V::BLOCK + i * V::LANES);
                    *sum = v.add(*sum, scale.apply(v, v.add(*added, zero)));
                }
            }
        }
        for i in 0..4 {
            let scale = vectors.sums.load(v, block * V::BLOCK + i * V::LANES);
            for sums in &mut sums {
                sums[i] = scale.apply(v, sums[i]);
            }
        }
        for (p, sums) in sums.into_iter().enumerate() {
            let output = &mut output[p * stride..][..there];
            match &self.numbers.ending {
                Ending::Cut { zero, limits, .. } => v.store_bytes(v.pack(sums, *zero, *limits), output),
                Ending::Bent { curve, .. } => {
                    let steps = spilled(v, sums);
                    for (at, output) in output.iter_mut().enumerate() {
                        *output = super::numbers::byte(curve.at(steps[place::<V>(at)]));
                    }
                }
                Ending::Float(_) => {}
            }
        }
    }

    /// The same without vectors, for the sums of one pixel.
    #[inline(always)]
    fn one_by_one<V: Vectors>(
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
            let sum = sums[place::<V>(at)].wrapping_add(added);
            match &self.numbers.ending {
                Ending::Float(factors) => {
                    output[4 * at..][..4].copy_from_slice(&(sum as f32 * factors[o]).to_ne_bytes());
                }
                _ => output[at] = self.numbers.byte(o, sum),
            }
        }
    }
}

/// The sums of a block in memory, in the order of blocks.
#[inline(always)]
fn spilled<V: Vectors>(v: V, sums: [V::Vector; 4]) -> [i32; MOST] {
    let mut values = [0; MOST];
    for (values, sums) in values.chunks_exact_mut(V::LANES).zip(sums) {
        v.store(sums, values);
    }
    values
}

/// Where a block has the sum of its channel `at`.
#[inline(always)]
fn place<V: Vectors>(at: usize) -> usize {
    at / 4 % 4 * V::LANES + at / 16 * 4 + at % 4
}
