//! Formats of two bytes, as the fused kernel sees them.

#![expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")]

use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::fused::vector::CodeVector;

/// A format of two bytes.
pub(crate) trait HalfCode {
    /// Its sizes.
    const FORMAT: FloatFormat;
    /// Smaller values round to finite codes.
    const LARGE: f32;

    /// The first codes of a slice.
    ///
    /// # Safety
    /// As for [`CodeVector`].
    unsafe fn widen<V: CodeVector>(codes: &[u8]) -> V;

    /// Encodes values that the format holds.
    ///
    /// # Safety
    /// As for [`CodeVector`].
    unsafe fn narrow<V: CodeVector>(values: V, codes: &mut [u8]);

    /// Rounds values smaller than [`Self::LARGE`] to the nearest; monotone, and either way where two are as near.
    ///
    /// # Safety
    /// As for [`CodeVector`].
    unsafe fn round<V: CodeVector>(values: V) -> V;
}

/// BF16.
pub(crate) struct Brain;

/// F16.
pub(crate) struct Half;

impl HalfCode for Brain {
    const FORMAT: FloatFormat = FloatFormat::BF16;
    const LARGE: f32 = 3.38e38;

    #[inline(always)]
    unsafe fn widen<V: CodeVector>(codes: &[u8]) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::widen_bf16(codes) }
    }

    #[inline(always)]
    unsafe fn narrow<V: CodeVector>(values: V, codes: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { values.narrow_bf16(codes) }
    }

    #[inline(always)]
    unsafe fn round<V: CodeVector>(values: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { values.round_bf16() }
    }
}

impl HalfCode for Half {
    const FORMAT: FloatFormat = FloatFormat::F16;
    const LARGE: f32 = 65504.0;

    #[inline(always)]
    unsafe fn widen<V: CodeVector>(codes: &[u8]) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::widen_f16(codes) }
    }

    #[inline(always)]
    unsafe fn narrow<V: CodeVector>(values: V, codes: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { values.narrow_f16(codes) }
    }

    #[inline(always)]
    unsafe fn round<V: CodeVector>(values: V) -> V {
        // SAFETY: the caller's promise.
        unsafe { values.round_f16() }
    }
}
