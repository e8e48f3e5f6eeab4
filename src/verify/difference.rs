//! [`Difference`]: in how many elements a tensor differs, and whether by more than rounding.

use crate::tensor::dtype::Dtype;

/// Bytes that are compared at once, before elements are looked at: most of them are equal.
const BLOCK: usize = 4096;

/// In what a tensor differs from what it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Elements that differ.
    pub(crate) differing: u64,
    /// Those of them that are the next representable value.
    pub(crate) rounding: u64,
    /// The first that differs, and the first that differs by more than rounding.
    pub(crate) first: Option<u64>,
    pub(crate) first_wrong: Option<u64>,
    /// The last that was counted: one that two pieces share is one.
    last: Option<u64>,
}

impl Difference {
    /// Adds a piece of a tensor of `dtype`, from byte `at` on. `may_round`: whether rounding is told apart.
    pub(crate) fn add(&mut self, dtype: Dtype, at: u64, (expected, found): (&[u8], &[u8]), may_round: bool) {
        // Of types below a byte, the elements of a byte are one here.
        let size = (dtype.bitsize() / 8).max(1);
        // Pieces may be cut inside an element, so that blocks are counted from the tensor's start.
        let lead = ((size as u64 - at % size as u64) % size as u64) as usize;
        let lead = lead.min(expected.len());
        let mut start = 0;
        let mut end = lead;
        while start < expected.len() {
            if start < end && expected[start..end] != found[start..end] {
                self.add_block(
                    dtype,
                    size,
                    at + start as u64,
                    (&expected[start..end], &found[start..end]),
                    may_round,
                );
            }
            start = end;
            end = (end + BLOCK).min(expected.len());
        }
    }

    fn add_block(
        &mut self,
        dtype: Dtype,
        size: usize,
        at: u64,
        (expected, found): (&[u8], &[u8]),
        may_round: bool,
    ) {
        let first = at / size as u64;
        for (i, (expected, found)) in expected.chunks(size).zip(found.chunks(size)).enumerate() {
            let element = first + i as u64;
            if expected == found || self.last == Some(element) {
                continue;
            }
            self.last = Some(element);
            self.differing += 1;
            self.first.get_or_insert(element);
            if may_round && is_rounding(dtype, expected, found) {
                self.rounding += 1;
            } else {
                self.first_wrong.get_or_insert(element);
            }
        }
    }
}

/// Whether two floats are the same or next to each other.
pub(crate) fn is_rounding(dtype: Dtype, a: &[u8], b: &[u8]) -> bool {
    // Bits of the largest magnitude that is no NaN.
    let most: u64 = match dtype {
        Dtype::F8_E5M2 => 0x7c,
        Dtype::F8_E4M3 => 0x7e,
        Dtype::F16 => 0x7c00,
        Dtype::BF16 => 0x7f80,
        Dtype::F32 => 0x7f80_0000,
        Dtype::F64 => 0x7ff0_0000_0000_0000,
        _ => return false,
    };
    let sign = 1u64 << (dtype.bitsize() - 1);
    // Place on the line of all values of the type.
    let place = |bytes: &[u8]| {
        let bits = bytes.iter().rev().fold(0, |bits, &byte| bits << 8 | u64::from(byte));
        let magnitude = bits & (sign - 1);
        let place = if bits & sign == 0 { i128::from(magnitude) } else { -i128::from(magnitude) };
        (magnitude <= most).then_some(place)
    };
    place(a).zip(place(b)).is_some_and(|(a, b)| a.abs_diff(b) <= 1)
}

/// Where the element at a place of a row-major tensor is, axis by axis.
pub(crate) fn coordinates(axes: &[u64], element: u64) -> Vec<u64> {
    let mut rest = element;
    let mut found: Vec<u64> = axes
        .iter()
        .rev()
        .map(|&axis| {
            let axis = axis.max(1);
            let at = rest % axis;
            rest /= axis;
            at
        })
        .collect();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbors_are_rounding_across_zero_and_binades() {
        let bf16 = |a: u16, b: u16| is_rounding(Dtype::BF16, &a.to_le_bytes(), &b.to_le_bytes());
        assert!(bf16(0x3f80, 0x3f7f) && bf16(0x0000, 0x8000) && bf16(0x8001, 0x8000) && bf16(0x7f7f, 0x7f80));
        assert!(!bf16(0x3f80, 0x3f82) && !bf16(0x0001, 0x8001) && !bf16(0x3f80, 0xbf80));
        assert!(!bf16(0x7f80, 0x7f81) && !bf16(0x7fc0, 0x7fc1), "infinity and NaN");
        assert!(!is_rounding(Dtype::I32, &[1, 0, 0, 0], &[2, 0, 0, 0]), "no float");
    }

    #[test]
    fn pieces_that_share_an_element_count_it_once() {
        let expected: Vec<u8> = (0..20_000u32).flat_map(|i| (i as f32).to_le_bytes()).collect();
        let mut found = expected.clone();
        for byte in [4 * 7 + 1, 4 * 7 + 2, 4 * 9_000 + 3] {
            found[byte] ^= 0x40;
        }
        found[4 * 11] ^= 1;
        for step in [1, 3, 30, 4096, 80_000] {
            let mut difference = Difference::default();
            for (i, (expected, found)) in expected.chunks(step).zip(found.chunks(step)).enumerate() {
                difference.add(Dtype::F32, (i * step) as u64, (expected, found), true);
            }
            assert_eq!([difference.differing, difference.first.unwrap()], [3, 7], "{step}");
            if step >= 4096 {
                assert_eq!([difference.rounding, difference.first_wrong.unwrap()], [1, 7], "{step}");
            }
        }
        assert_eq!(coordinates(&[3, 4, 5], 33), [1, 2, 3]);
    }
}
