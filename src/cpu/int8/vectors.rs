//! Integer vectors: the interface to an instruction set, a portable implementation, and the choice at run
//! time.
//!
//! A *block* has one channel per byte of a register, and four vectors of sums. Interleaving four registers of
//! bytes puts the sums in *block order*: within each 16 channels, vector `v` has channels `4 v` to `4 v + 3`.
//! Packing puts the bytes back in channel order.

use std::fmt;

use super::numbers::HardSwish;

/// The largest number of channels per block.
pub const MAX_BLOCK: usize = 32;

/// An instruction set. A value exists only if the processor has it.
pub trait Vectors: Copy {
    /// Sums per vector.
    const LANES: usize;
    /// Bytes per vector, and channels per block.
    const BLOCK: usize = 4 * Self::LANES;
    /// True if registers hold 24 vectors of sums and the operands of a product.
    const LARGE_TILES: bool;
    /// 32-bit integers, or four times as many bytes.
    type Vector: Copy;
    /// Map bytes, four per sum, as an operand of [`Vectors::dot`].
    type Maps: Copy;
    /// Weights, four per sum, as an operand of [`Vectors::dot`].
    type Weights: Copy;

    fn splat(self, value: i32) -> Self::Vector;
    /// Broadcasts one byte.
    fn splat_byte(self, value: u8) -> Self::Vector;
    /// Loads the first [`Vectors::LANES`] integers.
    fn load(self, values: &[i32]) -> Self::Vector;
    fn store(self, vector: Self::Vector, values: &mut [i32]);
    /// Loads a block's bytes without a bounds check: if a loop may panic, the compiler keeps its sums in
    /// memory.
    ///
    /// # Safety
    /// `from` points to [`Vectors::BLOCK`] readable bytes.
    #[allow(unsafe_code)]
    unsafe fn read(self, from: *const u8) -> Self::Vector;
    /// Loads up to [`Vectors::BLOCK`] bytes, padded with zeros.
    fn load_bytes(self, bytes: &[u8]) -> Self::Vector;
    /// Stores as many bytes as `bytes` has room for.
    fn store_bytes(self, vector: Self::Vector, bytes: &mut [u8]);
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn multiply(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    fn clamp(self, a: Self::Vector, limits: [i32; 2]) -> Self::Vector;
    fn shift_left(self, a: Self::Vector, by: Self::Vector) -> Self::Vector;
    /// `((a * multiplier >> 32) + round) >> right`, with a 64-bit product.
    fn scale(
        self,
        a: Self::Vector,
        multiplier: Self::Vector,
        round: Self::Vector,
        right: Self::Vector,
    ) -> Self::Vector;
    /// Interleaves four registers of bytes: byte `i` of each 32-bit lane is from `sources[i]`.
    fn interleave(self, sources: [Self::Vector; 4]) -> [Self::Vector; 4];
    /// Packs a block's sums to bytes: adds `zero` and clamps to `limits`.
    fn pack(self, sums: [Self::Vector; 4], zero: u8, limits: [u8; 2]) -> Self::Vector;
    /// The integers nearest to `factor x clamp(x + 3, 0, 6)` with `x = a scale`; ties go to the even one. All sets
    /// give exactly the result of [`HardSwish::at`] if its magnitude is below 2^30.
    fn hard_swish(self, a: Self::Vector, function: HardSwish) -> Self::Vector;
    /// Broadcasts four bytes.
    fn spread(self, bytes: [u8; 4]) -> Self::Maps;
    fn maps(self, bytes: Self::Vector) -> Self::Maps;
    fn weights(self, bytes: Self::Vector) -> Self::Weights;
    /// Adds four products to each sum. The factors of a product are a map byte minus [`Isa::offset`], and a
    /// weight.
    fn dot(self, sums: Self::Vector, maps: Self::Maps, weights: Self::Weights) -> Self::Vector;
}

/// Code that is generic over instruction sets.
pub trait Job {
    fn run<V: Vectors>(self, vectors: V);
}

/// An instruction set for integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Dot products of bytes, and 32 registers.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    /// Dot products of bytes, and 16 registers.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Dot products of an unsigned and a signed byte.
    #[cfg(target_arch = "aarch64")]
    NeonI8mm,
    /// Dot products of signed bytes.
    #[cfg(target_arch = "aarch64")]
    NeonDotprod,
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Portable loops that the compiler may vectorise.
    Plain,
}

