//! Which kernels run: one choice made at the start, and the safe entry points that check lengths and obey it.
//!
//! A body is compiled once for each [`Level`], under that level's CPU features, in `compiled.rs`. Calling such a function on a
//! CPU without the features would be undefined behavior, so a `Level` that needs any is made in [`Kernels::available`] only,
//! after asking the CPU. That is the whole safety argument of this file.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")
)]

use crate::kernels::compiled::baseline;
#[cfg(target_arch = "x86_64")]
use crate::kernels::compiled::{avx2, formulas_avx2, fused_avx2, fused_avx512};
#[cfg(target_arch = "aarch64")]
use crate::kernels::compiled::{formulas_neon, fused_neon};
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::fused::made::{Factors, ProductScratch};
use crate::kernels::fused::pack::Term;
use crate::kernels::fused::tile;
use crate::kernels::fused::tile::{Codes, FusedScratch};
use crate::kernels::fused::vector::{CpuProof, FormulaVector, Real};
use crate::kernels::outcome::{Narrowed, RetentionSums};
use crate::kernels::product;
use crate::kernels::product::Matrix;
use crate::kernels::scalar;
use crate::kernels::task::VectorTask;

/// The implementation that runs, picked once; a small value to hand to every worker.
///
/// All of them give the same bits. Byte slices are little-endian and may start at any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Plain loops.
    Scalar,
    /// The bodies with what every CPU of the target has: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// AVX2, FMA, F16C and POPCNT. `matrixmultiply` uses AVX-512 by itself where it is there.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 (F, BW, DQ, VL) for the fused pass, and what AVX2 does for all else.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// Calls the named function where formulas are evaluated in vectors, and gives `$otherwise` elsewhere.
macro_rules! dispatch_formula {
    ($kernels:ident, $function:ident($($argument:expr),+), $otherwise:expr) => {
        match $kernels.0 {
            // SAFETY: these levels are made by `Kernels::available` alone, where the CPU said that it has AVX2, FMA, F16C, POPCNT.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Avx512 => unsafe { formulas_avx2::$function($($argument),+) },
            #[cfg(target_arch = "aarch64")]
            Level::Baseline => formulas_neon::$function($($argument),+),
            _ => $otherwise,
        }
    };
}

/// A precision that formulas are evaluated in: f32 where results have two bytes, f64 where they are F32.
pub(crate) trait Precision: Real {
    /// Runs a task with vectors. There must be some: [`Kernels::has_vectors`].
    fn run(kernels: Kernels, task: impl VectorTask<Self>);

    /// Rounds numbers that are known to within a radius each to codes of a format of this precision, in place of those of a
    /// base: where all numbers within the radius have one code. Sets a bit in `open` for each of the others, 64 to a word, and
    /// returns how many codes changed.
    fn round(
        kernels: Kernels,
        format: FloatFormat,
        numbers: [&[Self]; 2],
        codes: &mut [u8],
        open: &mut [u64],
    ) -> u64;
}

impl Precision for f32 {
    fn run(kernels: Kernels, task: impl VectorTask<f32>) {
        dispatch_formula!(kernels, single(task), ());
    }

    fn round(
        kernels: Kernels,
        format: FloatFormat,
        [middles, radii]: [&[f32]; 2],
        codes: &mut [u8],
        open: &mut [u64],
    ) -> u64 {
        assert_eq!([radii.len(), codes.len()], [middles.len(), 2 * middles.len()], "a code for each number");
        if format == FloatFormat::BF16 {
            return dispatch_formula!(kernels, round_bf16(middles, radii, codes, open), all_open(open));
        }
        dispatch_formula!(kernels, round_f16(middles, radii, codes, open), all_open(open))
    }
}

impl Precision for f64 {
    fn run(kernels: Kernels, task: impl VectorTask<f64>) {
        dispatch_formula!(kernels, double(task), ());
    }

    fn round(
        kernels: Kernels,
        _: FloatFormat,
        [middles, radii]: [&[f64]; 2],
        codes: &mut [u8],
        open: &mut [u64],
    ) -> u64 {
        assert_eq!([radii.len(), codes.len()], [middles.len(), 4 * middles.len()], "a code for each number");
        dispatch_formula!(kernels, round_f32(middles, radii, codes, open), all_open(open))
    }
}

