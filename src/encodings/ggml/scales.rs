//! The scales of blocks whose codes are whole numbers or places in a table, as they are stored.

use crate::encodings::ggml::open_block::{OpenBlock, half_at};
use crate::kernels::float8::E4M3;

/// Places and low bits of the scales that Q4_K and Q5_K pack into twelve bytes: of scale `j` and of minimum `j`.
fn packed_six_bits(packed: &[u8], j: usize) -> [u8; 2] {
    if j < 4 {
        [packed[j] & 63, packed[j + 4] & 63]
    } else {
        let both = packed[j + 4];
        [both & 15 | packed[j - 4] >> 6 << 4, both >> 4 | packed[j] >> 6 << 4]
    }
}

/// Stores the scales and minima of Q4_K and Q5_K into bytes that are zero.
pub(crate) fn put_six_bits(packed: &mut [u8], scales: &[[u8; 2]; 8]) {
    for (j, [scale, min]) in scales.iter().enumerate() {
        if j < 4 {
            (packed[j], packed[j + 4]) = (*scale, *min);
        } else {
            packed[j + 4] = scale & 15 | min << 4;
            packed[j - 4] |= scale >> 4 << 6;
            packed[j] |= min >> 4 << 6;
        }
    }
}

/// Q4_K, Q5_K: `d`, `dmin`, and six bits of each for 32 values.
pub(crate) fn of_q4_k(bytes: &[u8], block: &mut OpenBlock) {
    let (d, min) = (half_at(bytes, 0), half_at(bytes, 2));
    for j in 0..8 {
        let [scale, of_min] = packed_six_bits(&bytes[4..16], j);
        block.scales[2 * j..][..2].fill(d * f32::from(scale));
        block.mins[2 * j..][..2].fill(min * f32::from(of_min));
    }
}

/// Q2_K: four bits of scale and four of minimum for 16 values, `d` and `dmin` at the end.
pub(crate) fn of_q2_k(bytes: &[u8], block: &mut OpenBlock) {
    let (d, min) = (half_at(bytes, 80), half_at(bytes, 82));
    for ((scale, of_min), byte) in block.scales.iter_mut().zip(&mut block.mins).zip(bytes) {
        (*scale, *of_min) = (d * f32::from(byte & 15), min * f32::from(byte >> 4));
    }
}

/// Q3_K: six bits for 16 values, 32 more than they mean: four in one place, two in another.
pub(crate) fn of_q3_k(bytes: &[u8], block: &mut OpenBlock) {
    let (packed, d) = (&bytes[96..108], half_at(bytes, 108));
    block.mins.fill(0.0);
    for (j, scale) in block.scales.iter_mut().enumerate() {
        let low = packed[j % 8] >> (j / 8 * 4) & 15;
        let high = packed[8 + j % 4] >> (j / 4 * 2) & 3;
        *scale = d * f32::from((low | high << 4) as i8 - 32);
    }
}

/// Stores the scales of Q3_K, 32 more than they mean, into bytes that are zero.
pub(crate) fn put_q3_k(packed: &mut [u8], scales: &[u8; 16]) {
    for (j, scale) in scales.iter().enumerate() {
        packed[j % 8] |= (scale & 15) << (j / 8 * 4);
        packed[8 + j % 4] |= scale >> 4 << (j / 4 * 2);
    }
}

/// Q6_K: a byte for 16 values, `d` at the end.
pub(crate) fn of_q6_k(bytes: &[u8], block: &mut OpenBlock) {
    let d = half_at(bytes, 208);
    block.mins.fill(0.0);
    for (scale, byte) in block.scales.iter_mut().zip(&bytes[192..]) {
        *scale = d * f32::from(*byte as i8);
    }
}

/// IQ4_XS: `d`, and six bits for 32 values, 32 more than they mean: a word of the high bits, then the low ones.
pub(crate) fn of_iq4_xs(bytes: &[u8], block: &mut OpenBlock) {
    let (d, high) = (half_at(bytes, 0), u16::from_le_bytes([bytes[2], bytes[3]]));
    block.mins.fill(0.0);
    for j in 0..8 {
        let scale = bytes[4 + j / 2] >> (j % 2 * 4) & 15 | ((high >> (2 * j) & 3) << 4) as u8;
        block.scales[2 * j..][..2].fill(d * f32::from(scale as i8 - 32));
    }
}

/// Stores the scales of IQ4_XS, 32 more than they mean, into bytes that are zero.
pub(crate) fn put_iq4_xs(bytes: &mut [u8], scales: &[u8; 8]) {
    for (j, scale) in scales.iter().enumerate() {
        bytes[2 + j / 4] |= scale >> 4 << (j % 4 * 2);
        bytes[4 + j / 2] |= (scale & 15) << (j % 2 * 4);
    }
}

/// Types of one scale at the start.
pub(crate) fn of_first(bytes: &[u8], block: &mut OpenBlock) {
    block.set_all(half_at(bytes, 0), 0.0);
}

/// Types of one scale at the end.
pub(crate) fn of_last(bytes: &[u8], block: &mut OpenBlock) {
    block.set_all(half_at(bytes, bytes.len() - 2), 0.0);
}

/// Types of a scale and a minimum, which is added.
pub(crate) fn of_first_two(bytes: &[u8], block: &mut OpenBlock) {
    block.set_all(half_at(bytes, 0), -half_at(bytes, 2));
}

/// MXFP4: half of a power of two, as the table has twice the values.
pub(crate) fn of_mxfp4(bytes: &[u8], block: &mut OpenBlock) {
    block.set_all(half_power(bytes[0]), 0.0);
}

/// 2^(code − 128); the code 255 is no number.
pub(crate) fn half_power(code: u8) -> f32 {
    f32::from_bits(match code {
        255 => 0x7fc0_0000,
        0 | 1 => 0x0020_0000 << code,
        code => u32::from(code - 1) << 23,
    })
}

/// NVFP4: half of a number of E4M3 without its sign for 16 values, as the table has twice the values.
pub(crate) fn of_nvfp4(bytes: &[u8], block: &mut OpenBlock) {
    block.mins.fill(0.0);
    for (scale, code) in block.scales.iter_mut().zip(&bytes[..4]) {
        *scale = half_e4m3(*code);
    }
}

/// Half of a number of E4M3. Its NaN means zero, and codes with a sign mean nothing.
pub(crate) fn half_e4m3(code: u8) -> f32 {
    match code {
        0..127 => E4M3[usize::from(code)] * 0.5,
        127 => 0.0,
        _ => f32::NAN,
    }
}
