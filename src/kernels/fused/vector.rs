//! The vector operations that the fused kernel is written in; one implementation per set of CPU features.

#![expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")]

/// A vector of f32.
///
/// # Safety
/// - Every function may be called only where the CPU has the features that the type stands for.
/// - An implementation must keep to the slices that it is given.
pub(crate) unsafe trait Vector: Copy {
    /// Values in a vector.
    const LANES: usize;

    /// All lanes the same.
    unsafe fn splat(value: f32) -> Self;
    /// The first values of a slice.
    unsafe fn load(values: &[f32]) -> Self;
    /// `self · by + plus`, rounded once.
    unsafe fn fma(self, by: Self, plus: Self) -> Self;
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self − other`.
    unsafe fn sub(self, other: Self) -> Self;
    /// `self · other`.
    unsafe fn mul(self, other: Self) -> Self;
    /// Without the sign.
    unsafe fn abs(self) -> Self;
    /// A bit for each lane in which any bit differs from `other`.
    unsafe fn differing(self, other: Self) -> u32;
    /// A bit for each lane whose size is less than `other`; none for NaN.
    unsafe fn smaller(self, other: Self) -> u32;

    /// The first bf16 codes of a slice.
    unsafe fn widen_bf16(codes: &[u8]) -> Self;
    /// The first f16 codes of a slice.
    unsafe fn widen_f16(codes: &[u8]) -> Self;
    /// Encodes values that bf16 holds into the first codes of a slice.
    unsafe fn narrow_bf16(self, codes: &mut [u8]);
    /// Encodes values that f16 holds into the first codes of a slice.
    unsafe fn narrow_f16(self, codes: &mut [u8]);
    /// Rounds finite values below 2¹²⁸ − 2¹¹⁹ to bf16, halves away from zero.
    unsafe fn round_bf16(self) -> Self;
    /// Rounds to f16, halves to even.
    unsafe fn round_f16(self) -> Self;
}
