//! 128-bit vectors of AArch64, with and without dot products of bytes. Those are in assembly: their intrinsics
//! are not stable yet.
#![allow(unsafe_code)]

use std::arch::{aarch64::*, asm, is_aarch64_feature_detected};

use super::{
    numbers::HardSwish,
    vectors::{Job, Vectors},
};

pub fn has_i8mm() -> bool {
    is_aarch64_feature_detected!("i8mm")
}

pub fn has_dotprod() -> bool {
    is_aarch64_feature_detected!("dotprod")
}

pub fn run_i8mm(job: impl Job) {
    #[target_feature(enable = "i8mm")]
    fn run(job: impl Job) {
        job.run(Neon(ByteDot::<false>(())));
    }
    assert!(has_i8mm());
    // SAFETY: the processor has these instructions.
    unsafe { run(job) }
}

pub fn run_dotprod(job: impl Job) {
    #[target_feature(enable = "dotprod")]
    fn run(job: impl Job) {
        job.run(Neon(ByteDot::<true>(())));
    }
    assert!(has_dotprod());
    // SAFETY: the processor has these instructions.
    unsafe { run(job) }
}

pub fn run_neon(job: impl Job) {
    job.run(Neon(Widened));
}

/// Defines an instruction that adds four products of bytes to each sum, as a function.
macro_rules! dot_product {
    ($name:ident, $feature:literal) => {
        #[inline]
        #[target_feature(enable = $feature)]
        fn $name(mut sums: int32x4_t, a: int32x4_t, b: int32x4_t) -> int32x4_t {
            // SAFETY: the processor has the instruction, whose only effect is its output.
            unsafe {
                asm!(
                    concat!(stringify!($name), " {sums:v}.4s, {a:v}.16b, {b:v}.16b"),
                    sums = inout(vreg) sums,
                    a = in(vreg) a,
                    b = in(vreg) b,
                    options(pure, nomem, nostack, preserves_flags),
                );
            }
            sums
        }
    };
}

dot_product!(sdot, "dotprod");
dot_product!(usdot, "i8mm");

/// The differences between instruction sets that include NEON. A value exists only if the processor has the set.
pub trait Set: Copy {
    const LARGE_TILES: bool;
    type Maps: Copy;
    type Weights: Copy;
    fn maps(self, bytes: int32x4_t) -> Self::Maps;
    fn weights(self, bytes: int32x4_t) -> Self::Weights;
    fn dot(self, sums: int32x4_t, maps: Self::Maps, weights: Self::Weights) -> int32x4_t;

    /// Broadcasts four bytes.
    #[inline(always)]
    fn spread(self, bytes: [u8; 4]) -> Self::Maps {
        // SAFETY: NEON is part of AArch64.
        self.maps(unsafe { vdupq_n_s32(i32::from_ne_bytes(bytes)) })
    }
}

/// Four byte products per sum in one instruction: of two signed bytes with the extension dotprod (`SIGNED`), of an
/// unsigned and a signed byte with the extension i8mm.
#[derive(Clone, Copy)]
pub struct ByteDot<const SIGNED: bool>(());

impl<const SIGNED: bool> Set for ByteDot<SIGNED> {
    const LARGE_TILES: bool = true;
    type Maps = int32x4_t;
    type Weights = int32x4_t;

    #[inline(always)]
    fn maps(self, bytes: int32x4_t) -> int32x4_t {
        if !SIGNED {
            return bytes;
        }
        // SAFETY: NEON is part of AArch64.
        unsafe { veorq_s32(bytes, vreinterpretq_s32_u8(vdupq_n_u8(128))) }
    }

    #[inline(always)]
    fn weights(self, bytes: int32x4_t) -> int32x4_t {
        bytes
    }

    #[inline(always)]
    fn dot(self, sums: int32x4_t, maps: int32x4_t, weights: int32x4_t) -> int32x4_t {
        // SAFETY: the processor has the set.
        unsafe { if SIGNED { sdot(sums, maps, weights) } else { usdot(sums, maps, weights) } }
    }
}

/// Every AArch64 processor's NEON: products of bytes widened to 16 bits.
#[derive(Clone, Copy)]
pub struct Widened;

