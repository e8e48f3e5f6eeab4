//! The form that `torch.save` had before torch 1.6: five pickles, and the storages behind them.
//!
//! ```text
//! pickle   a number that no other file begins with
//! pickle   1001
//! pickle   {protocol_version, little_endian, type_sizes}
//! pickle   {name: tensor of a storage, …}
//! pickle   [key of a storage, …]
//! for each key: the number of its elements in 8 bytes, and the elements
//! ```
//!
//! The pickles run on the same machine as those of zips. Source: torch `torch/serialization.py`, `_legacy_save` and `_legacy_load`.

use std::collections::HashMap;
use std::ops::Range;

use crate::formats::allowance::Allowance;
use crate::formats::container::{ContainerProblem, FileBytes, Room};
use crate::formats::pytorch::MAX_PICKLE_BYTES;
use crate::formats::pytorch::pickle::{PickleMachine, PickleObject, Stopped, Value};
use crate::formats::pytorch::problem::PytorchProblem;
use crate::formats::pytorch::zip::read;
use crate::tensor::dtype::bytes_of;

/// What files begin with behind the protocol of their first pickle: a number of ten bytes, and its end.
const MAGIC: &[u8] = b"\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
/// The protocol: an operation, and a number.
const PROTOCOL: usize = 2;
const VERSION: i64 = 1001;
/// Bytes that are read first, for most files have no longer pickles.
const FIRST: u64 = 1 << 20;

/// The pickles of a file: all of their bytes, where the one of the tensors is in them, and where the storages are in the file.
pub(crate) struct Legacy {
    pub(crate) bytes: Vec<u8>,
    pub(crate) state: Range<usize>,
    pub(crate) storages: HashMap<String, Range<u64>>,
}

/// Whether a file that begins so is of this form.
pub(crate) fn is_legacy(first: &[u8]) -> bool {
    first.get(PROTOCOL..).is_some_and(|rest| rest.starts_with(MAGIC))
}

/// Reads the pickles of a file of this form, and finds its storages. The room is for one copy of the pickles and what they make.
///
/// # Errors
/// Any rule of the form that is broken, or no room.
pub(crate) fn read_legacy(file: &FileBytes<'_>, room: Room) -> Result<Legacy, ContainerProblem> {
    let mut len = file.len.min(FIRST);
    loop {
        // The bytes, and what a pickle leaves on the stack for each of them at most.
        let needed = len.saturating_mul(4);
        if needed > room.bytes {
            return Err(ContainerProblem::NoRoom(needed));
        }
        let bytes = read(file, 0..len)?;
        let allowance = Allowance::new(room.bytes - needed);
        match pickles(&bytes, &allowance) {
            // It may go on behind what was read of the file.
            Err(Stopped::Problem(PytorchProblem::End)) if len < file.len && len < MAX_PICKLE_BYTES => {
                len = (len * 4).min(file.len).min(MAX_PICKLE_BYTES);
            }
            Err(Stopped::Problem(PytorchProblem::End)) if len == MAX_PICKLE_BYTES => {
                return Err(ContainerProblem::Broken(PytorchProblem::TooLong { found: file.len }.into()));
            }
            Err(Stopped::Problem(problem)) => return Err(ContainerProblem::Broken(problem.into())),
            Err(Stopped::NoRoom) => {
                return Err(ContainerProblem::NoRoom(allowance.needed().saturating_add(needed)));
            }
            Ok(Pickles { state, end, order }) => {
                let storages = storages(file, end as u64, order)?;
                let mut bytes = bytes;
                bytes.truncate(end);
                bytes.shrink_to_fit();
                return Ok(Legacy { bytes, state, storages });
            }
        }
    }
}

/// What the pickles of a file say.
struct Pickles {
    /// The one of the tensors.
    state: Range<usize>,
    /// Where the last ends.
    end: usize,
    /// The storages in the order of their bytes, and the bytes of an element.
    order: Vec<(String, u64)>,
}

fn pickles(bytes: &[u8], allowance: &Allowance) -> Result<Pickles, Stopped> {
    let mut at = PROTOCOL + MAGIC.len();
    let (version, machine) = run(bytes, at, allowance)?;
    at += machine.length();
    match version {
        Value::Int(VERSION) => {}
        Value::Int(found) => return Err(PytorchProblem::Version { found }.into()),
        _ => return Err(PytorchProblem::Broken { at }.into()),
    }
    let (system, machine) = run(bytes, at, allowance)?;
    if !is_little_endian(system, &machine) {
        return Err(PytorchProblem::BigEndian.into());
    }
    at += machine.length();
    let (_, machine) = run(bytes, at, allowance)?;
    let state = at..at + machine.length();
    let mut sizes: HashMap<&str, u64> = HashMap::new();
    for object in &machine.objects {
        let PickleObject::Storage(element, key) = object else { continue };
        // One of bytes has no type; one of a type that is not read has no elements that anything is made of.
        let size = match element {
            None => Some(1),
            Some(Ok(dtype)) => bytes_of(*dtype, 1),
            Some(Err(found)) => {
                let name = machine.text(*key).unwrap_or_default().to_owned();
                return Err(PytorchProblem::Type { name, found }.into());
            }
        };
        if let Some((key, size)) = machine.text(*key).zip(size) {
            sizes.insert(key, size);
        }
    }
    let (keys, last) = run(bytes, state.end, allowance)?;
    let end = state.end + last.length();
    let mut order = Vec::new();
    for &key in last.values(keys).ok_or(PytorchProblem::Broken { at: end })? {
        let key = last.text(key).ok_or(PytorchProblem::Broken { at: end })?;
        // Each is taken once, so that no key is listed twice.
        let size = sizes.remove(key).ok_or_else(|| PytorchProblem::StorageKey { key: shown(key) })?;
        order.push((key.to_owned(), size));
    }
    Ok(Pickles { state, end, order })
}

fn run<'b>(
    bytes: &'b [u8],
    at: usize,
    allowance: &'b Allowance,
) -> Result<(Value, PickleMachine<'b>), Stopped> {
    PickleMachine::run(bytes.get(at..).unwrap_or_default(), allowance)
}

fn is_little_endian(system: Value, machine: &PickleMachine<'_>) -> bool {
    let Value::Object(place) = system else { return false };
    let Some(PickleObject::Dict(pairs)) = machine.objects.get(place as usize) else { return false };
    let is_it = |(key, value): &(Value, Value)| {
        machine.text(*key) == Some("little_endian") && *value == Value::Flag(true)
    };
    pairs.iter().any(is_it)
}

/// Where the bytes of the storages are that follow the pickles.
fn storages(
    file: &FileBytes<'_>,
    end: u64,
    order: Vec<(String, u64)>,
) -> Result<HashMap<String, Range<u64>>, ContainerProblem> {
    let (mut found, mut at) = (HashMap::new(), end);
    for (key, size) in order {
        let cut = || ContainerProblem::NotWhole(PytorchProblem::StorageCut { key: shown(&key) }.into());
        let start = at.checked_add(8).filter(|start| *start <= file.len).ok_or_else(cut)?;
        let count = read(file, at..start)?;
        let count = count.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes));
        let bytes = count.checked_mul(size).ok_or_else(cut)?;
        at = start.checked_add(bytes).filter(|end| *end <= file.len).ok_or_else(cut)?;
        // As zips call them.
        found.insert(format!("data/{key}"), start..at);
    }
    Ok(found)
}

fn shown(key: &str) -> String {
    key.chars().take(100).collect()
}
