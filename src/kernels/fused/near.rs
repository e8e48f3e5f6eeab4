//! The rounding of numbers that are known to within a radius each, to codes in place of those of a base: where all numbers
//! within it have one code. The others stay, and are open.

#![expect(unsafe_code, reason = "functions compiled for CPU features may be called only where they exist")]

use crate::kernels::fused::body::round_near;
use crate::kernels::fused::code::HalfCode;
use crate::kernels::fused::vector::{CodeVector, FormulaVector};

/// Elements for which one word says which are open.
pub(crate) const WORD: usize = 64;
/// Lanes of the widest vector here.
const WIDEST: usize = 8;

/// Rounds to codes of two bytes. Sets a bit in `open` for each that is open, and returns how many others changed.
///
/// # Safety
/// As for [`Vector`](crate::kernels::fused::vector::Vector).
#[inline(always)]
pub(crate) unsafe fn round_halves<V: CodeVector + FormulaVector, C: HalfCode>(
    middles: &[f32],
    radii: &[f32],
    codes: &mut [u8],
    open: &mut [u64],
) -> u64 {
    let mut changed = 0;
    let words = middles.chunks(WORD).zip(radii.chunks(WORD)).zip(codes.chunks_mut(2 * WORD)).zip(open);
    for (((middles, radii), codes), open) in words {
        *open = 0;
        let numbers =
            middles.chunks(V::LANES).zip(radii.chunks(V::LANES)).zip(codes.chunks_mut(2 * V::LANES));
        for (i, ((middles, radii), codes)) in numbers.enumerate() {
            // SAFETY: the caller's promise.
            let (moved, unsettled) = unsafe {
                if middles.len() == V::LANES {
                    round_near::<V, C>(middles, radii, codes)
                } else {
                    let (mut of, mut all) = ([[0.0; WIDEST]; 2], [0; 2 * WIDEST]);
                    of[0][..middles.len()].copy_from_slice(middles);
                    of[1][..middles.len()].copy_from_slice(radii);
                    all[..codes.len()].copy_from_slice(codes);
                    let rounded = round_near::<V, C>(&of[0], &of[1], &mut all);
                    codes.copy_from_slice(&all[..codes.len()]);
                    rounded
                }
            };
            changed += u64::from(moved.count_ones());
            *open |= u64::from(unsettled) << (i * V::LANES);
        }
    }
    changed
}

/// Rounds to F32, as [`round_halves`] does.
///
/// The ends of a bound r are taken at r·(1 + 2⁻⁵¹) + 2⁻⁵¹·|middle| + 2⁻¹⁰²², more than the roundings of both ends and of r are,
/// so that no number within it is an end; a number without a bound is its own end, and the cast rounds it to nearest even.
#[inline(always)]
pub(crate) fn round_singles(middles: &[f64], radii: &[f64], codes: &mut [u8], open: &mut [u64]) -> u64 {
    let (mut changed, mut ends) = (0, [[0_u32; WORD]; 2]);
    let words = middles.chunks(WORD).zip(radii.chunks(WORD)).zip(codes.chunks_mut(4 * WORD)).zip(open);
    for (((middles, radii), codes), open) in words {
        let [lows, highs] = &mut ends;
        for (((middle, radius), low), high) in middles.iter().zip(radii).zip(lows).zip(highs) {
            let more =
                radius * (1.0 + 2.0 * f64::EPSILON) + middle.abs() * 2.0 * f64::EPSILON + f64::MIN_POSITIVE;
            let more = if *radius == 0.0 { 0.0 } else { more };
            // Without a bound a negative zero stays what it is.
            *low = ((middle - more) as f32).to_bits();
            *high = if more == 0.0 { *low } else { ((middle + more) as f32).to_bits() };
        }
        *open = 0;
        let [lows, highs] = &ends;
        for (i, ((low, high), code)) in lows.iter().zip(highs).zip(codes.as_chunks_mut().0).enumerate() {
            let is_open = low != high || !f32::from_bits(*high).is_finite();
            let old = u32::from_le_bytes(*code);
            *code = if is_open { old } else { *low }.to_le_bytes();
            changed += u64::from(!is_open && old != *low);
            *open |= u64::from(is_open) << i;
        }
    }
    changed
}