impl Isa {
    /// The sets that this processor has, the fastest first.
    pub fn all() -> impl Iterator<Item = Self> {
        let sets = [
            #[cfg(target_arch = "x86_64")]
            (Self::Avx512Vnni, super::x86::has_avx512_vnni()),
            #[cfg(target_arch = "x86_64")]
            (Self::AvxVnni, super::x86::has_avx_vnni()),
            #[cfg(target_arch = "x86_64")]
            (Self::Avx2, super::x86::has_avx2()),
            #[cfg(target_arch = "aarch64")]
            (Self::NeonI8mm, super::neon::has_i8mm()),
            #[cfg(target_arch = "aarch64")]
            (Self::NeonDotprod, super::neon::has_dotprod()),
            #[cfg(target_arch = "aarch64")]
            (Self::Neon, true),
            (Self::Plain, true),
        ];
        sets.into_iter().filter_map(|(set, supported)| supported.then_some(set))
    }

    /// The fastest set that this processor has.
    pub fn best() -> Self {
        Self::all().next().unwrap_or(Self::Plain)
    }

    /// Channels per block.
    pub fn block(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni | Self::AvxVnni | Self::Avx2 => 32,
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm | Self::NeonDotprod | Self::Neon => 16,
            Self::Plain => Plain::BLOCK,
        }
    }

    /// The number subtracted from a map's bytes before they are multiplied: 128 if both operands are signed,
    /// otherwise 0.
    pub fn offset(self) -> i32 {
        match self {
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod => 128,
            _ => 0,
        }
    }

    /// Runs a job with this set.
    pub fn run(self, job: impl Job) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => super::x86::run_avx512_vnni(job),
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => super::x86::run_avx_vnni(job),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => super::x86::run_avx2(job),
            #[cfg(target_arch = "aarch64")]
            Self::NeonI8mm => super::neon::run_i8mm(job),
            #[cfg(target_arch = "aarch64")]
            Self::NeonDotprod => super::neon::run_dotprod(job),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => super::neon::run_neon(job),
            Self::Plain => job.run(Plain),
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Portable vectors: arrays of 128 bits, a vector length that all common processors support.
#[derive(Clone, Copy)]
pub struct Plain;

impl Vectors for Plain {
    const LANES: usize = 4;
    const LARGE_TILES: bool = false;
    type Vector = [i32; 4];
    type Maps = [i32; 4];
    type Weights = [i32; 4];

    #[inline(always)]
    fn splat(self, value: i32) -> [i32; 4] {
        [value; 4]
    }

    #[inline(always)]
    fn splat_byte(self, value: u8) -> [i32; 4] {
        [i32::from_ne_bytes([value; 4]); 4]
    }

    #[inline(always)]
    fn load(self, values: &[i32]) -> [i32; 4] {
        std::array::from_fn(|i| values[i])
    }

