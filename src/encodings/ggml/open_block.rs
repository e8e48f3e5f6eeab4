//! A block taken apart: a code for every value, and for every sixteen of them a scale and what is subtracted.
//!
//! Every type of ggml is that, however its bits lie: types of fewer scales have each of theirs several times, types with a
//! minimum that is added have it negated here, and those that look values up have the values as codes. So one loop decodes
//! all of them, and one finds the codes that are nearest to changed values.

use half::f16;

/// Values of the largest block.
pub(crate) const MOST_VALUES: usize = 256;
/// Values that share a scale at the least.
pub(crate) const GROUP: usize = 16;

/// One block.
pub(crate) struct OpenBlock {
    /// What scales are multiplied by.
    pub codes: [i8; MOST_VALUES],
    /// The scale of each group.
    pub scales: [f32; MOST_VALUES / GROUP],
    /// What is subtracted from each product of a group; nothing for most types.
    pub mins: [f32; MOST_VALUES / GROUP],
}

/// The codes that a type can store.
pub(crate) struct CodeSet {
    /// All values of codes, where they are not all from the least to the largest.
    pub table: Option<&'static [i8; 16]>,
    /// The least and the largest code.
    pub ends: (i8, i8),
    /// What is half a step beyond them.
    pub limits: (f32, f32),
}

impl CodeSet {
    /// All whole numbers from the least to the largest.
    pub(crate) fn whole(ends: (i8, i8)) -> CodeSet {
        CodeSet { table: None, ends, limits: (f32::from(ends.0) - 0.5, f32::from(ends.1) + 0.5) }
    }
}

impl OpenBlock {
    /// A block of nothing.
    pub(crate) const EMPTY: OpenBlock = OpenBlock {
        codes: [0; MOST_VALUES],
        scales: [0.0; MOST_VALUES / GROUP],
        mins: [0.0; MOST_VALUES / GROUP],
    };

    /// Gives all groups of a block the same scale, and the same to be subtracted.
    pub(crate) fn set_all(&mut self, scale: f32, min: f32) {
        self.scales.fill(scale);
        self.mins.fill(min);
    }

    /// The values: `scale · code − min`, each operation rounded.
    pub(crate) fn decode(&self, out: &mut [f32]) {
        let groups = out.as_chunks_mut::<GROUP>().0.iter_mut().zip(self.codes.as_chunks::<GROUP>().0);
        for ((out, codes), (scale, min)) in groups.zip(self.scales.iter().zip(&self.mins)) {
            for (out, code) in out.iter_mut().zip(codes) {
                *out = scale * f32::from(*code) - min;
            }
        }
    }

    /// Puts the code that is nearest in the place of each whose value changed from what it was. False if a value lies beyond
    /// what its scale takes, and the codes are of no use then.
    pub(crate) fn change(&mut self, set: &CodeSet, was: &[f32], values: &[f32]) -> bool {
        let groups = self.codes.as_chunks_mut::<GROUP>().0.iter_mut().zip(self.scales.iter().zip(&self.mins));
        let values = values.as_chunks::<GROUP>().0.iter().zip(was.as_chunks::<GROUP>().0);
        for ((codes, (scale, min)), (values, was)) in groups.zip(values) {
            if values == was {
                continue;
            }
            let [one, other] = [set.limits.0, set.limits.1].map(|limit| scale * limit - min);
            let (least, most) = (one.min(other), one.max(other));
            if !values.iter().fold(true, |fits, value| fits & (least <= *value) & (*value <= most)) {
                return false;
            }
            let sums = values.map(|value| value + min);
            let new = match set.table {
                Some(table) => nearest_of(table, *scale, &sums),
                None => {
                    sums.map(|sum| nearest(sum / scale).clamp(set.ends.0.into(), set.ends.1.into()) as i8)
                }
            };
            for (i, code) in codes.iter_mut().enumerate() {
                // Several codes may be of one value.
                *code = if values[i] == was[i] { *code } else { new[i] };
            }
        }
        true
    }
}

/// The nearest whole number, to even of two, of numbers below 2²² in magnitude.
pub(crate) fn nearest(value: f32) -> i32 {
    // Beyond 1.5 · 2²³ a float has no place for fractions. Compilers make vectors of this, not of `round_ties_even`.
    ((value + 12_582_912.0).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// Of the products with a scale those that are nearest to some values, the first of several.
pub(crate) fn nearest_of(candidates: &[i8; 16], scale: f32, values: &[f32; GROUP]) -> [i8; GROUP] {
    let (mut best, mut least) = ([candidates[0]; GROUP], [f32::INFINITY; GROUP]);
    for code in candidates {
        let product = scale * f32::from(*code);
        for ((best, least), value) in best.iter_mut().zip(&mut least).zip(values) {
            let error = (product - value).abs();
            *best = if error < *least { *code } else { *best };
            *least = error.min(*least);
        }
    }
    best
}

/// The value of largest magnitude, the first of several; 0 if there is none.
pub(crate) fn extreme(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most: f32, value| if value.abs() > most.abs() { *value } else { most })
}

/// The largest magnitude of finite values. Without their signs, floats are ordered as whole numbers are.
pub(crate) fn magnitude(values: &[f32]) -> f32 {
    f32::from_bits(values.iter().fold(0, |most, value| most.max(value.to_bits() & (u32::MAX >> 1))))
}

/// The half-precision number at a place of a block.
pub(crate) fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Stores a number in half precision, and returns what is stored.
pub(crate) fn put_half(block: &mut [u8], at: usize, value: f32) -> f32 {
    let half = f16::from_f32(value);
    block[at..at + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// 1 over a number; 0 over 0.
pub(crate) fn inverse(value: f32) -> f32 {
    if value == 0.0 { 0.0 } else { 1.0 / value }
}
