//! 256-bit vectors of x86-64, with and without dot products of bytes. 512-bit vectors would not be faster on
//! processors that need two cycles for them, and would be half empty in narrow layers.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::{
    numbers::HardSwish,
    vectors::{Job, Vectors},
};

pub fn has_avx512_vnni() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
}

pub fn has_avx_vnni() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("avxvnni")
}

pub fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

pub fn run_avx512_vnni(job: impl Job) {
    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512vnni")]
    fn run(job: impl Job) {
        job.run(Ymm(Avx512Vnni(())));
    }
    assert!(has_avx512_vnni());
    // SAFETY: the processor has these instructions.
    unsafe { run(job) }
}

pub fn run_avx_vnni(job: impl Job) {
    #[target_feature(enable = "avx2,avxvnni")]
    fn run(job: impl Job) {
        job.run(Ymm(AvxVnni(())));
    }
    assert!(has_avx_vnni());
    // SAFETY: the processor has these instructions.
    unsafe { run(job) }
}

pub fn run_avx2(job: impl Job) {
    #[target_feature(enable = "avx2")]
    fn run(job: impl Job) {
        job.run(Ymm(Avx2(())));
    }
    assert!(has_avx2());
    // SAFETY: the processor has these instructions.
    unsafe { run(job) }
}

/// The differences between instruction sets that include AVX2. A value exists only if the processor has the
/// set.
pub trait Set: Copy {
    const LARGE_TILES: bool;
    type Maps: Copy;
    type Weights: Copy;
    fn maps(self, bytes: __m256i) -> Self::Maps;
    fn weights(self, bytes: __m256i) -> Self::Weights;
    fn dot(self, sums: __m256i, maps: Self::Maps, weights: Self::Weights) -> __m256i;

    /// The upper halves of 64-bit products, given those of even and of odd lanes.
    #[inline(always)]
    fn upper(self, even: __m256i, odd: __m256i) -> __m256i {
        // SAFETY: the processor has AVX2.
        unsafe { _mm256_blend_epi32::<0b1010_1010>(_mm256_srli_epi64::<32>(even), odd) }
    }

    /// Loads fewer bytes than a register has; the rest are 0.
    #[inline(always)]
    fn load_part(self, bytes: &[u8]) -> __m256i {
        let mut whole = [0; 32];
        whole[..bytes.len()].copy_from_slice(bytes);
        // SAFETY: the processor has AVX2, and `whole` has 32 bytes.
        unsafe { _mm256_loadu_si256(whole.as_ptr().cast()) }
    }

    /// Stores the first bytes, fewer than a register has.
    #[inline(always)]
    fn store_part(self, vector: __m256i, bytes: &mut [u8]) {
        let mut whole = [0; 32];
        // SAFETY: the processor has AVX2, and `whole` has room for 32 bytes.
        unsafe { _mm256_storeu_si256(whole.as_mut_ptr().cast(), vector) };
        bytes.copy_from_slice(&whole[..bytes.len()]);
    }
}

/// AVX-512 VNNI: four byte products per sum in one instruction, and masked loads and stores.
#[derive(Clone, Copy)]
pub struct Avx512Vnni(());

impl Set for Avx512Vnni {
    const LARGE_TILES: bool = true;
    type Maps = __m256i;
    type Weights = __m256i;

    #[inline(always)]
    fn maps(self, bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    fn weights(self, bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, maps: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the processor has the set.
        unsafe { _mm256_dpbusd_epi32(sums, maps, weights) }
    }

    #[inline(always)]
    fn upper(self, even: __m256i, odd: __m256i) -> __m256i {
        // SAFETY: the processor has the set.
        unsafe { _mm256_mask_shuffle_epi32::<0b1111_0101>(odd, 0b0101_0101, even) }
    }

    #[inline(always)]
    fn load_part(self, bytes: &[u8]) -> __m256i {
        let mask = (1u32 << bytes.len().min(31)) - 1;
        // SAFETY: the processor has the set; masked-out bytes are not read.
        unsafe { _mm256_maskz_loadu_epi8(mask, bytes.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_part(self, vector: __m256i, bytes: &mut [u8]) {
        let mask = (1u32 << bytes.len().min(31)) - 1;
        // SAFETY: the processor has the set; masked-out bytes are not written.
        unsafe { _mm256_mask_storeu_epi8(bytes.as_mut_ptr().cast(), mask, vector) }
    }
}

/// AVX-VNNI: four byte products per sum in one instruction.
#[derive(Clone, Copy)]
pub struct AvxVnni(());

impl Set for AvxVnni {
    const LARGE_TILES: bool = false;
    type Maps = __m256i;
    type Weights = __m256i;

    #[inline(always)]
    fn maps(self, bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    fn weights(self, bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, maps: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the processor has the set.
        unsafe { _mm256_dpbusd_avx_epi32(sums, maps, weights) }
    }
}

/// AVX2: 16-bit products, as byte products would saturate. Even and odd bytes are in separate vectors.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Set for Avx2 {
    const LARGE_TILES: bool = false;
    type Maps = [__m256i; 2];
    type Weights = [__m256i; 2];

    #[inline(always)]
    fn maps(self, bytes: __m256i) -> [__m256i; 2] {
        // SAFETY: the processor has the set.
        unsafe { [_mm256_and_si256(bytes, _mm256_set1_epi16(0xff)), _mm256_srli_epi16::<8>(bytes)] }
    }

    #[inline(always)]
    fn weights(self, bytes: __m256i) -> [__m256i; 2] {
        // SAFETY: the processor has the set.
        unsafe { [_mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes)), _mm256_srai_epi16::<8>(bytes)] }
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, maps: [__m256i; 2], weights: [__m256i; 2]) -> __m256i {
        // SAFETY: the processor has the set.
        unsafe {
            let even = _mm256_madd_epi16(maps[0], weights[0]);
            let odd = _mm256_madd_epi16(maps[1], weights[1]);
            _mm256_add_epi32(sums, _mm256_add_epi32(even, odd))
        }
    }
}

/// 256-bit vectors.
#[derive(Clone, Copy)]
pub struct Ymm<S: Set>(S);

// SAFETY of the whole impl: a `Set` exists only if the processor has AVX2, and lengths are checked before
// memory is accessed.
impl<S: Set> Vectors for Ymm<S> {
    const LANES: usize = 8;
    const LARGE_TILES: bool = S::LARGE_TILES;
    type Vector = __m256i;
    type Maps = S::Maps;
    type Weights = S::Weights;

    #[inline(always)]
    fn splat(self, value: i32) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_set1_epi32(value) }
    }