    #[inline(always)]
    fn store(self, vector: [i32; 4], values: &mut [i32]) {
        values[..4].copy_from_slice(&vector);
    }

    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn read(self, from: *const u8) -> [i32; 4] {
        // SAFETY: by the caller's contract.
        unsafe { from.cast::<[i32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8]) -> [i32; 4] {
        let mut whole = [0; 16];
        let count = bytes.len().min(16);
        whole[..count].copy_from_slice(&bytes[..count]);
        bytemuck::cast(whole)
    }

    #[inline(always)]
    fn store_bytes(self, vector: [i32; 4], bytes: &mut [u8]) {
        let room = bytes.len().min(16);
        bytes[..room].copy_from_slice(&bytemuck::bytes_of(&vector)[..room]);
    }

    #[inline(always)]
    fn add(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        std::array::from_fn(|i| a[i].wrapping_add(b[i]))
    }

    #[inline(always)]
    fn multiply(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        std::array::from_fn(|i| a[i].wrapping_mul(b[i]))
    }

    #[inline(always)]
    fn clamp(self, a: [i32; 4], [least, most]: [i32; 2]) -> [i32; 4] {
        a.map(|a| a.max(least).min(most))
    }

    #[inline(always)]
    fn shift_left(self, a: [i32; 4], by: [i32; 4]) -> [i32; 4] {
        std::array::from_fn(|i| a[i].wrapping_shl(by[i] as u32))
    }

    #[inline(always)]
    fn scale(self, a: [i32; 4], multiplier: [i32; 4], round: [i32; 4], right: [i32; 4]) -> [i32; 4] {
        std::array::from_fn(|i| {
            let product = i64::from(a[i]) * i64::from(multiplier[i]);
            ((product >> 32) as i32).wrapping_add(round[i]).wrapping_shr(right[i] as u32)
        })
    }

    #[inline(always)]
    fn interleave(self, sources: [[i32; 4]; 4]) -> [[i32; 4]; 4] {
        let bytes: [[u8; 16]; 4] = sources.map(bytemuck::cast);
        std::array::from_fn(|v| {
            std::array::from_fn(|i| i32::from_ne_bytes(std::array::from_fn(|from| bytes[from][4 * v + i])))
        })
    }

    #[inline(always)]
    fn pack(self, sums: [[i32; 4]; 4], zero: u8, [least, most]: [u8; 2]) -> [i32; 4] {
        let bytes: [[u8; 4]; 4] = sums.map(|sums| {
            sums.map(|sum| sum.saturating_add(zero.into()).max(least.into()).min(most.into()) as u8)
        });
        bytemuck::cast(bytes)
    }

    #[inline(always)]
    fn hard_swish(self, a: [i32; 4], function: HardSwish) -> [i32; 4] {
        a.map(|a| function.at(a))
    }

    #[inline(always)]
    fn spread(self, bytes: [u8; 4]) -> [i32; 4] {
        [i32::from_ne_bytes(bytes); 4]
    }

    #[inline(always)]
    fn maps(self, bytes: [i32; 4]) -> [i32; 4] {
        bytes
    }

    #[inline(always)]
    fn weights(self, bytes: [i32; 4]) -> [i32; 4] {
        bytes
    }

    #[inline(always)]
    fn dot(self, sums: [i32; 4], maps: [i32; 4], weights: [i32; 4]) -> [i32; 4] {
        std::array::from_fn(|i| {
            let products = maps[i].to_ne_bytes().into_iter().zip(weights[i].to_ne_bytes());
            products.fold(sums[i], |sum, (map, weight)| {
                sum.wrapping_add(i32::from(map) * i32::from(weight.cast_signed()))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// A comparison of all operations with [`Plain`], on extreme and random integers.
    struct Operations<'a>(Isa, &'a mut Random);

    impl Job for Operations<'_> {
        fn run<V: Vectors>(self, v: V) {
            let mut bits = || self.1.bits() as u32;
            let mut any = || match bits() % 3 {
                0 => [i32::MIN, -32769, -256, -1, 0, 1, 255, 32768, i32::MAX][bits() as usize % 9],
                _ => bits().cast_signed() >> (bits() % 31),
            };
            let mut many = || -> [i32; 8] { std::array::from_fn(|_| any()) };
            let out = |vector: V::Vector| {
                let mut values = [0; 8];
                v.store(vector, &mut values[..V::LANES]);
                values
            };
            for round in 0..2000 {
                let values: [[i32; 8]; 4] = std::array::from_fn(|_| many());
                let [limits, shifts, ..] = [many(), many()];
                let vectors = values.map(|values| v.load(&values));
                let ends = [limits[0].min(limits[1]), limits[0].max(limits[1])];
                let bytes = [limits[2], limits[3]].map(|limit| limit as u8);
                let bytes = [bytes[0].min(bytes[1]), bytes[0].max(bytes[1])];
                let (one, zero) = (limits[4], limits[5] as u8);
                let function =
                    HardSwish { scale: 1.0 / (1.0 + zero as f32), factor: 1.0 + one as f32 / 2e10 };
                let curved = [-4096, 4096];
                let left = shifts.map(|shift| shift & 31);
                let right = shifts.map(|shift| 1 + (shift & 31) % 31);
                let rounds = right.map(|right| 1 << (right - 1));
                let [a, b, c, _] = vectors;
                let [load_left, load_right, load_rounds] = [left, right, rounds].map(|these| v.load(&these));
                let (spread, maps, weights) = (v.spread(one.to_ne_bytes()), v.maps(b), v.weights(c));
                let found = [
                    v.splat(one),
                    v.splat_byte(zero),
                    v.add(a, b),
                    v.multiply(a, b),
                    v.clamp(a, ends),
                    v.shift_left(a, load_left),
                    v.scale(a, b, load_rounds, load_right),
                    v.pack(vectors, zero, bytes),
                    v.dot(a, spread, weights),
                    v.dot(a, maps, weights),
                    v.hard_swish(v.clamp(a, curved), function),
                ];
                let found = found.into_iter().chain(v.interleave(vectors)).map(out);
                // A longer vector equals several plain vectors side by side.
                for (which, found) in found.enumerate() {
                    for at in (0..V::LANES).step_by(4) {
                        let p = Plain;
                        let load = |these: &[i32; 8]| p.load(&these[at..]);
                        let quads = values.each_ref().map(load);
                        // A product with maps that are lower by the offset.
                        let dot = |a, maps, weights| {
                            let ones = p.dot(p.splat(0), p.splat_byte(1), weights);
                            p.add(p.dot(a, maps, weights), p.multiply(ones, p.splat(-self.0.offset())))
                        };
                        let [a, b, c, _] = quads;
                        let expected = match which {
                            0 => p.splat(one),
                            1 => p.splat_byte(zero),
                            2 => p.add(a, b),
                            3 => p.multiply(a, b),
                            4 => p.clamp(a, ends),
                            5 => p.shift_left(a, load(&left)),
                            6 => p.scale(a, b, load(&rounds), load(&right)),
                            7 => p.pack(quads, zero, bytes),
                            8 => dot(a, p.spread(one.to_ne_bytes()), c),
                            9 => dot(a, b, c),
                            10 => p.hard_swish(p.clamp(a, curved), function),
                            _ => p.interleave(quads)[which - 11],
                        };
                        assert_eq!(found[at..at + 4], expected, "round {round}, operation {which} at {at}");
                    }
                }
                let raw: [u8; 40] = std::array::from_fn(|i| (values[i % 4][i / 4 % 8] >> (i % 3)) as u8);
                for len in 0..=4 * V::LANES {
                    let mut padded = [0; 32];
                    padded[..len].copy_from_slice(&raw[..len]);
                    let loaded = out(v.load_bytes(&raw[..len]));
                    assert_eq!(
                        bytemuck::bytes_of(&loaded)[..4 * V::LANES],
                        padded[..4 * V::LANES],
                        "{len} bytes"
                    );
                    let mut stored = raw;
                    v.store_bytes(vectors[0], &mut stored[..len]);
                    assert_eq!(stored[..len], bytemuck::bytes_of(&values[0])[..len], "{len} bytes");
                    assert_eq!(stored[len..], raw[len..], "beyond {len} bytes");
                }
            }
        }
    }

    #[test]
    fn instruction_sets_match_plain_loops() {
        for isa in Isa::all() {
            isa.run(Operations(isa, &mut Random::new(2)));
        }
    }
}
