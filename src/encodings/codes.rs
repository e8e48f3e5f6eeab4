//! Codes in rows: which bytes of them a tile takes, and their values without a scale.
//!
//! A row is a stream of fields, the first in the lowest bits, that begins and ends with whole bytes. A tile may begin and
//! end within a byte.

use crate::kernels::dispatch::Kernels;

use crate::encodings::encoding::{Place, RowPiece, Runs};

/// How a code is stored, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CodeFormat {
    /// Floats of 8 bits, E4M3.
    E4m3,
    /// Whole numbers of 8 bits, two's complement.
    I8,
    /// Floats of 4 bits; the even column is in the low half of a byte.
    E2m1,
    /// Floats of 6 bits; four in three bytes.
    E2m3,
}

/// The largest value of E4M3.
pub(crate) const E4M3_MOST: f32 = 448.0;

/// The values of E2M1.
pub(crate) static E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The values of E2M3.
static E2M3: [f32; 64] = {
    let mut values = [0.0; 64];
    let mut code = 0;
    while code < 64 {
        let mantissa = (code & 7) as f32;
        let magnitude = match code >> 3 & 3 {
            0 => mantissa / 8.0,
            exponent => (8.0 + mantissa) * (1 << exponent) as f32 / 16.0,
        };
        values[code] = if code & 32 == 0 { magnitude } else { -magnitude };
        code += 1;
    }
    values
};

impl CodeFormat {
    /// Bits of a code.
    const fn bits(self) -> u64 {
        match self {
            CodeFormat::E4m3 | CodeFormat::I8 => 8,
            CodeFormat::E2m1 => 4,
            CodeFormat::E2m3 => 6,
        }
    }

    /// The least and the largest number that a scale takes: what is at most half a step beyond the last code. Floats of 8 bits have
    /// steps so long there that only a scale which cannot change takes these.
    pub(crate) const fn range(self, is_fixed: bool) -> (f32, f32) {
        match self {
            CodeFormat::E4m3 if is_fixed => (-464.0, 464.0),
            CodeFormat::E4m3 => (-E4M3_MOST, E4M3_MOST),
            CodeFormat::I8 => (-128.5, 127.5),
            CodeFormat::E2m1 => (-7.0, 7.0),
            CodeFormat::E2m3 => (-7.75, 7.75),
        }
    }

    /// The fewest codes that fill bytes.
    pub(crate) const fn in_whole_bytes(self) -> u64 {
        8 >> self.bits().trailing_zeros()
    }

    /// Codes in a row of so many bytes; none if they do not fill it.
    pub(crate) fn in_row(self, bytes: u64) -> Option<u64> {
        let bits = bytes.checked_mul(8)?;
        bits.is_multiple_of(self.bits()).then(|| bits / self.bits())
    }

    /// The first byte of a stored row that the tile takes, and the one behind its last.
    fn span(self, place: Place<'_>) -> (u64, u64) {
        let cols = &place.rect.cols;
        (cols.start * self.bits() / 8, (cols.end * self.bits()).div_ceil(8))
    }

    /// The bytes of the codes that a tile takes.
    pub(crate) fn runs(self, place: Place<'_>) -> Runs {
        let ((start, end), in_all) = (self.span(place), place.view.cols * self.bits() / 8);
        let (first, count) = (place.rect.rows.start * in_all + start, place.rect.height());
        Runs { first, len: end - start, count, stride: in_all }.joined()
    }

    /// The most bytes of the codes that any tile of that size takes: one that starts elsewhere may begin and end within a
    /// byte.
    pub(crate) fn max_bytes(self, place: Place<'_>) -> u64 {
        let into_byte = 8 - (1 << self.bits().trailing_zeros());
        let (wide, in_all) = (place.rect.width() * self.bits(), place.view.cols * self.bits() / 8);
        place.rect.height() * (wide + into_byte).div_ceil(8).min(in_all)
    }

    /// The values of some columns of a row, from the tile's bytes of codes; true if all are finite.
    pub(crate) fn widen(
        self,
        kernels: Kernels,
        tile: &[u8],
        place: Place<'_>,
        at: &RowPiece,
        out: &mut [f32],
    ) -> bool {
        let (start, end) = self.span(place);
        let len = (end - start) as usize;
        let row = &tile[at.row * len..][..len];
        let bit = (place.rect.cols.start + at.cols.start as u64) * self.bits() - start * 8;
        let codes = &row[(bit / 8) as usize..];
        match self {
            CodeFormat::E4m3 => return kernels.widen_e4m3(&codes[..out.len()], out),
            CodeFormat::I8 => out.iter_mut().zip(codes).for_each(|(out, code)| *out = f32::from(*code as i8)),
            CodeFormat::E2m1 => widen_e2m1(codes, !bit.is_multiple_of(8), out),
            CodeFormat::E2m3 => widen_e2m3(codes, bit % 8, out),
        }
        true
    }
}

