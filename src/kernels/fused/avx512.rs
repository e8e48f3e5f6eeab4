//! Sixteen lanes of AVX-512, on CPUs that have F, BW, DQ, VL and POPCNT.

#![expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")]

use std::arch::x86_64::{
    __m512, _CMP_LT_OQ, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256,
    _mm256_storeu_si256, _mm512_abs_ps, _mm512_add_epi32, _mm512_add_ps, _mm512_and_si512,
    _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cmpneq_epi32_mask,
    _mm512_cvtepi32_epi16, _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_cvtps_ph, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_srli_epi32,
    _mm512_storeu_ps, _mm512_sub_ps,
};

use crate::kernels::fused::vector::{CodeVector, Vector};

/// Sixteen values.
#[derive(Clone, Copy)]
pub(crate) struct Sixteen(__m512);

// SAFETY: the trait's functions are called only where the features are; each load and store is of a slice that was cut to
// its size.
unsafe impl Vector for Sixteen {
    type Value = f32;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Sixteen(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(values: &[f32]) -> Self {
        Sixteen(unsafe { _mm512_loadu_ps(values[..16].as_ptr()) })
    }

    #[inline(always)]
    unsafe fn store(self, values: &mut [f32]) {
        unsafe { _mm512_storeu_ps(values[..16].as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        Sixteen(unsafe { _mm512_fmadd_ps(self.0, by.0, plus.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Sixteen(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Sixteen(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Sixteen(unsafe { _mm512_abs_ps(self.0) })
    }
}

// SAFETY: as above.
unsafe impl CodeVector for Sixteen {
    #[inline(always)]
    unsafe fn prefetch(codes: &[u8]) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(codes.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Sixteen(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn differing(self, other: Self) -> u32 {
        unsafe {
            let [one, other] = [_mm512_castps_si512(self.0), _mm512_castps_si512(other.0)];
            u32::from(_mm512_cmpneq_epi32_mask(one, other))
        }
    }

    #[inline(always)]
    unsafe fn smaller(self, other: Self) -> u32 {
        unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(self.0), other.0)) }
    }

    #[inline(always)]
    unsafe fn widen_bf16(codes: &[u8]) -> Self {
        unsafe {
            let codes = _mm256_loadu_si256(codes[..32].as_ptr().cast());
            Sixteen(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(codes))))
        }
    }

    #[inline(always)]
    unsafe fn widen_f16(codes: &[u8]) -> Self {
        Sixteen(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(codes[..32].as_ptr().cast())) })
    }

    #[inline(always)]
    unsafe fn narrow_bf16(self, codes: &mut [u8]) {
        unsafe {
            let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(_mm512_castps_si512(self.0)));
            _mm256_storeu_si256(codes[..32].as_mut_ptr().cast(), halves);
        }
    }

    #[inline(always)]
    unsafe fn narrow_f16(self, codes: &mut [u8]) {
        unsafe {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            _mm256_storeu_si256(codes[..32].as_mut_ptr().cast(), halves);
        }
    }

    #[inline(always)]
    unsafe fn round_bf16(self) -> Self {
        unsafe {
            let bits = _mm512_add_epi32(_mm512_castps_si512(self.0), _mm512_set1_epi32(0x8000));
            Sixteen(_mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(!0xffff))))
        }
    }

    #[inline(always)]
    unsafe fn round_f16(self) -> Self {
        Sixteen(unsafe { _mm512_cvtph_ps(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) })
    }
}
