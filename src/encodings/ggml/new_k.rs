//! New blocks of 256 values with scales of scales, and those of IQ4_NL, by the rules of ggml's own quantizer.
//!
//! First each group is fitted on its own; then the scales are rounded to what is stored, and the codes made again with that. Where
//! a stored scale is 0 they stay those of the fit.
//!
//! What several types share is not inlined: few blocks are made anew, and copies for each type are as large as all the rest.

use crate::encodings::ggml::code_layout::IQ4;
use crate::encodings::ggml::fit::{LineFit, NOTHING, best_factor, fit_in_rounds, whole, whole_sums};
use crate::encodings::ggml::open_block::{GROUP, OpenBlock, extreme, inverse, nearest, nearest_of, put_half};
use crate::encodings::ggml::scales;

/// Codes of values with the scales that a block has now.
#[inline(never)]
fn put_codes(block: &OpenBlock, values: &[f32], ends: (i32, i32), codes: &mut [i8]) {
    let groups = values.chunks(GROUP).zip(codes.chunks_mut(GROUP));
    for ((values, codes), (scale, min)) in groups.zip(block.scales.iter().zip(&block.mins)) {
        if *scale != 0.0 {
            for (code, value) in codes.iter_mut().zip(values) {
                *code = nearest((value + min) / scale).clamp(ends.0, ends.1) as i8;
            }
        }
    }
}

/// Q6_K.
pub(crate) fn q6_k(values: &[f32], bytes: &mut [u8], codes: &mut [i8]) {
    const HALF: i32 = 32;
    codes.fill(-HALF as i8);
    let mut fitted = [0.0; 16];
    for ((scale, values), codes) in fitted.iter_mut().zip(values.chunks(GROUP)).zip(codes.chunks_mut(GROUP)) {
        let most = extreme(values);
        if most.abs() < NOTHING {
            continue;
        }
        let tries = (-9..=9).filter(|i| *i != 0).map(|i| -(HALF as f32 + 0.1 * i as f32) / most);
        let sums = |factor| whole_sums(values, HALF, factor);
        let (factor, of_group) = best_factor(-(HALF as f32) / most, tries, &sums);
        *scale = of_group;
        codes.iter_mut().zip(values).for_each(|(code, value)| *code = whole(value * factor, HALF) as i8);
    }
    let most = extreme(&fitted);
    if most.abs() < NOTHING {
        codes.fill(-HALF as i8);
        return;
    }
    let by = -128.0 / most;
    put_half(bytes, 208, 1.0 / by);
    for (byte, scale) in bytes[192..208].iter_mut().zip(&fitted) {
        *byte = nearest(by * scale).min(127) as u8;
    }
    let mut block = OpenBlock::EMPTY;
    scales::of_q6_k(bytes, &mut block);
    put_codes(&block, values, (-HALF, HALF - 1), codes);
}

/// Q3_K.
pub(crate) fn q3_k(values: &[f32], bytes: &mut [u8], codes: &mut [i8]) {
    const HALF: i32 = 4;
    codes.fill(-HALF as i8);
    let mut fitted = [0.0; 16];
    for ((scale, values), codes) in fitted.iter_mut().zip(values.chunks(GROUP)).zip(codes.chunks_mut(GROUP)) {
        let most = extreme(values);
        if most.abs() >= NOTHING {
            *scale = fit_in_rounds(values, -(HALF as f32) / most, HALF, codes);
        }
    }
    let most = extreme(&fitted);
    if most != 0.0 {
        let by = -32.0 / most;
        put_half(bytes, 108, 1.0 / by);
        let rounded = fitted.map(|scale| (whole(by * scale, 32) + 32) as u8);
        scales::put_q3_k(&mut bytes[96..108], &rounded);
    }
    let mut block = OpenBlock::EMPTY;
    scales::of_q3_k(bytes, &mut block);
    put_codes(&block, values, (-HALF, HALF - 1), codes);
}

/// The largest of some numbers, and 0 at the least.
fn largest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |most, number| if *number > most { *number } else { most })
}

/// So many over a number; 0 if that is not above 0.
fn over(most: f32, number: f32) -> f32 {
    if number > 0.0 { most / number } else { 0.0 }
}

/// Q2_K.
pub(crate) fn q2_k(values: &[f32], bytes: &mut [u8], codes: &mut [i8]) {
    let line = LineFit { most: 3, first: -0.5, tries: 15, is_absolute: true };
    let (mut fitted, mut mins) = ([0.0; 16], [0.0; 16]);
    for (j, (values, codes)) in values.chunks(GROUP).zip(codes.chunks_mut(GROUP)).enumerate() {
        let mut weights = [0.0; GROUP];
        weights.iter_mut().zip(values).for_each(|(weight, value)| *weight = value.abs());
        (fitted[j], mins[j]) = line.fit(values, &weights, codes);
    }
    let (most, most_min) = (largest(&fitted), largest(&mins));
    let (by, by_min) = (over(15.0, most), over(15.0, most_min));
    for (byte, (scale, min)) in bytes.iter_mut().zip(fitted.iter().zip(&mins)) {
        *byte = nearest(by * scale) as u8 | (nearest(by_min * min) as u8) << 4;
    }
    put_half(bytes, 80, most / 15.0);
    put_half(bytes, 82, most_min / 15.0);
    let mut block = OpenBlock::EMPTY;
    scales::of_q2_k(bytes, &mut block);
    put_codes(&block, values, (0, 3), codes);
}

