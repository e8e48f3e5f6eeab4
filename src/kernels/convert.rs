//! Bodies that decode to f32 and encode from it, written so that the compiler turns each loop into vector code.
//!
//! Nothing here is called directly: `dispatch.rs` compiles every body once per set of CPU features. To stay branch-free
//! they do not ask of each element whether it is finite. Infinity and NaN have all exponent bits set, so adding one to the
//! exponent of a code without its sign carries into the sign's place for them alone; the sums are or-ed together and
//! looked at once. (The largest code would tell as much, but SSE2 has no maximum for these integers.) Changed elements are
//! counted in an integer as wide as the code (or twice that, for codes of one byte), which keeps the lanes of the loop
//! alike, and are added up after every [`RUN`] elements, before it can overflow.

use crate::kernels::outcome::Narrowed;

/// Elements counted in one go. Must fit a `u16`; 2¹² is 16 KiB of f32, which stays in the first cache.
pub(crate) const RUN: usize = 1 << 12;

/// The lowest bit of the exponent.
const BF16_EXPONENT: u16 = 0x0080;
pub(crate) const F16_EXPONENT: u16 = 0x0400;
const F32_EXPONENT: u32 = 0x0080_0000;
/// Only the largest code is NaN, and nothing is infinite: adding the lowest bit of the mantissa does for E4M3 what adding
/// that of the exponent does for the others.
const E4M3_UNIT: u8 = 0x01;

#[inline(always)]
pub(crate) fn widen_bf16(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut carries = 0;
    for (code, out) in bytes.as_chunks().0.iter().zip(out) {
        let code = u16::from_le_bytes(*code);
        carries |= (code & 0x7fff) + BF16_EXPONENT;
        *out = f32::from_bits(u32::from(code) << 16);
    }
    carries >> 15 == 0
}

#[inline(always)]
pub(crate) fn widen_f16(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut carries = 0;
    for (code, out) in bytes.as_chunks().0.iter().zip(out) {
        let code = u16::from_le_bytes(*code);
        carries |= (code & 0x7fff) + F16_EXPONENT;
        *out = f16_to_f32(code);
    }
    carries >> 15 == 0
}

#[inline(always)]
pub(crate) fn widen_f32(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut carries = 0;
    for (code, out) in bytes.as_chunks().0.iter().zip(out) {
        let bits = u32::from_le_bytes(*code);
        carries |= (bits & 0x7fff_ffff) + F32_EXPONENT;
        *out = f32::from_bits(bits);
    }
    carries >> 31 == 0
}

#[inline(always)]
pub(crate) fn widen_e4m3(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut carries = 0;
    for (code, out) in bytes.iter().zip(out) {
        carries |= (code & 0x7f) + E4M3_UNIT;
        *out = e4m3_to_f32(*code);
    }
    carries >> 7 == 0
}

#[inline(always)]
pub(crate) fn narrow_bf16(values: &[f32], bytes: &mut [u8]) -> Narrowed {
    narrow_u16(values, bytes, BF16_EXPONENT, f32_to_bf16)
}

#[inline(always)]
pub(crate) fn narrow_f16(values: &[f32], bytes: &mut [u8]) -> Narrowed {
    narrow_u16(values, bytes, F16_EXPONENT, f32_to_f16)
}

#[inline(always)]
pub(crate) fn narrow_e4m3(values: &[f32], bytes: &mut [u8]) -> Narrowed {
    let (mut carries, mut changed) = (0, 0);
    for (values, codes) in values.chunks(RUN).zip(bytes.chunks_mut(RUN)) {
        let mut differing = 0_u16;
        for (value, code) in values.iter().zip(codes) {
            let new = f32_to_e4m3(*value);
            carries |= (new & 0x7f) + E4M3_UNIT;
            differing += u16::from(new != *code);
            *code = new;
        }
        changed += u64::from(differing);
    }
    Narrowed { finite: carries >> 7 == 0, changed }
}

#[inline(always)]
pub(crate) fn narrow_f32(values: &[f32], bytes: &mut [u8]) -> Narrowed {
    let (mut carries, mut changed) = (0, 0);
    for (values, codes) in values.chunks(RUN).zip(bytes.as_chunks_mut().0.chunks_mut(RUN)) {
        let mut differing = 0_u32;
        for (value, code) in values.iter().zip(codes) {
            let new = value.to_bits();
            carries |= (new & 0x7fff_ffff) + F32_EXPONENT;
            differing += u32::from(new != u32::from_le_bytes(*code));
            *code = new.to_le_bytes();
        }
        changed += u64::from(differing);
    }
    Narrowed { finite: carries >> 31 == 0, changed }
}

/// Encodes into two-byte codes; `exponent` is the lowest bit of theirs.
#[inline(always)]
fn narrow_u16(values: &[f32], bytes: &mut [u8], exponent: u16, encode: impl Fn(f32) -> u16) -> Narrowed {
    let (mut carries, mut changed) = (0, 0);
    for (values, codes) in values.chunks(RUN).zip(bytes.as_chunks_mut().0.chunks_mut(RUN)) {
        let mut differing = 0_u16;
        for (value, code) in values.iter().zip(codes) {
            let new = encode(*value);
            carries |= (new & 0x7fff) + exponent;
            differing += u16::from(new != u16::from_le_bytes(*code));
            *code = new.to_le_bytes();
        }
        changed += u64::from(differing);
    }
    Narrowed { finite: carries >> 15 == 0, changed }
}

