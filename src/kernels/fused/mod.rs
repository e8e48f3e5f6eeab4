//! Codes of two bytes plus products of factors, in one pass: decode, product, sum and rounding stay in registers.
//!
//! The result is the exact value over the reals, rounded once to nearest even. The pass computes each element in f32 with a
//! proven bound of its error (`body.rs`), and writes it where all values within the bound round to the same code. The few
//! others are open: `closer.rs` computes them again in f64 from the factors that are packed, `settle.rs` those that are open
//! still from the formula itself, in f64 with a bound of its own and at last without any error. So the bytes depend neither on
//! the CPU nor on how the work is cut, and the order of sums is free.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod body;
pub(crate) mod closer;
pub(crate) mod code;
pub(crate) mod made;
pub(crate) mod near;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod pack;
pub(crate) mod settle;
pub(crate) mod tile;
pub(crate) mod vector;
