//! Double quantization of bitsandbytes, encoded again: magnitudes are codes, of which a new one is looked for among all there are.

use super::kept::{SIZES, encode_by};
use super::*;

const VECTOR: &str = "bnb_nf4_double";

/// What each code of a magnitude means for a block, by the file.
fn storable(logical: &Logical, file: &[u8], block: usize) -> Vec<f32> {
    let number = |part: usize, i: usize| {
        f32::from_le_bytes(*file[logical.parts()[part].offset as usize + 4 * i..].first_chunk().unwrap())
    };
    (0..256).map(|code| number(4, code) * number(3, block / 256) + logical.constants()[0]).collect()
}

/// The bytes of the magnitudes.
fn magnitudes<'f>(logical: &Logical, file: &'f [u8]) -> &'f [u8] {
    &file[logical.parts()[1].offset as usize..][..logical.parts()[1].bytes() as usize]
}

/// In the first and in the last of blocks that share a scale of magnitudes, whatever the tiles are.
#[test]
fn a_new_magnitude_is_the_least_that_takes_its_block() {
    let (logical, file) = logical(VECTOR);
    let values = decode_in_tiles(&logical, &file, 1_000, 1_000);
    let old = magnitudes(&logical, &file);
    for block in [0, 7, 255, 256, 259] {
        let all = storable(&logical, &file, block);
        let mut sorted = all.clone();
        sorted.sort_by(f32::total_cmp);
        let now = all[usize::from(old[block])];
        for value in sorted.iter().filter(|value| **value > 1.2 * now).step_by(9).map(|value| *value * 0.9999)
        {
            let mut values = values.clone();
            values[block * 64 + 5] = -value;
            let right = *sorted.iter().find(|storable| **storable >= value).unwrap();
            for size in SIZES {
                let made = encode_by(&logical, &file, (&values, 1), (size, false)).unwrap();
                assert_eq!(all[usize::from(made[block])], right, "block {block}: {value}");
                assert!((0..old.len()).all(|at| at == block || made[at] == old[at]), "block {block}");
            }
            let codes = encode_by(&logical, &file, (&values, 0), ((1, 64), false)).unwrap();
            let scales = encode_by(&logical, &file, (&values, 1), ((1, 64), false)).unwrap();
            let made = with_part(&logical, &with_part(&logical, &file, 0, &codes), 1, &scales);
            let found = decode_in_tiles(&logical, &made, 1_000, 1_000);
            // The first code is −1, the next is −0.7.
            assert!((found[block * 64 + 5] + value).abs() <= 0.16 * right, "block {block}: {value}");
        }
    }
}

#[test]
fn all_magnitudes_are_looked_for_where_all_scales_are_made_anew() {
    let (logical, file) = logical(VECTOR);
    let values: Vec<f32> = decode_in_tiles(&logical, &file, 1_000, 1_000).iter().map(|x| 0.83 * x).collect();
    for size in SIZES {
        let made = encode_by(&logical, &file, (&values, 1), (size, true)).unwrap();
        for (block, (values, code)) in values.chunks(64).zip(&made).enumerate() {
            let largest = values.iter().fold(0f32, |most, x| most.max(x.abs()));
            let all = storable(&logical, &file, block);
            let right = all.iter().copied().filter(|storable| *storable >= largest).min_by(f32::total_cmp);
            assert_eq!(all[usize::from(*code)], right.unwrap(), "block {block}");
        }
    }
}

/// The scale of magnitudes stays, so that there is a largest: half a step beyond its last code is taken, and more is said.
#[test]
fn what_no_storable_magnitude_takes_is_said() {
    let (logical, file) = logical(VECTOR);
    let largest = storable(&logical, &file, 9).into_iter().max_by(f32::total_cmp).unwrap();
    for (value, fits) in [(1.13, true), (1.15, false), (-1.15, true), (-1.16, false)] {
        let mut values = decode_in_tiles(&logical, &file, 1_000, 1_000);
        values[9 * 64 + 1] = value * largest;
        for part in [0, 1] {
            let made = encode_by(&logical, &file, (&values, part), ((1, 64), false));
            assert_eq!(made.is_some(), fits, "{value}");
        }
    }
}
