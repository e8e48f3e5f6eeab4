//! New blocks of 32 or 64 values, and of three codes, by the rules of ggml's own quantizer.
//!
//! Sums and products are f32 in its order, so that the bytes are its own.
//!
//! What several types share is not inlined: few blocks are made anew, and copies for each type are as large as all the rest.

use crate::encodings::ggml::code_layout::TWICE_E2M1;
use crate::encodings::ggml::open_block::{GROUP, extreme, inverse, magnitude, nearest_of, put_half};
use crate::encodings::ggml::scales::{half_e4m3, half_power};

/// Codes from −`half` on: the value of largest magnitude is that, and the others are rounded up where they are halfway.
#[inline(never)]
fn of_extreme(values: &[f32], block: &mut [u8], codes: &mut [i8], half: f32) {
    let d = extreme(values) / -half;
    let by = inverse(d);
    put_half(block, 0, d);
    for (code, value) in codes.iter_mut().zip(values) {
        // The sum is above 0: a cast rounds it down.
        *code = (((value * by + (half + 0.5)) as i32).min(2 * half as i32 - 1) - half as i32) as i8;
    }
}

/// Codes from 0 to `most`, from the least value to the largest.
#[inline(never)]
fn of_ends(values: &[f32], block: &mut [u8], codes: &mut [i8], most: f32) {
    let least = values.iter().fold(f32::MAX, |least, value| if *value < least { *value } else { least });
    let largest =
        values.iter().fold(-f32::MAX, |largest, value| if *value > largest { *value } else { largest });
    let d = (largest - least) / most;
    let by = inverse(d);
    put_half(block, 0, d);
    put_half(block, 2, least);
    for (code, value) in codes.iter_mut().zip(values) {
        *code = (((value - least) * by + 0.5) as i32).min(most as i32) as i8;
    }
}

/// The nearest whole number, away from 0 of two. What is added is a little less than a half, as the sum is rounded itself; unlike
/// `round`, compilers make vectors of this.
fn nearest_away(value: f32) -> i32 {
    const HALF: f32 = 0.5 - f32::EPSILON / 4.0;
    (value + HALF.copysign(value)) as i32
}

/// Codes of a scale of which the largest magnitude is so many; halves are rounded away from 0.
#[inline(never)]
fn of_magnitude(values: &[f32], most: f32, codes: &mut [i8]) -> f32 {
    let d = magnitude(values) / most;
    let by = inverse(d);
    codes.iter_mut().zip(values).for_each(|(code, value)| *code = nearest_away(value * by) as i8);
    d
}

/// Q4_0.
pub(crate) fn q4_0(values: &[f32], block: &mut [u8], codes: &mut [i8]) {
    of_extreme(values, block, codes, 8.0);
}

/// Q5_0.
pub(crate) fn q5_0(values: &[f32], block: &mut [u8], codes: &mut [i8]) {
    of_extreme(values, block, codes, 16.0);
}

/// Q4_1.
pub(crate) fn q4_1(values: &[f32], block: &mut [u8], codes: &mut [i8]) {
    of_ends(values, block, codes, 15.0);
}

/// Q5_1.
pub(crate) fn q5_1(values: &[f32], block: &mut [u8], codes: &mut [i8]) {
    of_ends(values, block, codes, 31.0);
}

/// Q8_0.
pub(crate) fn q8_0(values: &[f32], block: &mut [u8], codes: &mut [i8]) {
    let d = of_magnitude(values, 127.0, codes);
    put_half(block, 0, d);
}

/// TQ1_0, TQ2_0: the scale is at the end.
pub(crate) fn ternary(values: &[f32], block: &mut [u8], codes: &mut [i8]) {
    let d = of_magnitude(values, 1.0, codes);
    put_half(block, block.len() - 2, d);
}

/// MXFP4: the power of two of the largest magnitude, of which 4 is a code and 6 the largest.
pub(crate) fn mxfp4(values: &[f32], block: &mut [u8], codes: &mut [i8]) {
    // The exponent is the logarithm, rounded down.
    block[0] = (extreme(values).abs().to_bits() >> 23).saturating_sub(2) as u8;
    of_e2m1(values, half_power(block[0]), codes);
}

/// NVFP4: a scale for 16 values, of which 6 is the largest.
pub(crate) fn nvfp4(values: &[f32], block: &mut [u8], codes: &mut [i8]) {
    for (i, (values, codes)) in values.chunks(GROUP).zip(codes.chunks_mut(GROUP)).enumerate() {
        block[i] = e4m3_code(extreme(values).abs() / 6.0);
        of_e2m1(values, half_e4m3(block[i]), codes);
    }
}

#[inline(never)]
fn of_e2m1(values: &[f32], scale: f32, codes: &mut [i8]) {
    let groups = values.as_chunks::<GROUP>().0.iter().zip(codes.as_chunks_mut::<GROUP>().0);
    groups.for_each(|(values, codes)| *codes = nearest_of(&TWICE_E2M1.codes, scale, values));
}

/// The code of E4M3 as ggml rounds: halfway up, and from 256 on to the largest.
fn e4m3_code(value: f32) -> u8 {
    let bits = value.to_bits();
    // Of the exponent of 2⁻⁷, and of three bits of the mantissa; the fourth is rounded, and carries into the exponent.
    let code = (bits >> 20).saturating_sub(120 << 3) + (bits >> 19 & 1);
    match bits >> 23 {
        // Below 2⁻⁶ are multiples of 2⁻⁹, of which a cast leaves the whole ones.
        ..=120 => ((value * 512.0 + 0.5) as u8).min(7),
        _ if code >= 15 << 3 => 126,
        _ => code as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::nearest_away;

    #[test]
    fn halves_are_rounded_away_from_zero_and_nothing_else_is() {
        let around = |value: f32| [value.next_down(), value, value.next_up()];
        let halves = (0..=260).flat_map(|half| around(half as f32 / 2.0));
        let others = (0..20_000).map(|i| i as f32 * 0.0065);
        for value in halves.chain(others).flat_map(|value| [value, -value]) {
            assert_eq!(nearest_away(value), value.round() as i32, "{value:?}");
        }
    }
}
