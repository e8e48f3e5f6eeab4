//! The arithmetic of a merge: decoding to f32, the product of two factors, adding, and rounding once.
//!
//! Kernels take slices and shapes and know nothing of files, tensors or threads. Each exists several times: as plain
//! loops (`scalar.rs`), which say what is right, and as branch-free safe bodies (`convert.rs`, `accumulate.rs`) that
//! are compiled once per set of CPU features and picked by [`Kernels::detect`]. Intrinsics stand only in `f16c.rs`
//! and in `fused/`, where the compiler falls short. **Every one of them gives the same bits**, so that a merge does not depend on the
//! machine; the tests hold each to `scalar` and to outside oracles.
//!
//! Two ways lead to the same bits everywhere. `fused/` and `exact/` make results that are exact and rounded once, so that the
//! order of sums is free. The others are pinned:
//!
//! - Rounding to bf16, f16, e4m3: to nearest, ties to even; subnormals are kept, overflow becomes infinity, or NaN where
//!   there is none, and is reported. Nothing saturates.
//! - The product (`product.rs`): increasing rank, fused multiply-add, in blocks of [`RANK_BLOCK`] added in order.
//! - Adding: `acc + (delta * scale)`, two roundings, never fused.
//!
//! The one thing left open is which NaN an operation on NaNs gives. Conversions keep a NaN's sign and what fits of its
//! payload.
//!
//! ```
//! use shardfold::testing::{Kernels, Matrix};
//!
//! let kernels = Kernels::detect();
//! let (b, a) = ([1.0, 2.0], [0.5, -0.25, 4.0]); // lora_B [2, 1] and lora_A [1, 3]
//! let mut delta = [0.0; 6];
//! kernels.product(Matrix::row_major(&b, 2, 1), Matrix::row_major(&a, 1, 3), &mut delta);
//! assert_eq!(delta, [0.5, -0.25, 4.0, 1.0, -0.5, 8.0]);
//!
//! let mut weights = [0x3f80_u16; 6].map(u16::to_le_bytes).concat(); // six times 1.0 in bf16
//! let mut values = [0.0; 6];
//! assert!(kernels.widen_bf16(&weights, &mut values));
//! kernels.add_scaled(&mut values, &mut delta, 2.0);
//! assert_eq!(values, [2.0, 0.5, 9.0, 3.0, 0.0, 17.0]);
//! let narrowed = kernels.narrow_bf16(&values, &mut weights);
//! assert!(narrowed.finite && narrowed.changed == 6);
//! ```

pub(crate) mod accumulate;
pub(crate) mod circle;
pub(crate) mod compiled;
pub(crate) mod convert;
pub(crate) mod dispatch;
pub(crate) mod exact;
#[cfg(target_arch = "x86_64")]
pub(crate) mod f16c;
pub(crate) mod float8;
pub(crate) mod fused;
pub(crate) mod mersenne;
pub(crate) mod outcome;
pub(crate) mod portable;
pub(crate) mod product;
pub(crate) mod scalar;
pub(crate) mod task;
#[cfg(test)]
mod tests;