// SAFETY of the whole impl: NEON is part of AArch64.
impl Set for Widened {
    const LARGE_TILES: bool = false;
    /// The first eight bytes, and the last eight.
    type Maps = [int16x8_t; 2];
    type Weights = [int16x8_t; 2];

    #[inline(always)]
    fn maps(self, bytes: int32x4_t) -> [int16x8_t; 2] {
        // SAFETY: as above.
        unsafe {
            let bytes = vreinterpretq_u8_s32(bytes);
            [vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes))), vreinterpretq_s16_u16(vmovl_high_u8(bytes))]
        }
    }

    #[inline(always)]
    fn weights(self, bytes: int32x4_t) -> [int16x8_t; 2] {
        // SAFETY: as above.
        unsafe {
            let bytes = vreinterpretq_s8_s32(bytes);
            [vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)]
        }
    }

    #[inline(always)]
    fn dot(self, sums: int32x4_t, maps: [int16x8_t; 2], weights: [int16x8_t; 2]) -> int32x4_t {
        // SAFETY: as above.
        unsafe {
            let first = vmull_s16(vget_low_s16(maps[0]), vget_low_s16(weights[0]));
            let second = vmull_high_s16(maps[0], weights[0]);
            let third = vmull_s16(vget_low_s16(maps[1]), vget_low_s16(weights[1]));
            let fourth = vmull_high_s16(maps[1], weights[1]);
            vaddq_s32(sums, vpaddq_s32(vpaddq_s32(first, second), vpaddq_s32(third, fourth)))
        }
    }
}

/// 128-bit vectors.
#[derive(Clone, Copy)]
pub struct Neon<S: Set>(S);

// SAFETY of the whole impl: NEON is part of AArch64, and lengths are checked before memory is accessed.
impl<S: Set> Vectors for Neon<S> {
    const LANES: usize = 4;
    const LARGE_TILES: bool = S::LARGE_TILES;
    type Vector = int32x4_t;
    type Maps = S::Maps;
    type Weights = S::Weights;

    #[inline(always)]
    fn splat(self, value: i32) -> int32x4_t {
        // SAFETY: as above.
        unsafe { vdupq_n_s32(value) }
    }

    #[inline(always)]
    fn splat_byte(self, value: u8) -> int32x4_t {
        // SAFETY: as above.
        unsafe { vreinterpretq_s32_u8(vdupq_n_u8(value)) }
    }

