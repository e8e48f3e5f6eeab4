//! Blocks whose codes are places in a grid, of less than four bits a value. They are decoded only.

use crate::encodings::ggml::grids::{IQ1, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};
use crate::encodings::ggml::open_block::{OpenBlock, half_at};

/// Values of a point with signs: bits of the byte say which are negative.
fn put_signed(codes: &mut [i8], point: &[i8], signs: u8) {
    for (i, (code, value)) in codes.iter_mut().zip(point).enumerate() {
        *code = if signs >> i & 1 == 1 { -value } else { *value };
    }
}

/// The eight signs that seven bits mean, the lowest of a word: the last makes their number even.
fn even_signs(word: u32) -> u8 {
    let signs = word as u8 & 127;
    signs | ((signs.count_ones() as u8 & 1) << 7)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

/// A scale for each group of four bits, the lower first.
fn set_nibble_scales(block: &mut OpenBlock, d: f32, nibbles: &[u8]) {
    for (scales, byte) in block.scales.as_chunks_mut::<2>().0.iter_mut().zip(nibbles) {
        *scales = [byte & 15, byte >> 4].map(|nibble| (d * (0.5 + f32::from(nibble))) * 0.25);
    }
}

/// `d`, and for each 32 values four places in bytes and a word of signs and scale.
pub(crate) fn iq2_xxs(bytes: &[u8], block: &mut OpenBlock) {
    let (d, points) = (half_at(bytes, 0), IQ2_XXS.points().as_chunks::<8>().0);
    block.mins.fill(0.0);
    for (i, codes) in block.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let at = 2 + i / 4 * 8;
        let word = u32_at(bytes, at + 4);
        block.scales[i / 2] = (d * (0.5 + (word >> 28) as f32)) * 0.25;
        put_signed(codes, &points[usize::from(bytes[at + i % 4])], even_signs(word >> (7 * (i % 4))));
    }
}

/// `d`, words of nine bits of place and seven of signs, scales of four bits.
pub(crate) fn iq2_xs(bytes: &[u8], block: &mut OpenBlock) {
    let points = IQ2_XS.points().as_chunks::<8>().0;
    block.mins.fill(0.0);
    set_nibble_scales(block, half_at(bytes, 0), &bytes[66..]);
    for (i, codes) in block.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let word = u16_at(bytes, 2 + 2 * i);
        put_signed(codes, &points[usize::from(word & 511)], even_signs(u32::from(word >> 9)));
    }
}

/// `d`, eight bits of each place, signs, two more bits of each place, scales of four bits.
pub(crate) fn iq2_s(bytes: &[u8], block: &mut OpenBlock) {
    let points = IQ2_S.points().as_chunks::<8>().0;
    block.mins.fill(0.0);
    set_nibble_scales(block, half_at(bytes, 0), &bytes[74..]);
    for (i, codes) in block.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let high = usize::from(bytes[66 + i / 4] >> (2 * (i % 4)) & 3);
        put_signed(codes, &points[usize::from(bytes[2 + i]) | high << 8], bytes[34 + i]);
    }
}

/// `d`, places in bytes, and for each 32 values a word of signs and scale.
pub(crate) fn iq3_xxs(bytes: &[u8], block: &mut OpenBlock) {
    let (d, points) = (half_at(bytes, 0), IQ3_XXS.points().as_chunks::<4>().0);
    block.mins.fill(0.0);
    for (i, codes) in block.codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let word = u32_at(bytes, 66 + i / 8 * 4);
        block.scales[i / 4] = (d * (0.5 + (word >> 28) as f32)) * 0.5;
        let signs = even_signs(word >> (7 * (i / 2 % 4))) >> (4 * (i % 2));
        put_signed(codes, &points[usize::from(bytes[2 + i])], signs);
    }
}

/// `d`, eight bits of each place, a ninth of each, signs, scales of four bits.
pub(crate) fn iq3_s(bytes: &[u8], block: &mut OpenBlock) {
    let (d, points) = (half_at(bytes, 0), IQ3_S.points().as_chunks::<4>().0);
    block.mins.fill(0.0);
    for (i, codes) in block.codes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let nibble = bytes[106 + i / 16] >> (i / 8 % 2 * 4) & 15;
        block.scales[i / 4] = d * f32::from(1 + 2 * nibble);
        let high = usize::from(bytes[66 + i / 8] >> (i % 8) & 1);
        let signs = bytes[74 + i / 2] >> (4 * (i % 2));
        put_signed(codes, &points[usize::from(bytes[2 + i]) | high << 8], signs);
    }
}

/// A point, an eighth more or less, in eighths. So their scale is an eighth of what it is for whole values, which is exact.
fn put_shifted(codes: &mut [i8], place: usize, is_less: bool) {
    let point = &IQ1.points().as_chunks::<8>().0[place];
    let shift = if is_less { -1 } else { 1 };
    codes.iter_mut().zip(point).for_each(|(code, value)| *code = value + shift);
}

/// `d`, eight bits of each place, and for each 32 values a word of three more bits of four places, a scale and a sign.
pub(crate) fn iq1_s(bytes: &[u8], block: &mut OpenBlock) {
    let d = half_at(bytes, 0);
    block.mins.fill(0.0);
    for (i, codes) in block.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let word = u16_at(bytes, 34 + i / 4 * 2);
        block.scales[i / 2] = d * f32::from(2 * (word >> 12 & 7) + 1) / 8.0;
        let high = usize::from(word >> (3 * (i % 4)) & 7);
        put_shifted(codes, usize::from(bytes[2 + i]) | high << 8, word >> 15 == 1);
    }
}

/// Eight bits of each place, then four bits of three more and a sign, then scales of three bits; four bits of `d` are above
/// every four of these.
pub(crate) fn iq1_m(bytes: &[u8], block: &mut OpenBlock) {
    let words: [u16; 4] = std::array::from_fn(|i| u16_at(bytes, 48 + 2 * i));
    let d = words.iter().rev().fold(0, |d, word| d << 4 | word >> 12);
    let d = half_at(&d.to_le_bytes(), 0);
    block.mins.fill(0.0);
    for (i, codes) in block.codes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let group = i / 2;
        let scale = words[group / 4] >> (3 * (group % 4)) & 7;
        block.scales[group] = d * f32::from(2 * scale + 1) / 8.0;
        let nibble = bytes[32 + i / 2] >> (4 * (i % 2)) & 15;
        put_shifted(codes, usize::from(bytes[i]) | usize::from(nibble & 7) << 8, nibble & 8 != 0);
    }
}