/// Leaves all to be evaluated one by one.
fn all_open(open: &mut [u64]) -> u64 {
    open.fill(u64::MAX);
    0
}

/// A product to be made.
struct ProductTask<'t, 'p, T> {
    factors: Factors<'p>,
    scratch: &'t mut ProductScratch<T>,
}

impl<T: Real> VectorTask<T> for ProductTask<'_, '_, T> {
    #[inline(always)]
    fn run<V: FormulaVector<Value = T>>(self, cpu: CpuProof<V>) {
        self.scratch.make::<V, 2>(cpu, self.factors);
    }
}

/// Calls the named function of the module that stands for the level.
macro_rules! dispatch {
    ($kernels:ident, $function:ident($($argument:expr),+)) => {
        match $kernels.0 {
            Level::Scalar => scalar::$function($($argument),+),
            Level::Baseline => baseline::$function($($argument),+),
            // SAFETY: these levels are made by `Kernels::available` alone, where the CPU said that it has AVX2, FMA, F16C, POPCNT.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 | Level::Avx512 => unsafe { avx2::$function($($argument),+) },
        }
    };
}

impl Kernels {
    /// The best for this CPU.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or_else(Self::scalar)
    }

    /// The reference: plain loops and `f32::mul_add`. Right everywhere, slow everywhere.
    pub fn scalar() -> Self {
        Self(Level::Scalar)
    }

    /// All that this CPU can run, scalar first and best last, for tests and benches.
    pub fn available() -> Vec<Self> {
        let levels = [
            Level::Scalar,
            Level::Baseline,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512,
        ];
        levels.into_iter().filter(|level| level.runs_here()).map(Self).collect()
    }

    /// A short name: `scalar`, `baseline`, `neon`, `avx2` or `avx512`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            Level::Baseline if cfg!(target_arch = "aarch64") => "neon",
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
        }
    }

    /// Decodes bf16 to f32, exactly; a NaN keeps all its bits. True when every value is finite.
    ///
    /// # Panics
    /// Unless `bytes` holds two bytes for each element of `out`.
    pub fn widen_bf16(self, bytes: &[u8], out: &mut [f32]) -> bool {
        check_lengths(bytes, out, 2);
        dispatch!(self, widen_bf16(bytes, out))
    }

    /// Decodes f16 to f32, exactly; a NaN becomes quiet. True when every value is finite.
    ///
    /// # Panics
    /// Unless `bytes` holds two bytes for each element of `out`.
    pub fn widen_f16(self, bytes: &[u8], out: &mut [f32]) -> bool {
        check_lengths(bytes, out, 2);
        dispatch!(self, widen_f16(bytes, out))
    }

    /// Decodes f32: a copy that looks. True when every value is finite.
    ///
    /// # Panics
    /// Unless `bytes` holds four bytes for each element of `out`.
    pub fn widen_f32(self, bytes: &[u8], out: &mut [f32]) -> bool {
        check_lengths(bytes, out, 4);
        dispatch!(self, widen_f32(bytes, out))
    }

    /// Decodes E4M3 (`F8_E4M3`, the kind without infinity) to f32, exactly; a NaN, code 0x7f or 0xff, keeps its bits. True
    /// when every value is finite.
    ///
    /// # Panics
    /// Unless `bytes` holds one byte for each element of `out`.
    pub fn widen_e4m3(self, bytes: &[u8], out: &mut [f32]) -> bool {
        check_lengths(bytes, out, 1);
        dispatch!(self, widen_e4m3(bytes, out))
    }

    /// Encodes as bf16, rounding once, to nearest even, over the elements' former encoding in `bytes`.
    ///
    /// Subnormals are kept. A NaN keeps its upper half and becomes quiet, which makes this equal to the `half` crate for
    /// every value.
    ///
    /// # Panics
    /// Unless `bytes` holds two bytes for each element of `values`.
    pub fn narrow_bf16(self, values: &[f32], bytes: &mut [u8]) -> Narrowed {
        check_lengths(bytes, values, 2);
        dispatch!(self, narrow_bf16(values, bytes))
    }

    /// Encodes as f16, rounding once, to nearest even, over the elements' former encoding in `bytes`.
    ///
    /// Subnormals are kept; from 65520 on the result is infinite. A NaN keeps its sign and upper ten bits and becomes
    /// quiet, which makes this equal to the `half` crate for every value.
    ///
    /// # Panics
    /// Unless `bytes` holds two bytes for each element of `values`.
    pub fn narrow_f16(self, values: &[f32], bytes: &mut [u8]) -> Narrowed {
        check_lengths(bytes, values, 2);
        dispatch!(self, narrow_f16(values, bytes))
    }

    /// Encodes as E4M3 (`F8_E4M3`, the kind without infinity), rounding once, to nearest even, over the elements' former
    /// encoding in `bytes`.
    ///
    /// Subnormals, of unit 2⁻⁹, and the sign of zero are kept. Nothing saturates: beyond 464, half-way from the largest
    /// number 448 to what would follow it, the result is a NaN of the value's sign, and is reported.
    ///
    /// # Panics
    /// Unless `bytes` holds one byte for each element of `values`.
    pub fn narrow_e4m3(self, values: &[f32], bytes: &mut [u8]) -> Narrowed {
        check_lengths(bytes, values, 1);
        dispatch!(self, narrow_e4m3(values, bytes))
    }

    /// Encodes as f32, a copy that looks and counts, over the elements' former encoding in `bytes`.
    ///
    /// # Panics
    /// Unless `bytes` holds four bytes for each element of `values`.
    pub fn narrow_f32(self, values: &[f32], bytes: &mut [u8]) -> Narrowed {
        check_lengths(bytes, values, 4);
        dispatch!(self, narrow_f32(values, bytes))
    }

    /// Sets `delta[i]` to `delta[i] * scale` and `acc[i]` to `acc[i] + delta[i]`: two roundings to f32, never fused.
    /// `scale` has no unit.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add_scaled(self, acc: &mut [f32], delta: &mut [f32], scale: f32) {
        assert_eq!(acc.len(), delta.len(), "`acc` and `delta` must have the same number of elements");
        dispatch!(self, add_scaled(acc, delta, scale));
    }

    /// Adds the square of `values[i]`, exact in f64, to `lanes[i % 8]`, in the order of the values.
    pub fn add_squares(self, values: &[f32], lanes: &mut [f64; 8]) {
        dispatch!(self, add_squares(values, lanes));
    }

    /// Adds the square of `values[i]`, exact in f64, to `sums[i]`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add_squares_each(self, values: &[f32], sums: &mut [f64]) {
        assert_eq!(values.len(), sums.len(), "`values` and `sums` must have the same number of elements");
        dispatch!(self, add_squares_each(values, sums));
    }

    /// Whether formulas are evaluated in vectors here, which takes fused multiply-add.
    pub(crate) fn has_vectors(self) -> bool {
        self.0.has_fma()
    }

    /// Makes a product for formulas.
    ///
    /// # Panics
    /// If the shapes disagree, or the scratch is for less.
    pub(crate) fn make_product<T: Precision>(self, factors: Factors<'_>, scratch: &mut ProductScratch<T>) {
        let Factors { left, right } = factors;
        assert_eq!(left.cols, right.rows, "factors must have one rank");
        assert!(left.is_within_data() && right.is_within_data(), "factors must lie in their data");
        T::run(self, ProductTask { factors, scratch });
    }

    /// Measures what is left of `delta` where `before` became `values`: sums of 64 elements in f32, of these in f64. `still`
    /// is what would have become of it without the delta.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn retention_sums(
        self,
        values: &[f32],
        before: &[f32],
        still: &[f32],
        delta: &[f32],
    ) -> RetentionSums {
        let n = delta.len();
        assert!(
            [values.len(), before.len(), still.len()] == [n; 3],
            "all must have the same number of elements"
        );
        dispatch!(self, retention_sums(values, before, still, delta))
    }

    /// Adds to codes of two bytes, bf16 or f16, the products of all terms: each result is the exact sum over the reals,
    /// rounded once to nearest even. A sum of zero is +0; a code that is infinite or NaN stays so, quiet. `finite` is false
    /// when a finite code became infinite.
    ///
    /// # Panics
    /// If the format has another size, a term another than the rectangle, or the ranks add up to more than `scratch` is for.
    pub fn merge_products(
        self,
        format: FloatFormat,
        codes: &mut Codes<'_>,
        terms: &[Term<'_>],
        scratch: &mut FusedScratch,
    ) -> Narrowed {
        codes.check(terms);
        assert_eq!(format.width, 16, "the fused pass knows codes of two bytes");
        let is_bf16 = format == FloatFormat::BF16;
        match self.0 {
            // SAFETY: these levels are made by `Kernels::available` alone, where the CPU said that it has the features.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 if is_bf16 => unsafe { fused_avx512::bf16(codes, terms, scratch) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { fused_avx512::f16(codes, terms, scratch) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 if is_bf16 => unsafe { fused_avx2::bf16(codes, terms, scratch) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { fused_avx2::f16(codes, terms, scratch) },
            #[cfg(target_arch = "aarch64")]
            Level::Baseline if is_bf16 => fused_neon::bf16(codes, terms, scratch),
            #[cfg(target_arch = "aarch64")]
            Level::Baseline => fused_neon::f16(codes, terms, scratch),
            _ => tile::reference(format, codes, terms),
        }
    }

    /// Multiply-adds a second that the fused pass could do at the most here, by a loop of registers that `seconds_of` times.
    #[cfg(feature = "testing")]
    pub fn fma_peak(self, seconds_of: impl Fn(&mut dyn FnMut()) -> f64) -> f64 {
        const COUNT: usize = 20_000;
        let mut done = 0.0;
        let seconds = seconds_of(&mut || {
            done = match self.0 {
                // SAFETY: this level is made by `Kernels::available` alone, where the CPU said that it has the features.
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 => unsafe { fused_avx512::multiply_adds(COUNT) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { fused_avx2::multiply_adds(COUNT) },
                #[cfg(target_arch = "aarch64")]
                Level::Baseline => fused_neon::multiply_adds(COUNT),
                _ => 0.0,
            };
        });
        done / seconds
    }

    /// Writes `u · v` to `out`, row-major and contiguous, whatever it held before.
    ///
    /// Shapes: `u [rows, rank]`, `v [rank, cols]`, `out [rows, cols]`. Each element is summed with fused multiply-add
    /// in increasing rank, in blocks of [`RANK_BLOCK`](crate::kernels::product::RANK_BLOCK) that start from +0, and the block sums are
    /// added in order to +0: the same bits for every kernel, layout and cut into rows or columns. A sum of zero is
    /// always +0. At rank 0 the result is zeros.
    ///
    /// Allocates up to [`packing_bytes`](crate::kernels::product::packing_bytes) and frees them again. Packing `v` is paid at every call:
    /// hand over 128 rows or more at once.
    ///
    /// # Panics
    /// If the shapes disagree, or strides lead beyond the end of a matrix's data.
    pub fn product(self, u: Matrix<'_>, v: Matrix<'_>, out: &mut [f32]) {
        product::check(u, v, out);
        if self.0.has_fma() { product::blocked(u, v, out) } else { scalar::product(u, v, out) }
    }
}

impl Level {
    /// Whether this CPU has what the level is compiled for.
    fn runs_here(self) -> bool {
        match self {
            Self::Scalar | Self::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.runs_here()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
        }
    }

    /// Whether `matrixmultiply` is sure to use fused multiply-add where this level runs. On x86-64 it does so if the CPU
    /// has AVX2 and FMA, on aarch64 always; elsewhere its sums round twice and have other bits.
    fn has_fma(self) -> bool {
        match self {
            Self::Scalar => false,
            Self::Baseline => cfg!(target_arch = "aarch64"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 | Self::Avx512 => true,
        }
    }
}

fn check_lengths(bytes: &[u8], values: &[f32], width: usize) {
    assert_eq!(bytes.len(), values.len() * width, "`bytes` must hold {width} bytes for each of the values");
}