impl CodeFormat {
    /// Rounds numbers to codes at a place of a tile's bytes, and leaves the values of these codes; true if all were numbers.
    /// What is beyond the largest becomes it.
    pub(crate) fn narrow(
        self,
        kernels: Kernels,
        tile: &mut [u8],
        place: Place<'_>,
        at: &RowPiece,
        values: &mut [f32],
    ) -> bool {
        let (start, end) = self.span(place);
        let len = (end - start) as usize;
        let row = &mut tile[at.row * len..][..len];
        let bit = ((place.rect.cols.start + at.cols.start as u64) * self.bits() - start * 8) as usize;
        let finite = values.iter().all(|value| value.is_finite());
        let table: &[f32] = match self {
            CodeFormat::E4m3 => {
                let codes = &mut row[bit / 8..][..values.len()];
                values.iter_mut().for_each(|value| *value = value.clamp(-E4M3_MOST, E4M3_MOST));
                kernels.narrow_e4m3(values, codes);
                kernels.widen_e4m3(codes, values);
                return finite;
            }
            CodeFormat::I8 => {
                for (value, code) in values.iter_mut().zip(&mut row[bit / 8..]) {
                    let whole = nearest_whole(value.clamp(-128.0, 127.0)) as i8;
                    (*value, *code) = (whole.into(), whole as u8);
                }
                return finite;
            }
            CodeFormat::E2m1 => &E2M1,
            CodeFormat::E2m3 => &E2M3,
        };
        for (i, value) in values.iter_mut().enumerate() {
            let code = nearest(table, *value);
            put(row, bit + i * self.bits() as usize, self.bits() as u32, code as u16);
            *value = table[code];
        }
        finite
    }
}

/// The whole number nearest to one of at most 2²², of two that are as near the even one: f32 has no bits for anything smaller beside
/// the number that is added. `round_ties_even` is a call on CPUs without SSE4.1, for which binaries are made.
pub(crate) fn nearest_whole(number: f32) -> f32 {
    const SHIFT: f32 = 12_582_912.0;
    (number + SHIFT) - SHIFT
}

/// The code of the value nearest to a number, of two that are as near the even one. The first half of the table are the values
/// that are not negative, in order.
fn nearest(table: &[f32], number: f32) -> usize {
    let (half, magnitude) = (table.len() / 2, number.abs());
    let above = table[..half].partition_point(|value| *value < magnitude).clamp(1, half - 1);
    let (far, near) = (table[above] - magnitude, magnitude - table[above - 1]);
    let code = if far < near || far == near && above % 2 == 0 { above } else { above - 1 };
    if number.is_sign_negative() { code + half } else { code }
}

/// Puts a field of at most nine bits where it begins in a stream.
pub(crate) fn put(stream: &mut [u8], bit: usize, bits: u32, code: u16) {
    let (at, shift) = (bit / 8, bit % 8);
    let (field, mask) = (code << shift, ((1 << bits) - 1) << shift);
    for (byte, part) in stream[at..].iter_mut().zip([0, 8]) {
        *byte = *byte & !((mask >> part) as u8) | (field >> part) as u8;
    }
}

/// Halves of bytes; the first is the high one of its byte if `is_high`.
fn widen_e2m1(codes: &[u8], is_high: bool, out: &mut [f32]) {
    let (first, out) = out.split_at_mut(usize::from(is_high).min(out.len()));
    first.iter_mut().for_each(|value| *value = E2M1[usize::from(codes[0] >> 4)]);
    let codes = &codes[first.len()..];
    let (pairs, last) = out.as_chunks_mut::<2>();
    for ([low, high], code) in pairs.iter_mut().zip(codes) {
        (*low, *high) = (E2M1[usize::from(code & 15)], E2M1[usize::from(code >> 4)]);
    }
    if let [last] = last {
        *last = E2M1[usize::from(codes[pairs.len()] & 15)];
    }
}

/// Fields of six bits, the first at a bit of the first byte.
fn widen_e2m3(codes: &[u8], bit: u64, out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        let bit = bit as usize + 6 * i;
        let both = [codes[bit / 8], codes.get(bit / 8 + 1).copied().unwrap_or(0)];
        *out = E2M3[usize::from(u16::from_le_bytes(both) >> (bit % 8) & 63)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_the_nearest_or_the_even_one() {
        for number in (-2100..2100).map(|n| n as f32 / 8.0) {
            for number in [number, number.next_up(), number.next_down()] {
                assert_eq!(nearest_whole(number), number.round_ties_even(), "{number}");
                assert!(nearest_whole(number) != 0.0 || nearest_whole(number).is_sign_positive());
            }
        }
    }

    /// The limits between codes of E2M1 and which side wins on them, as the standard has them (OCP MX 1.0).
    #[test]
    fn numbers_between_codes_go_to_the_nearer_or_the_even_one() {
        let limits =
            [(0.25, 0), (0.75, 2), (1.25, 2), (1.75, 4), (2.5, 4), (3.5, 6), (5.0, 6), (6.0, 7), (1e9, 7)];
        for (number, code) in limits {
            assert_eq!((nearest(&E2M1, number), nearest(&E2M1, -number)), (code, code + 8), "{number}");
        }
        assert_eq!((nearest(&E2M1, 0.0), nearest(&E2M1, -0.0)), (0, 8));
        for (code, pair) in E2M1[..8].windows(2).enumerate() {
            let limit = (pair[0] + pair[1]) / 2.0;
            let sides = [limit.next_down(), limit.next_up()].map(|number| nearest(&E2M1, number));
            assert_eq!(sides, [code, code + 1]);
        }
        for number in (0..300).map(|n| n as f32 / 32.0) {
            let step = 2f32.powi(number.max(1.0).log2().floor() as i32 - 3);
            let right = ((number / step).round_ties_even() * step).min(7.5);
            assert_eq!(E2M3[nearest(&E2M3, number)], right, "{number}");
        }
    }
}
