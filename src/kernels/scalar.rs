//! The reference: one element at a time, in the plainest code that is right. Every other kernel is tested against it.
//!
//! It runs where nothing better can, and in tests. Conversions lean on the `half` crate's portable code, or are written
//! another way: they share nothing with `convert.rs`.

use half::{bf16, f16};

use crate::kernels::accumulate::{LANES, RUN, total};
use crate::kernels::float8::{E4M3, power_of_two};
use crate::kernels::outcome::{Narrowed, RetentionSums};
use crate::kernels::product::{Matrix, RANK_BLOCK};

pub(crate) fn widen_bf16(bytes: &[u8], out: &mut [f32]) -> bool {
    widen(bytes, out, |code| f32::from_bits(u32::from(u16::from_le_bytes(code)) << 16))
}

pub(crate) fn widen_f16(bytes: &[u8], out: &mut [f32]) -> bool {
    widen(bytes, out, |code| f16::from_le_bytes(code).to_f32_const())
}

pub(crate) fn widen_f32(bytes: &[u8], out: &mut [f32]) -> bool {
    widen(bytes, out, f32::from_le_bytes)
}

pub(crate) fn widen_e4m3(bytes: &[u8], out: &mut [f32]) -> bool {
    widen(bytes, out, |[code]| E4M3[usize::from(code)])
}

pub(crate) fn narrow_bf16(values: &[f32], bytes: &mut [u8]) -> Narrowed {
    narrow(values, bytes, |value| {
        let code = bf16::from_f32_const(value);
        (code.to_le_bytes(), code.is_finite())
    })
}

pub(crate) fn narrow_f16(values: &[f32], bytes: &mut [u8]) -> Narrowed {
    narrow(values, bytes, |value| {
        let code = f16::from_f32_const(value);
        (code.to_le_bytes(), code.is_finite())
    })
}

pub(crate) fn narrow_f32(values: &[f32], bytes: &mut [u8]) -> Narrowed {
    narrow(values, bytes, |value| (value.to_le_bytes(), value.is_finite()))
}

pub(crate) fn narrow_e4m3(values: &[f32], bytes: &mut [u8]) -> Narrowed {
    narrow(values, bytes, |value| {
        let code = f32_to_e4m3(value.abs());
        ([code | if value.is_sign_negative() { 0x80 } else { 0 }], code != 0x7f)
    })
}

/// Rounds in units of the last place of the value's binade, or of the lowest that has normal numbers.
fn f32_to_e4m3(magnitude: f32) -> u8 {
    // Half-way between 448 and the 480 that would follow; the even one of the two is 448.
    if magnitude.is_nan() || magnitude > 464.0 {
        return 0x7f;
    }
    let exponent = ((magnitude.to_bits() >> 23) as i32 - 127).max(-6);
    let units = (magnitude * power_of_two(3 - exponent)).round_ties_even();
    // 8 to 16 units where the result is normal: 16 are the next exponent's 8, to which the sum carries.
    (((exponent + 7) << 3) - 8 + units as i32) as u8
}

pub(crate) fn add_scaled(acc: &mut [f32], delta: &mut [f32], scale: f32) {
    for (acc, delta) in acc.iter_mut().zip(delta) {
        let scaled = *delta * scale;
        *delta = scaled;
        *acc += scaled;
    }
}

pub(crate) fn add_squares(values: &[f32], lanes: &mut [f64; LANES]) {
    for (i, value) in values.iter().enumerate() {
        lanes[i % LANES] += f64::from(*value) * f64::from(*value);
    }
}

pub(crate) fn add_squares_each(values: &[f32], sums: &mut [f64]) {
    for (i, value) in values.iter().enumerate() {
        sums[i] += f64::from(*value) * f64::from(*value);
    }
}

pub(crate) fn retention_sums(values: &[f32], before: &[f32], still: &[f32], delta: &[f32]) -> RetentionSums {
    let mut retention_sums = RetentionSums::default();
    for start in (0..delta.len()).step_by(RUN) {
        let [mut arrived, mut squares, mut still_squares] = [[0.0f32; LANES]; 3];
        for i in start..delta.len().min(start + RUN) {
            arrived[i % LANES] += delta[i] * (values[i] - before[i]);
            squares[i % LANES] += delta[i] * delta[i];
            still_squares[i % LANES] += still[i] * still[i];
            if delta[i] != 0.0 {
                retention_sums.nonzero += 1;
                retention_sums.unchanged += u64::from(values[i] == still[i]);
            }
        }
        retention_sums.arrived += f64::from(total(arrived));
        retention_sums.squares += f64::from(total(squares));
        retention_sums.still_squares += f64::from(total(still_squares));
    }
    retention_sums
}

/// The product as it is pinned. `f32::mul_add` is fused on every CPU, in software where it must be.
pub(crate) fn product(u: Matrix<'_>, v: Matrix<'_>, out: &mut [f32]) {
    for row in 0..u.rows {
        for col in 0..v.cols {
            let mut total = 0.0;
            for start in (0..u.cols).step_by(RANK_BLOCK) {
                let mut sum = 0.0_f32;
                for k in start..u.cols.min(start + RANK_BLOCK) {
                    sum = u.at(row, k).mul_add(v.at(k, col), sum);
                }
                total += sum;
            }
            out[row * v.cols + col] = total;
        }
    }
}

fn widen<const N: usize>(bytes: &[u8], out: &mut [f32], decode: impl Fn([u8; N]) -> f32) -> bool {
    let mut finite = true;
    for (code, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = decode(*code);
        finite &= out.is_finite();
    }
    finite
}

fn narrow<const N: usize>(
    values: &[f32],
    bytes: &mut [u8],
    encode: impl Fn(f32) -> ([u8; N], bool),
) -> Narrowed {
    let mut narrowed = Narrowed { finite: true, changed: 0 };
    for (value, code) in values.iter().zip(bytes.as_chunks_mut().0) {
        let (new, finite) = encode(*value);
        narrowed.finite &= finite;
        narrowed.changed += u64::from(new != *code);
        *code = new;
    }
    narrowed
}