/// Q4_K.
pub(crate) fn q4_k(values: &[f32], bytes: &mut [u8], codes: &mut [i8]) {
    let line = LineFit { most: 15, first: -1.0, tries: 20, is_absolute: false };
    of_six_bits(values, bytes, codes, &line);
}

/// Q5_K.
pub(crate) fn q5_k(values: &[f32], bytes: &mut [u8], codes: &mut [i8]) {
    let line = LineFit { most: 31, first: -0.5, tries: 15, is_absolute: false };
    of_six_bits(values, bytes, codes, &line);
}

fn of_six_bits(values: &[f32], bytes: &mut [u8], codes: &mut [i8], line: &LineFit) {
    let (mut fitted, mut mins) = ([0.0; 8], [0.0; 8]);
    for (j, (values, codes)) in values.chunks(32).zip(codes.chunks_mut(32)).enumerate() {
        let squares = values.iter().fold(0.0, |sum, value| sum + value * value);
        let mean = (squares / 32.0).sqrt();
        let mut weights = [0.0; 32];
        weights.iter_mut().zip(values).for_each(|(weight, value)| *weight = mean + value.abs());
        (fitted[j], mins[j]) = line.fit(values, &weights, codes);
    }
    let (most, most_min) = (largest(&fitted), largest(&mins));
    let (by, by_min) = (over(63.0, most), over(63.0, most_min));
    let six = |number| (nearest(number) as u8).min(63);
    let rounded = std::array::from_fn(|j| [six(by * fitted[j]), six(by_min * mins[j])]);
    scales::put_six_bits(&mut bytes[4..16], &rounded);
    put_half(bytes, 0, most / 63.0);
    put_half(bytes, 2, most_min / 63.0);
    let mut block = OpenBlock::EMPTY;
    scales::of_q4_k(bytes, &mut block);
    put_codes(&block, values, (0, line.most.into()), codes);
}

/// The nearest of the table to 16 values times a factor, the upper of two.
fn of_table(values: &[f32; GROUP], factor: f32) -> [i8; GROUP] {
    static DOWNWARD: [i8; 16] = {
        let mut codes = IQ4.codes;
        codes.reverse();
        codes
    };
    nearest_of(&DOWNWARD, 1.0, &values.map(|value| value * factor))
}

/// The scale of 32 values whose codes are of the table.
#[inline(never)]
fn fit_table(values: &[f32]) -> f32 {
    let most = extreme(values);
    if most.abs() < NOTHING {
        return 0.0;
    }
    let least = f32::from(IQ4.codes[0]);
    let sums = |factor| {
        let groups = values.as_chunks::<GROUP>().0.iter();
        let pairs = groups.flat_map(|values| values.iter().copied().zip(of_table(values, factor)));
        pairs.fold([0.0; 2], |[products, squares], (value, code)| {
            let (code, weight) = (f32::from(code), value * value);
            [products + (weight * code) * value, squares + (weight * code) * code]
        })
    };
    best_factor(1.0 / (-most / least), (-7..=7).map(|i| (i as f32 + least) / most), &sums).1
}

#[inline(never)]
fn put_table_codes(values: &[f32], factor: f32, codes: &mut [i8]) {
    let groups = values.as_chunks::<GROUP>().0.iter().zip(codes.as_chunks_mut::<GROUP>().0);
    groups.for_each(|(values, codes)| *codes = of_table(values, factor));
}

/// IQ4_NL.
pub(crate) fn iq4_nl(values: &[f32], bytes: &mut [u8], codes: &mut [i8]) {
    let scale = fit_table(values);
    put_half(bytes, 0, scale);
    put_table_codes(values, inverse(scale), codes);
}

/// IQ4_XS, whose codes are made with the scale before it is rounded to what is stored.
pub(crate) fn iq4_xs(values: &[f32], bytes: &mut [u8], codes: &mut [i8]) {
    let mut fitted = [0.0; 8];
    fitted.iter_mut().zip(values.chunks(32)).for_each(|(scale, values)| *scale = fit_table(values));
    let d = -extreme(&fitted) / 32.0;
    put_half(bytes, 0, d);
    let by = inverse(d);
    let rounded = fitted.map(|scale| whole(by * scale, 32));
    scales::put_iq4_xs(bytes, &rounded.map(|scale| (scale + 32) as u8));
    for (scale, (values, codes)) in rounded.iter().zip(values.chunks(32).zip(codes.chunks_mut(32))) {
        put_table_codes(values, inverse(d * *scale as f32), codes);
    }
}