    #[inline(always)]
    fn splat_byte(self, value: u8) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_set1_epi8(value.cast_signed()) }
    }

    #[inline(always)]
    fn load(self, values: &[i32]) -> __m256i {
        let values = &values[..8];
        // SAFETY: as above.
        unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store(self, vector: __m256i, values: &mut [i32]) {
        let values = &mut values[..8];
        // SAFETY: as above.
        unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), vector) }
    }

    #[inline(always)]
    unsafe fn read(self, from: *const u8) -> __m256i {
        // SAFETY: as above, and by the caller's contract.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    fn load_bytes(self, bytes: &[u8]) -> __m256i {
        match bytes.first_chunk::<32>() {
            // SAFETY: as above.
            Some(bytes) => unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) },
            None => self.0.load_part(bytes),
        }
    }

    #[inline(always)]
    fn store_bytes(self, vector: __m256i, bytes: &mut [u8]) {
        match bytes.first_chunk_mut::<32>() {
            // SAFETY: as above.
            Some(bytes) => unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), vector) },
            None => self.0.store_part(vector, bytes),
        }
    }

    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_add_epi32(a, b) }
    }

    #[inline(always)]
    fn multiply(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_mullo_epi32(a, b) }
    }

    #[inline(always)]
    fn clamp(self, a: __m256i, [least, most]: [i32; 2]) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_min_epi32(_mm256_max_epi32(a, self.splat(least)), self.splat(most)) }
    }

    #[inline(always)]
    fn shift_left(self, a: __m256i, by: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe { _mm256_sllv_epi32(a, by) }
    }

    #[inline(always)]
    fn scale(self, a: __m256i, multiplier: __m256i, round: __m256i, right: __m256i) -> __m256i {
        // SAFETY: as above.
        unsafe {
            let even = _mm256_mul_epi32(a, multiplier);
            let odd = _mm256_mul_epi32(_mm256_srli_epi64::<32>(a), _mm256_srli_epi64::<32>(multiplier));
            _mm256_srav_epi32(_mm256_add_epi32(self.0.upper(even, odd), round), right)
        }
    }

    #[inline(always)]
    fn interleave(self, [a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        // SAFETY: as above.
        unsafe {
            let low = [_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d)];
            let high = [_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d)];
            [
                _mm256_unpacklo_epi16(low[0], low[1]),
                _mm256_unpackhi_epi16(low[0], low[1]),
                _mm256_unpacklo_epi16(high[0], high[1]),
                _mm256_unpackhi_epi16(high[0], high[1]),
            ]
        }
    }

    #[inline(always)]
    fn pack(self, [a, b, c, d]: [__m256i; 4], zero: u8, [least, most]: [u8; 2]) -> __m256i {
        // SAFETY: as above. Saturation is harmless: values beyond 16 bits are beyond the limits.
        unsafe {
            let zero = _mm256_set1_epi16(zero.into());
            let low = _mm256_adds_epi16(_mm256_packs_epi32(a, b), zero);
            let high = _mm256_adds_epi16(_mm256_packs_epi32(c, d), zero);
            let bytes = _mm256_packus_epi16(low, high);
            _mm256_min_epu8(_mm256_max_epu8(bytes, self.splat_byte(least)), self.splat_byte(most))
        }
    }

    #[inline(always)]
    fn hard_swish(self, a: __m256i, HardSwish { scale, factor }: HardSwish) -> __m256i {
        // SAFETY: as above.
        unsafe {
            let x = _mm256_mul_ps(_mm256_cvtepi32_ps(a), _mm256_set1_ps(scale));
            let gate = _mm256_max_ps(_mm256_add_ps(x, _mm256_set1_ps(3.0)), _mm256_setzero_ps());
            let gate = _mm256_min_ps(gate, _mm256_set1_ps(6.0));
            _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_mul_ps(x, gate), _mm256_set1_ps(factor)))
        }
    }

    #[inline(always)]
    fn spread(self, bytes: [u8; 4]) -> S::Maps {
        self.0.maps(self.splat(i32::from_le_bytes(bytes)))
    }

    #[inline(always)]
    fn maps(self, bytes: __m256i) -> S::Maps {
        self.0.maps(bytes)
    }

    #[inline(always)]
    fn weights(self, bytes: __m256i) -> S::Weights {
        self.0.weights(bytes)
    }

    #[inline(always)]
    fn dot(self, sums: __m256i, maps: S::Maps, weights: S::Weights) -> __m256i {
        self.0.dot(sums, maps, weights)
    }
}
