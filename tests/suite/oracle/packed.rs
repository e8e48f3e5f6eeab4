//! Bases stored as packed integers or as MXFP4: what they mean, from `case.json` and the bytes alone.

use serde_json::Value;

use super::case::Case;

/// E2M1 without its sign.
const E2M1: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// The values of an entry of `quantised` that is of one of these kinds.
pub fn decoded(case: &Case, entry: &Value) -> Option<Vec<f64>> {
    match entry["kind"].as_str()? {
        "int" => Some(integers(case, entry)),
        "mxfp4" => Some(mxfp4(case, entry)),
        kind => panic!("no kind `{kind}`"),
    }
}

fn side(entry: &Value, axis: usize) -> usize {
    entry["shape"][axis].as_u64().expect("a side") as usize
}

/// The field of so many bits at a place of a row of little-endian words: the lowest bits are first.
fn field(word: &[u8], place: usize, bits: usize) -> f64 {
    let word = u32::from_le_bytes(word.try_into().expect("a word"));
    f64::from(word >> (place * bits) & ((1 << bits) - 1))
}

/// `(field − zero) · scale`. Without a zero point, a field is its code and half of all fields.
fn integers(case: &Case, entry: &Value) -> Vec<f64> {
    let named = |key: &str| entry[key].as_str().map(|name| &case.base[name]);
    let (codes, scale) = (named("codes").expect("codes"), named("scale").expect("scales"));
    let (rows, cols) = (side(entry, 0), side(entry, 1));
    let bits = entry["bits"].as_u64().expect("a number") as usize;
    let (per, words, groups) = (32 / bits, codes.shape[1], scale.shape[1]);
    let (scales, group) = (scale.values(), cols.div_ceil(groups));
    let word = |raw: &[u8], i: usize| raw[4 * i..4 * i + 4].to_vec();
    let value = |i: usize| {
        let (row, col) = (i / cols, i % cols);
        let zero = match named("zeros") {
            // They are packed down the rows.
            Some(zeros) => field(&word(&zeros.raw, row / per * groups + col / group), row % per, bits),
            None => f64::from(1 << (bits - 1)),
        };
        let code = field(&word(&codes.raw, row * words + col / per), col % per, bits);
        (code - zero) * scales[row * groups + col / group]
    };
    (0..rows * cols).map(value).collect()
}

/// A code times a power of two for every 32, out of the transpose.
fn mxfp4(case: &Case, entry: &Value) -> Vec<f64> {
    let named = |key: &str| &case.base[entry[key].as_str().expect("a name")].raw;
    let (codes, scales) = (named("codes"), named("scale"));
    let (experts, cols, rows) = (side(entry, 0), side(entry, 1), side(entry, 2));
    let value = |i: usize| {
        let (expert, col, row) = (i / (cols * rows), i / rows % cols, i % rows);
        let stored = (expert * rows + row) * cols + col;
        let code = codes[stored / 2] >> (stored % 2 * 4) & 15;
        let sign = if code > 7 { -1.0 } else { 1.0 };
        sign * E2M1[usize::from(code & 7)] * f64::from(scales[stored / 32] as i32 - 127).exp2()
    };
    (0..experts * cols * rows).map(value).collect()
}
