//! The vector operations that the fused kernel and the formulas are written in; one implementation per set of CPU features.

#![expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")]

use std::marker::PhantomData;

/// What a vector holds: f32, or f64 where results are as precise as f32.
pub(crate) trait Real: Copy + Default + 'static {
    /// Half a unit in the last place of 1.
    const ROUNDING: f64;
    /// Twice that, and three times.
    const ROUNDINGS: [Self; 2];
    /// 1 and eight roundings, which makes up for those of a radius.
    const SLACK: Self;
    /// More than what several results are off that underflow.
    const TINY: Self;
    /// What a reach has besides, for sums of products that underflow; f64 has none.
    const UNDERFLOW: f64;

    /// A number that both have.
    fn of(value: f32) -> Self;
    /// A number that is not less.
    fn upper(value: f64) -> Self;
    /// The product, rounded.
    fn times(self, by: f32) -> Self;
    /// As f64 has it.
    fn double(self) -> f64;
}

impl Real for f32 {
    const ROUNDING: f64 = 1.0 / (1_u64 << 24) as f64;
    const ROUNDINGS: [f32; 2] = [2.0 / (1 << 24) as f32, 3.0 / (1 << 24) as f32];
    const SLACK: f32 = 1.0 + 8.0 / (1 << 24) as f32;
    const TINY: f32 = f32::from_bits(1 << 9);
    const UNDERFLOW: f64 = 1.0 / (1_u64 << 60) as f64;

    fn of(value: f32) -> f32 {
        value
    }

    fn upper(value: f64) -> f32 {
        (value as f32).next_up()
    }

    fn times(self, by: f32) -> f32 {
        self * by
    }

    fn double(self) -> f64 {
        self.into()
    }
}

impl Real for f64 {
    const ROUNDING: f64 = 1.0 / (1_u64 << 53) as f64;
    const ROUNDINGS: [f64; 2] = [2.0 * Self::ROUNDING, 3.0 * Self::ROUNDING];
    const SLACK: f64 = 1.0 + 8.0 * Self::ROUNDING;
    const TINY: f64 = f64::MIN_POSITIVE;
    const UNDERFLOW: f64 = 0.0;

    fn of(value: f32) -> f64 {
        value.into()
    }

    fn upper(value: f64) -> f64 {
        value
    }

    fn times(self, by: f32) -> f64 {
        self * f64::from(by)
    }

    fn double(self) -> f64 {
        self
    }
}

/// A vector.
///
/// # Safety
/// - Every function may be called only where the CPU has the features that the type stands for.
/// - An implementation must keep to the slices that it is given.
pub(crate) unsafe trait Vector: Copy {
    /// What it holds.
    type Value: Real;
    /// Values in a vector.
    const LANES: usize;

    /// All lanes the same.
    unsafe fn splat(value: Self::Value) -> Self;
    /// The first values of a slice.
    unsafe fn load(values: &[Self::Value]) -> Self;
    /// Puts the lanes first into a slice.
    unsafe fn store(self, values: &mut [Self::Value]);
    /// `self · by + plus`, rounded once.
    unsafe fn fma(self, by: Self, plus: Self) -> Self;
    /// `self + other`.
    unsafe fn add(self, other: Self) -> Self;
    /// `self · other`.
    unsafe fn mul(self, other: Self) -> Self;
    /// Without the sign.
    unsafe fn abs(self) -> Self;
}

/// Shows that the CPU has the features of a vector.
#[derive(Clone, Copy)]
pub(crate) struct CpuProof<V>(PhantomData<V>);

impl<V> CpuProof<V> {
    /// A proof.
    ///
    /// # Safety
    /// - The CPU has the features that `V` stands for.
    pub(crate) unsafe fn new() -> CpuProof<V> {
        CpuProof(PhantomData)
    }
}

/// A vector that formulas are evaluated with.
///
/// # Safety
/// As for [`Vector`].
pub(crate) unsafe trait FormulaVector: Vector {
    /// The first values of a slice.
    unsafe fn widen(values: &[f32]) -> Self;
    /// The lanes for which `of` is not zero, and 0 for the others.
    unsafe fn unless_zero(self, of: Self) -> Self;
}

/// A vector of f32 that codes of two bytes are read into and made from.
///
/// # Safety
/// As for [`Vector`].
pub(crate) unsafe trait CodeVector: Vector<Value = f32> {
    /// Says that the line of the cache in which `codes` begin is wanted soon. A hint only.
    ///
    /// # Safety
    /// As for [`Vector`].
    #[inline(always)]
    unsafe fn prefetch(codes: &[u8]) {
        let _ = codes;
    }

    /// `self − other`.
    unsafe fn sub(self, other: Self) -> Self;
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