/// Rounds to nearest even: adding just under half a unit, or half where the last kept bit is odd, carries exactly when
/// it should, and into the exponent too. That would turn some NaNs into zeros, so they take the other way.
#[inline(always)]
fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let quiet = bits | 0x0040_0000;
    ((if value.is_nan() { quiet } else { rounded }) >> 16) as u16
}

/// Rounds to nearest even. Three cases are computed and one picked:
///
/// - normal results: as for bf16, with the exponent moved; a carry out of the largest gives infinity by itself;
/// - subnormal results: adding 0.5, whose unit in the last place is the f16 subnormal's, leaves the code in the low bits;
/// - what is too large by its exponent alone, infinity, and NaN, which is made quiet and keeps ten bits.
#[inline(always)]
pub(crate) fn f32_to_f16(value: f32) -> u16 {
    const SMALLEST_NORMAL: u32 = 113 << 23; // 2⁻¹⁴
    const TOO_LARGE: u32 = 143 << 23; // 2¹⁶
    const INFINITY: u32 = 255 << 23;
    const HALF: u32 = 126 << 23;
    const MOVE_EXPONENT: u32 = 112 << 23;

    let bits = value.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let magnitude = bits & 0x7fff_ffff;

    let odd = (magnitude >> 13) & 1;
    let normal = magnitude.wrapping_sub(MOVE_EXPONENT).wrapping_add(0x0fff + odd) >> 13;
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(HALF);
    let quiet = 0x7e00 | ((magnitude >> 13) & 0x03ff);
    let special = if magnitude > INFINITY { quiet } else { 0x7c00 };

    let small = if magnitude < SMALLEST_NORMAL { subnormal } else { normal };
    (sign | if magnitude >= TOO_LARGE { special } else { small }) as u16
}

/// Exact. The bits are moved into place and the exponent put right; subnormals are normalised by a subtraction that
/// loses nothing, and a NaN is made quiet, as the CPU's own instruction does.
#[inline(always)]
pub(crate) fn f16_to_f32(code: u16) -> f32 {
    const EXPONENT: u32 = 0x1f << 23;
    const MOVE_EXPONENT: u32 = 112 << 23;
    const SMALLEST_NORMAL: u32 = 113 << 23; // 2⁻¹⁴

    let code = u32::from(code);
    let shifted = (code & 0x7fff) << 13;
    let normal = shifted + MOVE_EXPONENT;
    let subnormal = (f32::from_bits(shifted + SMALLEST_NORMAL) - f32::from_bits(SMALLEST_NORMAL)).to_bits();
    let quiet = if shifted > EXPONENT { 0x0040_0000 } else { 0 };
    let special = (normal + MOVE_EXPONENT) | quiet;

    let small = if shifted < 1 << 23 { subnormal } else { normal };
    let magnitude = if shifted >= EXPONENT { special } else { small };
    f32::from_bits(((code & 0x8000) << 16) | magnitude)
}

/// Rounds to nearest even. Two cases are computed and one picked, as for f16:
///
/// - normal results: with the exponent moved; whatever passes the largest number is NaN, the last code;
/// - subnormal results: adding 2¹⁴, whose unit in the last place is that of an E4M3 subnormal.
#[inline(always)]
fn f32_to_e4m3(value: f32) -> u8 {
    const SMALLEST_NORMAL: u32 = 121 << 23; // 2⁻⁶
    const MOVE_EXPONENT: u32 = 120 << 23;
    const TWO_TO_14: f32 = 16384.0;
    const NAN: u32 = 0x7f;

    let bits = value.to_bits();
    let sign = (bits >> 24) & 0x80;
    let magnitude = bits & 0x7fff_ffff;

    let odd = (magnitude >> 20) & 1;
    let normal = magnitude.wrapping_sub(MOVE_EXPONENT).wrapping_add(0x0007_ffff + odd) >> 20;
    let subnormal = (f32::from_bits(magnitude) + TWO_TO_14).to_bits().wrapping_sub(TWO_TO_14.to_bits());

    let any = if magnitude < SMALLEST_NORMAL { subnormal } else { normal };
    (sign | if any < NAN { any } else { NAN }) as u8
}

/// Exact, as for f16. A table of the 256 values is slower where there is AVX2, by a quarter.
#[inline(always)]
fn e4m3_to_f32(code: u8) -> f32 {
    const NAN: u32 = 0x7f << 20;
    const MOVE_EXPONENT: u32 = 120 << 23;
    const SMALLEST_NORMAL: u32 = 121 << 23; // 2⁻⁶

    let code = u32::from(code);
    let shifted = (code & 0x7f) << 20;
    let normal = shifted + MOVE_EXPONENT;
    let subnormal = (f32::from_bits(shifted + SMALLEST_NORMAL) - f32::from_bits(SMALLEST_NORMAL)).to_bits();
    let special = if shifted == NAN { 0x7f80_0000 } else { 0 };

    let magnitude = if shifted < 1 << 23 { subnormal } else { normal };
    f32::from_bits(((code & 0x80) << 24) | magnitude | special)
}
