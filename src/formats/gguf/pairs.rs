//! The pairs of keys and values at the start of a GGUF file.

use crate::formats::container::{ContainerProblem, MAX_ALIGNMENT};
use crate::formats::gguf::cursor::Cursor;
use crate::formats::gguf::problem::GgufProblem;

/// The numbers of value types that are not of a fixed size.
const TEXT: u32 = 8;
const LIST: u32 = 9;
/// What stands for a list: some have 300,000 entries.
const LIST_TEXT: &str = "[…]";
/// The key of what the data of tensors is aligned to, and what holds without it.
const ALIGNMENT: &str = "general.alignment";
const DEFAULT_ALIGNMENT: u64 = 32;
/// Keys are shorter than texts.
const MAX_KEY_BYTES: u64 = 65_535;

/// One pair, by its place in the header.
pub(crate) struct HeaderPair {
    /// Its key.
    pub key: String,
    /// Its value as text; of a list only that it is one.
    pub value: String,
    /// Its bytes, key and type included.
    pub bytes: std::ops::Range<u64>,
}

/// Reads so many pairs.
pub(crate) fn read_pairs(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<HeaderPair>, ContainerProblem> {
    // Each has a length, a type and a byte of value at least.
    if count > cursor.left() / 13 {
        let problem = GgufProblem::Count { what: "pairs", found: count };
        return Err(ContainerProblem::NotWhole(problem.into()));
    }
    let mut pairs = Vec::new();
    for _ in 0..count {
        let start = cursor.at();
        let key = cursor.text("a key", MAX_KEY_BYTES)?.to_owned();
        let kind = cursor.u32()?;
        let value = match kind {
            LIST => {
                skip_list(cursor, &key)?;
                LIST_TEXT.to_owned()
            }
            TEXT => cursor.text("a value", u64::MAX)?.to_owned(),
            kind => {
                let size = size_of(kind).ok_or_else(|| unknown(&key, kind))?;
                number(kind, cursor.take(size)?)
            }
        };
        pairs.push(HeaderPair { key, value, bytes: start..cursor.at() });
    }
    let mut keys: Vec<&str> = pairs.iter().map(|pair| pair.key.as_str()).collect();
    keys.sort_unstable();
    if let Some(twice) = keys.windows(2).find(|two| two[0] == two[1]) {
        return Err(ContainerProblem::Broken(GgufProblem::KeyTwice { key: twice[0].to_owned() }.into()));
    }
    Ok(pairs)
}

fn unknown(key: &str, found: u32) -> ContainerProblem {
    ContainerProblem::Broken(GgufProblem::ValueType { key: key.to_owned(), found }.into())
}

fn skip_list(cursor: &mut Cursor<'_>, key: &str) -> Result<(), ContainerProblem> {
    let (kind, count) = (cursor.u32()?, cursor.u64()?);
    if kind != TEXT {
        let size = size_of(kind).ok_or_else(|| unknown(key, kind))?;
        return cursor.take(count.saturating_mul(size)).map(drop);
    }
    for _ in 0..count {
        let len = cursor.u64()?;
        cursor.take(len)?;
    }
    Ok(())
}

/// Bytes of a number of that type.
fn size_of(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// A number as text.
fn number(kind: u32, bytes: &[u8]) -> String {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let whole = u64::from_le_bytes(wide);
    match kind {
        1 => (whole as i8).to_string(),
        3 => (whole as i16).to_string(),
        5 => (whole as i32).to_string(),
        11 => (whole as i64).to_string(),
        6 => f32::from_bits(whole as u32).to_string(),
        12 => f64::from_bits(whole).to_string(),
        7 => (whole != 0).to_string(),
        _ => whole.to_string(),
    }
}

/// What the data of tensors is aligned to.
pub(crate) fn alignment(pairs: &[HeaderPair]) -> Result<u64, GgufProblem> {
    let Some(pair) = pairs.iter().find(|pair| pair.key == ALIGNMENT) else { return Ok(DEFAULT_ALIGNMENT) };
    let number = pair.value.parse::<u64>().ok();
    let number = number.filter(|number| number.is_power_of_two() && *number <= MAX_ALIGNMENT);
    number.ok_or_else(|| GgufProblem::Alignment { found: pair.value.clone() })
}