    #[inline(always)]
    fn load(self, values: &[i32]) -> int32x4_t {
        let values = &values[..4];
        // SAFETY: as above.
        unsafe { vld1q_s32(values.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, vector: int32x4_t, values: &mut [i32]) {
        let values = &mut values[..4];
        // SAFETY: as above.
        unsafe { vst1q_s32(values.as_mut_ptr(), vector) }
    }

    #[inline(always)]
    unsafe fn read(self, from: *const u8) -> int32x4_t {
        // SAFETY: as above, and by the caller's contract.
        unsafe { vreinterpretq_s32_u8(vld1q_u8(from)) }
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8]) -> int32x4_t {
        let mut part = [0; 16];
        let whole = bytes.first_chunk::<16>().unwrap_or_else(|| {
            part[..bytes.len()].copy_from_slice(bytes);
            &part
        });
        // SAFETY: as above.
        unsafe { vreinterpretq_s32_u8(vld1q_u8(whole.as_ptr())) }
    }

    #[inline(always)]
    fn store_bytes(self, vector: int32x4_t, bytes: &mut [u8]) {
        let mut whole = [0; 16];
        // SAFETY: as above.
        unsafe { vst1q_u8(whole.as_mut_ptr(), vreinterpretq_u8_s32(vector)) };
        match bytes.first_chunk_mut() {
            Some(bytes) => *bytes = whole,
            None => bytes.copy_from_slice(&whole[..bytes.len()]),
        }
    }

    #[inline(always)]
    fn add(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: as above.
        unsafe { vaddq_s32(a, b) }
    }

    #[inline(always)]
    fn multiply(self, a: int32x4_t, b: int32x4_t) -> int32x4_t {
        // SAFETY: as above.
        unsafe { vmulq_s32(a, b) }
    }

    #[inline(always)]
    fn clamp(self, a: int32x4_t, [least, most]: [i32; 2]) -> int32x4_t {
        // SAFETY: as above.
        unsafe { vminq_s32(vmaxq_s32(a, vdupq_n_s32(least)), vdupq_n_s32(most)) }
    }

    #[inline(always)]
    fn shift_left(self, a: int32x4_t, by: int32x4_t) -> int32x4_t {
        // SAFETY: as above.
        unsafe { vshlq_s32(a, by) }
    }

    #[inline(always)]
    fn scale(self, a: int32x4_t, multiplier: int32x4_t, round: int32x4_t, right: int32x4_t) -> int32x4_t {
        // SAFETY: as above.
        unsafe {
            let low = vreinterpretq_s32_s64(vmull_s32(vget_low_s32(a), vget_low_s32(multiplier)));
            let high = vreinterpretq_s32_s64(vmull_high_s32(a, multiplier));
            // A negative shift to the left is a shift to the right.
            vshlq_s32(vaddq_s32(vuzp2q_s32(low, high), round), vnegq_s32(right))
        }
    }

    #[inline(always)]
    fn interleave(self, sources: [int32x4_t; 4]) -> [int32x4_t; 4] {
        // SAFETY: as above.
        unsafe {
            let [a, b, c, d] = sources.map(|source| vreinterpretq_u8_s32(source));
            let low = [vzip1q_u8(a, b), vzip1q_u8(c, d)].map(|x| vreinterpretq_u16_u8(x));
            let high = [vzip2q_u8(a, b), vzip2q_u8(c, d)].map(|x| vreinterpretq_u16_u8(x));
            let sums = [
                vzip1q_u16(low[0], low[1]),
                vzip2q_u16(low[0], low[1]),
                vzip1q_u16(high[0], high[1]),
                vzip2q_u16(high[0], high[1]),
            ];
            sums.map(|x| vreinterpretq_s32_u16(x))
        }
    }

    #[inline(always)]
    fn pack(self, [a, b, c, d]: [int32x4_t; 4], zero: u8, [least, most]: [u8; 2]) -> int32x4_t {
        // SAFETY: as above. Saturation is harmless: values beyond 16 bits are beyond the limits.
        unsafe {
            let zero = vdupq_n_s16(zero.into());
            let low = vqaddq_s16(vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)), zero);
            let high = vqaddq_s16(vcombine_s16(vqmovn_s32(c), vqmovn_s32(d)), zero);
            let bytes = vcombine_u8(vqmovun_s16(low), vqmovun_s16(high));
            let bytes = vminq_u8(vmaxq_u8(bytes, vdupq_n_u8(least)), vdupq_n_u8(most));
            vreinterpretq_s32_u8(bytes)
        }
    }

    #[inline(always)]
    fn hard_swish(self, a: int32x4_t, HardSwish { scale, factor }: HardSwish) -> int32x4_t {
        // SAFETY: as above.
        unsafe {
            let x = vmulq_f32(vcvtq_f32_s32(a), vdupq_n_f32(scale));
            let gate = vmaxq_f32(vaddq_f32(x, vdupq_n_f32(3.0)), vdupq_n_f32(0.0));
            let gate = vminq_f32(gate, vdupq_n_f32(6.0));
            vcvtnq_s32_f32(vmulq_f32(vmulq_f32(x, gate), vdupq_n_f32(factor)))
        }
    }

    #[inline(always)]
    fn spread(self, bytes: [u8; 4]) -> S::Maps {
        self.0.spread(bytes)
    }

    #[inline(always)]
    fn maps(self, bytes: int32x4_t) -> S::Maps {
        self.0.maps(bytes)
    }

    #[inline(always)]
    fn weights(self, bytes: int32x4_t) -> S::Weights {
        self.0.weights(bytes)
    }

    #[inline(always)]
    fn dot(self, sums: int32x4_t, maps: S::Maps, weights: S::Weights) -> int32x4_t {
        self.0.dot(sums, maps, weights)
    }
}
