//! Every body of the kernels, compiled under the CPU features that it is for: a module for each set of them.
//!
//! Calling one on a CPU without the features would be undefined behavior; `dispatch.rs` alone calls them, and says why it may.

#![cfg_attr(
    any(target_arch = "x86_64", target_arch = "aarch64"),
    expect(unsafe_code, reason = "the bodies with intrinsics may be called only where their features exist")
)]

/// Compiles the bodies into a module, each under the given `#[target_feature]` attribute if any.
macro_rules! compile_for {
    ($level:ident $(, $features:literal)?: widen_f16 = $widen_f16:path, narrow_f16 = $narrow_f16:path) => {
        pub(crate) mod $level {
            use crate::kernels::outcome::{Narrowed, RetentionSums};
            use crate::kernels::{accumulate, convert};

            $(#[target_feature(enable = $features)])?
            pub(crate) fn widen_bf16(bytes: &[u8], out: &mut [f32]) -> bool {
                convert::widen_bf16(bytes, out)
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn widen_f16(bytes: &[u8], out: &mut [f32]) -> bool {
                $widen_f16(bytes, out)
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn widen_f32(bytes: &[u8], out: &mut [f32]) -> bool {
                convert::widen_f32(bytes, out)
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn widen_e4m3(bytes: &[u8], out: &mut [f32]) -> bool {
                convert::widen_e4m3(bytes, out)
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn narrow_bf16(values: &[f32], bytes: &mut [u8]) -> Narrowed {
                convert::narrow_bf16(values, bytes)
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn narrow_f16(values: &[f32], bytes: &mut [u8]) -> Narrowed {
                $narrow_f16(values, bytes)
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn narrow_f32(values: &[f32], bytes: &mut [u8]) -> Narrowed {
                convert::narrow_f32(values, bytes)
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn narrow_e4m3(values: &[f32], bytes: &mut [u8]) -> Narrowed {
                convert::narrow_e4m3(values, bytes)
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn add_scaled(acc: &mut [f32], delta: &mut [f32], scale: f32) {
                accumulate::add_scaled(acc, delta, scale);
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn add_squares(values: &[f32], lanes: &mut [f64; accumulate::LANES]) {
                accumulate::add_squares(values, lanes);
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn add_squares_each(values: &[f32], sums: &mut [f64]) {
                accumulate::add_squares_each(values, sums);
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn retention_sums(values: &[f32], before: &[f32], still: &[f32], delta: &[f32]) -> RetentionSums {
                accumulate::retention_sums(values, before, still, delta)
            }
        }
    };
}

compile_for!(baseline: widen_f16 = convert::widen_f16, narrow_f16 = convert::narrow_f16);
#[cfg(target_arch = "x86_64")]
compile_for!(avx2, "avx2,fma,f16c": widen_f16 = crate::kernels::f16c::widen_f16, narrow_f16 = crate::kernels::f16c::narrow_f16);

/// Compiles the fused pass for a kind of vectors, for both formats, under the given `#[target_feature]` attribute if any.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! compile_fused {
    ($level:ident, $vector:ty, $count:literal $(, $features:literal)?) => {
        pub(crate) mod $level {
            use crate::kernels::fused::code::{Brain, Half};
            use crate::kernels::fused::pack::Term;
            use crate::kernels::fused::tile::{Codes, FusedScratch, merge};
            use crate::kernels::outcome::Narrowed;

            $(#[target_feature(enable = $features)])?
            pub(crate) fn bf16(codes: &mut Codes<'_>, terms: &[Term<'_>], scratch: &mut FusedScratch) -> Narrowed {
                // SAFETY: this function is compiled for the features of the vectors.
                unsafe { merge::<$vector, Brain, $count>(codes, terms, scratch) }
            }
            $(#[target_feature(enable = $features)])?
            #[cfg(feature = "testing")]
            pub(crate) fn multiply_adds(count: usize) -> f64 {
                // SAFETY: this function is compiled for the features of the vectors.
                unsafe { crate::kernels::fused::body::multiply_adds::<$vector, $count>(count) }
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn f16(codes: &mut Codes<'_>, terms: &[Term<'_>], scratch: &mut FusedScratch) -> Narrowed {
                // SAFETY: this function is compiled for the features of the vectors.
                unsafe { merge::<$vector, Half, $count>(codes, terms, scratch) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compile_fused!(
    fused_avx512,
    crate::kernels::fused::avx512::Sixteen,
    4,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,popcnt"
);
#[cfg(target_arch = "x86_64")]
compile_fused!(fused_avx2, crate::kernels::fused::avx2::Eight, 2, "avx2,fma,f16c,popcnt");
#[cfg(target_arch = "aarch64")]
compile_fused!(fused_neon, crate::kernels::fused::neon::Quad, 4);

/// Compiles what formulas are evaluated with, for vectors of f32 and of f64, under the given `#[target_feature]` attribute if any.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! compile_formulas {
    ($level:ident, $singles:ty, $doubles:ty $(, $features:literal)?) => {
        pub(crate) mod $level {
            use crate::kernels::fused::vector::CpuProof;
            use crate::kernels::fused::code::{Brain, Half};
            use crate::kernels::fused::near::{round_halves, round_singles};
            use crate::kernels::task::VectorTask;

            $(#[target_feature(enable = $features)])?
            pub(crate) fn single(task: impl VectorTask<f32>) {
                // SAFETY: this function is compiled for the features of the vectors.
                task.run::<$singles>(unsafe { CpuProof::new() });
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn double(task: impl VectorTask<f64>) {
                // SAFETY: this function is compiled for the features of the vectors.
                task.run::<$doubles>(unsafe { CpuProof::new() });
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn round_bf16(middles: &[f32], radii: &[f32], codes: &mut [u8], open: &mut [u64]) -> u64 {
                // SAFETY: this function is compiled for the features of the vectors.
                unsafe { round_halves::<$singles, Brain>(middles, radii, codes, open) }
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn round_f16(middles: &[f32], radii: &[f32], codes: &mut [u8], open: &mut [u64]) -> u64 {
                // SAFETY: this function is compiled for the features of the vectors.
                unsafe { round_halves::<$singles, Half>(middles, radii, codes, open) }
            }
            $(#[target_feature(enable = $features)])?
            pub(crate) fn round_f32(middles: &[f64], radii: &[f64], codes: &mut [u8], open: &mut [u64]) -> u64 {
                round_singles(middles, radii, codes, open)
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
compile_formulas!(
    formulas_avx2,
    crate::kernels::fused::avx2::Eight,
    crate::kernels::fused::avx2::Four,
    "avx2,fma,f16c"
);
#[cfg(target_arch = "aarch64")]
compile_formulas!(formulas_neon, crate::kernels::fused::neon::Quad, crate::kernels::fused::neon::Pair);
