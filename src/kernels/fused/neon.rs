//! Four lanes of NEON, which every aarch64 CPU has.

#![expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")]

use std::arch::aarch64::{
    float32x4_t, float64x2_t, uint32x4_t, vabsq_f32, vabsq_f64, vaddq_f32, vaddq_f64, vaddq_u32, vaddvq_u32,
    vandq_u32, vbicq_u32, vbicq_u64, vceqq_f32, vceqq_f64, vceqq_u32, vcltq_f32, vcvt_f64_f32, vdupq_n_f32,
    vdupq_n_f64, vdupq_n_u32, vfmaq_f32, vfmaq_f64, vld1_f32, vld1_u8, vld1q_f32, vld1q_f64, vld1q_u32,
    vmovl_u16, vmulq_f32, vmulq_f64, vmvnq_u32, vreinterpret_u8_u16, vreinterpret_u16_u8,
    vreinterpretq_f32_u32, vreinterpretq_f64_u64, vreinterpretq_u32_f32, vreinterpretq_u64_f64, vshlq_n_u32,
    vshrn_n_u32, vst1_u8, vst1q_f32, vst1q_f64, vsubq_f32,
};

use crate::kernels::convert::{f16_to_f32, f32_to_f16};
use crate::kernels::fused::vector::{CodeVector, FormulaVector, Vector};

/// Four values.
#[derive(Clone, Copy)]
pub(crate) struct Quad(float32x4_t);

/// A bit for each lane that is all ones.
#[inline(always)]
unsafe fn bits(lanes: uint32x4_t) -> u32 {
    let places = [1_u32, 2, 4, 8];
    // SAFETY: NEON is part of the target; `places` has four values.
    unsafe { vaddvq_u32(vandq_u32(lanes, vld1q_u32(places.as_ptr()))) }
}

// SAFETY: NEON is part of the target, so that its instructions run on every CPU that runs this; each load and store is of a
// slice that was cut to its size.
unsafe impl Vector for Quad {
    type Value = f32;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Quad(unsafe { vdupq_n_f32(value) })
    }

    #[inline(always)]
    unsafe fn load(values: &[f32]) -> Self {
        Quad(unsafe { vld1q_f32(values[..4].as_ptr()) })
    }

    #[inline(always)]
    unsafe fn store(self, values: &mut [f32]) {
        unsafe { vst1q_f32(values[..4].as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        Quad(unsafe { vfmaq_f32(plus.0, self.0, by.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Quad(unsafe { vaddq_f32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Quad(unsafe { vmulq_f32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Quad(unsafe { vabsq_f32(self.0) })
    }
}

// SAFETY: as above.
unsafe impl FormulaVector for Quad {
    #[inline(always)]
    unsafe fn widen(values: &[f32]) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self::load(values) }
    }

    #[inline(always)]
    unsafe fn unless_zero(self, of: Self) -> Self {
        unsafe {
            let zeros = vceqq_f32(of.0, vdupq_n_f32(0.0));
            Quad(vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(self.0), zeros)))
        }
    }
}

// SAFETY: as above.
unsafe impl CodeVector for Quad {
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Quad(unsafe { vsubq_f32(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn differing(self, other: Self) -> u32 {
        unsafe { bits(vmvnq_u32(vceqq_u32(vreinterpretq_u32_f32(self.0), vreinterpretq_u32_f32(other.0)))) }
    }

    #[inline(always)]
    unsafe fn smaller(self, other: Self) -> u32 {
        unsafe { bits(vcltq_f32(vabsq_f32(self.0), other.0)) }
    }

    #[inline(always)]
    unsafe fn widen_bf16(codes: &[u8]) -> Self {
        unsafe {
            let codes = vmovl_u16(vreinterpret_u16_u8(vld1_u8(codes[..8].as_ptr())));
            Quad(vreinterpretq_f32_u32(vshlq_n_u32::<16>(codes)))
        }
    }

    #[inline(always)]
    unsafe fn widen_f16(codes: &[u8]) -> Self {
        let mut values = [0.0; 4];
        for (value, code) in values.iter_mut().zip(codes[..8].as_chunks().0) {
            *value = f16_to_f32(u16::from_le_bytes(*code));
        }
        unsafe { Self::load(&values) }
    }

    #[inline(always)]
    unsafe fn narrow_bf16(self, codes: &mut [u8]) {
        unsafe {
            let halves = vshrn_n_u32::<16>(vreinterpretq_u32_f32(self.0));
            vst1_u8(codes[..8].as_mut_ptr(), vreinterpret_u8_u16(halves));
        }
    }

    #[inline(always)]
    unsafe fn narrow_f16(self, codes: &mut [u8]) {
        let mut values = [0.0; 4];
        unsafe { vst1q_f32(values.as_mut_ptr(), self.0) };
        for (value, code) in values.iter().zip(codes[..8].as_chunks_mut().0) {
            *code = f32_to_f16(*value).to_le_bytes();
        }
    }

    #[inline(always)]
    unsafe fn round_bf16(self) -> Self {
        unsafe {
            let bits = vaddq_u32(vreinterpretq_u32_f32(self.0), vdupq_n_u32(0x8000));
            Quad(vreinterpretq_f32_u32(vandq_u32(bits, vdupq_n_u32(0xffff_0000))))
        }
    }

    #[inline(always)]
    unsafe fn round_f16(self) -> Self {
        let mut values = [0.0; 4];
        unsafe {
            vst1q_f32(values.as_mut_ptr(), self.0);
            values = values.map(|value| f16_to_f32(f32_to_f16(value)));
            Self::load(&values)
        }
    }
}

/// Two values of f64.
#[derive(Clone, Copy)]
pub(crate) struct Pair(float64x2_t);

// SAFETY: as above.
unsafe impl Vector for Pair {
    type Value = f64;
    const LANES: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f64) -> Self {
        Pair(unsafe { vdupq_n_f64(value) })
    }

    #[inline(always)]
    unsafe fn load(values: &[f64]) -> Self {
        Pair(unsafe { vld1q_f64(values[..2].as_ptr()) })
    }

    #[inline(always)]
    unsafe fn store(self, values: &mut [f64]) {
        unsafe { vst1q_f64(values[..2].as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, plus: Self) -> Self {
        Pair(unsafe { vfmaq_f64(plus.0, self.0, by.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Pair(unsafe { vaddq_f64(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Pair(unsafe { vmulq_f64(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Pair(unsafe { vabsq_f64(self.0) })
    }
}

// SAFETY: as above.
unsafe impl FormulaVector for Pair {
    #[inline(always)]
    unsafe fn widen(values: &[f32]) -> Self {
        Pair(unsafe { vcvt_f64_f32(vld1_f32(values[..2].as_ptr())) })
    }

    #[inline(always)]
    unsafe fn unless_zero(self, of: Self) -> Self {
        unsafe {
            let zeros = vceqq_f64(of.0, vdupq_n_f64(0.0));
            Pair(vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(self.0), zeros)))
        }
    }
}
