//! Reading a header: the rules that need no JSON reader.
//!
//! ```
//! use shardfold::testing::parse_header;
//!
//! assert!(parse_header(b"{}", 8 + 2 + 1).is_err(), "a byte of the file belongs to no tensor");
//! ```

use crate::formats::allowance::Allowance;
use crate::formats::container::Room;
use crate::formats::json;
use crate::formats::json::{Cause, JsonProblem, first_twice};
use crate::formats::lfs::is_lfs_pointer;
use crate::formats::safetensors::problem::HeaderProblem;
use crate::formats::safetensors::visit::{HeaderTrace, Top};
use crate::formats::safetensors::{Header, HeaderTensor, LENGTH_BYTES, MAX_HEADER_BYTES, METADATA};

/// Length of the JSON header in bytes, from the file's first eight bytes.
///
/// Zeros may stand for bytes that a shorter file does not have: its length is looked at first.
///
/// # Errors
/// If the file is too short, is a git-lfs pointer, or the length is 0, above [`MAX_HEADER_BYTES`] or leads past its end.
pub(crate) fn header_len(first: [u8; 8], file_len: u64) -> Result<u64, HeaderProblem> {
    if file_len < LENGTH_BYTES {
        return Err(HeaderProblem::TooShort { found: file_len });
    }
    if is_lfs_pointer(&first) {
        return Err(HeaderProblem::LfsPointer);
    }
    let len = u64::from_le_bytes(first);
    data_len(len, file_len)?;
    Ok(len)
}

/// Bytes of data behind a header of `len` bytes.
fn data_len(len: u64, file_len: u64) -> Result<u64, HeaderProblem> {
    match len {
        0 => Err(HeaderProblem::Empty),
        len if len > MAX_HEADER_BYTES => Err(HeaderProblem::TooLong { found: len }),
        len => file_len
            .checked_sub(LENGTH_BYTES + len)
            .ok_or(HeaderProblem::PastEnd { header: LENGTH_BYTES + len, file: file_len }),
    }
}

/// Reads a header's JSON, the bytes after the length, of a file of `file_len` bytes in all.
///
/// # Errors
/// If any rule of the format is broken: JSON with a key twice anywhere, an entry that is no tensor, a size that shape and
/// dtype do not give, ranges that do not tile the data, or a file longer or shorter than they promise.
#[cfg(any(test, feature = "testing"))]
pub fn parse_header(json: &[u8], file_len: u64) -> Result<Header, HeaderProblem> {
    parse_header_in(json, file_len, Room::ENDLESS)
}

/// As `parse_header`, where what is read has that `room`.
///
/// # Errors
/// As `parse_header`; [`HeaderProblem::NoRoom`].
pub(crate) fn parse_header_in(json: &[u8], file_len: u64, room: Room) -> Result<Header, HeaderProblem> {
    let data_len = data_len(json.len() as u64, file_len)?;
    let header = parse_entries(json, room)?;
    let promised = header.tensors.last().map_or(0, |tensor| tensor.end);
    if promised != data_len {
        let before = file_len - data_len;
        return Err(HeaderProblem::FileLength { promised: before.saturating_add(promised), found: file_len });
    }
    Ok(header)
}

/// Reads a header's JSON by itself: all rules but that of the file's length.
///
/// # Errors
/// As [`parse_header_in`].
pub(crate) fn parse_entries(json: &[u8], room: Room) -> Result<Header, HeaderProblem> {
    match json.first() {
        Some(b'{') => (),
        found => return Err(HeaderProblem::NoBrace { found: found.copied().unwrap_or_default() }),
    }
    let text = json::utf8(json).map_err(HeaderProblem::Json)?;
    let (cause, allowance) = (Cause::default(), Allowance::new(room.bytes));
    let top = Top { cause: &cause, allowance: &allowance, tensor_bytes: room.tensor_bytes };
    let mut header = json::read(text, top).map_err(|error| match cause.take() {
        Some(HeaderTrace::Is(problem)) => problem,
        Some(HeaderTrace::InMetadata) if error.is_data() => HeaderProblem::Metadata(error),
        Some(HeaderTrace::InEntry { tensor }) if error.is_data() => {
            HeaderProblem::Entry { tensor, cause: error }
        }
        Some(HeaderTrace::InField { tensor, field }) if error.is_data() => {
            HeaderProblem::Field { tensor, field, cause: error }
        }
        _ => HeaderProblem::Json(JsonProblem::Syntax(error)),
    })?;
    if !allowance.suffices() {
        return Err(HeaderProblem::NoRoom { needed: allowance.needed() });
    }
    if let Some(key) = first_twice(header.metadata.iter().map(|(key, _)| key.as_str())) {
        return Err(HeaderProblem::KeyTwice { within: METADATA.to_owned(), key: key.to_owned() });
    }
    if let Some(name) = first_twice(header.tensors.iter().map(|tensor| &*tensor.name)) {
        return Err(HeaderProblem::Twice { name: name.to_owned() });
    }
    // Stable: tensors without bytes come before the one that starts where they lie, and keep their order.
    header.tensors.sort_by_key(|tensor| (tensor.start, tensor.end));
    check_tiling(&header.tensors)?;
    Ok(header)
}

/// Checks that sorted tensors follow each other without gap or overlap.
fn check_tiling(tensors: &[HeaderTensor]) -> Result<(), HeaderProblem> {
    let mut at = 0;
    for tensor in tensors {
        if tensor.start != at {
            let (name, start, end) = (tensor.name.to_string(), tensor.start, tensor.end);
            return Err(HeaderProblem::Untiled { tensor: name, start, end, expected: at });
        }
        at = tensor.end;
    }
    Ok(())
}
