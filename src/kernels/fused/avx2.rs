//! Eight lanes of AVX2, on CPUs that have FMA, F16C and POPCNT too.

#![expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")]

use std::arch::x86_64::{
    __m256, __m256d, _CMP_LT_OQ, _CMP_NEQ_UQ, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _mm_loadu_ps,
    _mm_loadu_si128, _mm_packus_epi32, _mm_prefetch, _mm_storeu_si128, _mm256_add_epi32, _mm256_add_pd,
    _mm256_add_ps, _mm256_and_pd, _mm256_and_ps, _mm256_and_si256, _mm256_andnot_pd, _mm256_castps_si256,
    _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmp_pd, _mm256_cmp_ps, _mm256_cmpeq_epi32,
    _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_cvtps_pd, _mm256_cvtps_ph, _mm256_extracti128_si256,
    _mm256_fmadd_pd, _mm256_fmadd_ps, _mm256_loadu_pd, _mm256_loadu_ps, _mm256_movemask_ps, _mm256_mul_pd,
    _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_pd, _mm256_set1_ps, _mm256_setzero_pd, _mm256_setzero_ps,
    _mm256_slli_epi32, _mm256_srli_epi32, _mm256_storeu_pd, _mm256_storeu_ps, _mm256_sub_ps,
};

use crate::kernels::fused::vector::{CodeVector, FormulaVector, Vector};

/// Eight values.
#[derive(Clone, Copy)]
pub(crate) struct Eight(__m256);

// SAFETY: the trait's functions are called only where the features are; each load and store is of a slice that was cut to
// its size.
unsafe impl Vector for Eight {
    type Value = f32;
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Eight(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(values: &[f32]) -> Self {
        Eight(unsafe { _mm256_loadu_ps(values[..8].as_ptr()) })
    }

    #[inline(always)]
    unsafe fn store(self, values: &mut [f32]) {
        unsafe { _mm256_storeu_ps(values[..8].as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        Eight(unsafe { _mm256_fmadd_ps(self.0, by.0, plus.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Eight(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Eight(unsafe { _mm256_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Eight(unsafe { _mm256_and_ps(self.0, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fff_ffff))) })
    }
}

// SAFETY: as above.
unsafe impl FormulaVector for Eight {
    #[inline(always)]
    unsafe fn widen(values: &[f32]) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::load(values) }
    }

    #[inline(always)]
    unsafe fn unless_zero(self, of: Self) -> Self {
        unsafe { Eight(_mm256_and_ps(self.0, _mm256_cmp_ps::<_CMP_NEQ_UQ>(of.0, _mm256_setzero_ps()))) }
    }
}

// SAFETY: as above.
unsafe impl CodeVector for Eight {
    #[inline(always)]
    unsafe fn prefetch(codes: &[u8]) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(codes.as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Eight(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn differing(self, other: Self) -> u32 {
        unsafe {
            let same = _mm256_cmpeq_epi32(_mm256_castps_si256(self.0), _mm256_castps_si256(other.0));
            _mm256_movemask_ps(_mm256_castsi256_ps(same)) as u32 ^ 0xff
        }
    }

    #[inline(always)]
    unsafe fn smaller(self, other: Self) -> u32 {
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(self.abs().0, other.0)) as u32 }
    }

    #[inline(always)]
    unsafe fn widen_bf16(codes: &[u8]) -> Self {
        unsafe {
            let codes = _mm256_cvtepu16_epi32(_mm_loadu_si128(codes[..16].as_ptr().cast()));
            Eight(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(codes)))
        }
    }

    #[inline(always)]
    unsafe fn widen_f16(codes: &[u8]) -> Self {
        Eight(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(codes[..16].as_ptr().cast())) })
    }

    #[inline(always)]
    unsafe fn narrow_bf16(self, codes: &mut [u8]) {
        unsafe {
            let halves = _mm256_srli_epi32::<16>(_mm256_castps_si256(self.0));
            let (low, high) = (_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
            _mm_storeu_si128(codes[..16].as_mut_ptr().cast(), _mm_packus_epi32(low, high));
        }
    }

    #[inline(always)]
    unsafe fn narrow_f16(self, codes: &mut [u8]) {
        unsafe {
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0);
            _mm_storeu_si128(codes[..16].as_mut_ptr().cast(), halves);
        }
    }

    #[inline(always)]
    unsafe fn round_bf16(self) -> Self {
        unsafe {
            let bits = _mm256_add_epi32(_mm256_castps_si256(self.0), _mm256_set1_epi32(0x8000));
            Eight(_mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(!0xffff))))
        }
    }

    #[inline(always)]
    unsafe fn round_f16(self) -> Self {
        Eight(unsafe { _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) })
    }
}

/// Four values of f64.
#[derive(Clone, Copy)]
pub(crate) struct Four(__m256d);

// SAFETY: as above.
unsafe impl Vector for Four {
    type Value = f64;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f64) -> Self {
        Four(unsafe { _mm256_set1_pd(value) })
    }

    #[inline(always)]
    unsafe fn load(values: &[f64]) -> Self {
        Four(unsafe { _mm256_loadu_pd(values[..4].as_ptr()) })
    }

    #[inline(always)]
    unsafe fn store(self, values: &mut [f64]) {
        unsafe { _mm256_storeu_pd(values[..4].as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        Four(unsafe { _mm256_fmadd_pd(self.0, by.0, plus.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Four(unsafe { _mm256_add_pd(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Four(unsafe { _mm256_mul_pd(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Four(unsafe { _mm256_andnot_pd(_mm256_set1_pd(-0.0), self.0) })
    }
}

// SAFETY: as above.
unsafe impl FormulaVector for Four {
    #[inline(always)]
    unsafe fn widen(values: &[f32]) -> Self {
        Four(unsafe { _mm256_cvtps_pd(_mm_loadu_ps(values[..4].as_ptr())) })
    }

    #[inline(always)]
    unsafe fn unless_zero(self, of: Self) -> Self {
        unsafe { Four(_mm256_and_pd(self.0, _mm256_cmp_pd::<_CMP_NEQ_UQ>(of.0, _mm256_setzero_pd()))) }
    }
}
