//! The entries of a zip whose entries are stored as they are: where the bytes of each are in the file.

use std::collections::HashMap;
use std::ops::Range;

use crate::formats::container::{ContainerProblem, FileBytes};
use crate::formats::pytorch::MAX_DIRECTORY_BYTES;
use crate::formats::pytorch::problem::PytorchProblem;

/// The record at the end, its comment aside, and what it begins with; the same of one for large files, and of what points to it.
const END: usize = 22;
const END_MARK: &[u8] = b"PK\x05\x06";
const LARGE_END: u64 = 56;
const LARGE_END_MARK: &[u8] = b"PK\x06\x06";
const POINTER: u64 = 20;
const POINTER_MARK: &[u8] = b"PK\x06\x07";
/// The longest comment.
const MOST_COMMENT: u64 = u16::MAX as u64;
/// What is said of an entry in the list, and before it, names and extras aside.
const LISTED: usize = 46;
const LISTED_MARK: &[u8] = b"PK\x01\x02";
const LOCAL: usize = 30;
const LOCAL_MARK: &[u8] = b"PK\x03\x04";
/// The extra that has numbers of large files.
const LARGE: u16 = 1;

/// Where the bytes of each entry are, by its name without the first segment, which is that of the archive.
pub(crate) fn entries(
    file: &FileBytes<'_>,
    room: u64,
) -> Result<HashMap<String, Range<u64>>, ContainerProblem> {
    let directory = directory(file)?;
    let len = directory.end - directory.start;
    if len > MAX_DIRECTORY_BYTES {
        return Err(broken(PytorchProblem::Directory { at: directory.start }));
    }
    // The list, and a name and a place of each entry.
    let needed = len.saturating_mul(3);
    if needed > room {
        return Err(ContainerProblem::NoRoom(needed));
    }
    let bytes = read(file, directory.clone())?;
    let (mut found, mut at) = (HashMap::new(), 0);
    while at < bytes.len() {
        let wrong = || broken(PytorchProblem::Directory { at: directory.start + at as u64 });
        let (entry, next) = ZipEntry::read(&bytes[at..]).ok_or_else(wrong)?;
        let (_, name) = entry.name.split_once('/').unwrap_or(("", entry.name));
        found.insert(name.to_owned(), entry.place(file)?);
        at += next;
    }
    Ok(found)
}

/// Where the list of entries is.
fn directory(file: &FileBytes<'_>) -> Result<Range<u64>, ContainerProblem> {
    let missing = || ContainerProblem::NotWhole(PytorchProblem::NoDirectory.into());
    let tail_start = file.len.saturating_sub(END as u64 + MOST_COMMENT);
    let tail = read(file, tail_start..file.len)?;
    let places = 0..(tail.len() + 1).saturating_sub(END);
    let is_end = |&at: &usize| {
        let comment = u16_at(&tail, at + 20).map_or(0, usize::from);
        tail[at..].starts_with(END_MARK) && at + END + comment == tail.len()
    };
    let at = places.rev().find(is_end).ok_or_else(missing)?;
    let end = tail_start + at as u64;
    let (size, start) = (u32_at(&tail, at + 12), u32_at(&tail, at + 16));
    let (Some(size), Some(start)) = (size, start) else { return Err(missing()) };
    let (size, start) = if size == u32::MAX || start == u32::MAX {
        large_directory(file, end)?.ok_or_else(missing)?
    } else {
        (u64::from(size), u64::from(start))
    };
    let directory = start..start.checked_add(size).ok_or_else(missing)?;
    if directory.end > end { Err(missing()) } else { Ok(directory) }
}

/// Size and start of the list of a large file, whose small end record is at `end`.
fn large_directory(file: &FileBytes<'_>, end: u64) -> Result<Option<(u64, u64)>, ContainerProblem> {
    let Some(at) = end.checked_sub(POINTER) else { return Ok(None) };
    let pointer = read(file, at..end)?;
    let Some(at) = u64_at(&pointer, 8).filter(|_| pointer.starts_with(POINTER_MARK)) else { return Ok(None) };
    let Some(until) = at.checked_add(LARGE_END).filter(|until| *until <= end) else { return Ok(None) };
    let record = read(file, at..until)?;
    let found = u64_at(&record, 40).zip(u64_at(&record, 48));
    Ok(found.filter(|_| record.starts_with(LARGE_END_MARK)))
}

/// An entry, as the list has it.
struct ZipEntry<'b> {
    name: &'b str,
    is_stored: bool,
    size: u64,
    /// Where its own record is.
    local: u64,
}

impl<'b> ZipEntry<'b> {
    /// The first of some bytes of the list, and where the next begins.
    fn read(bytes: &'b [u8]) -> Option<(ZipEntry<'b>, usize)> {
        let is_one = bytes.len() >= LISTED && bytes.starts_with(LISTED_MARK);
        let short = |at| is_one.then(|| u16_at(bytes, at)).flatten().map(usize::from);
        let (name, extra, comment) = (short(28)?, short(30)?, short(32)?);
        let (after_name, after_extra) = (LISTED + name, LISTED + name + extra);
        let name = std::str::from_utf8(bytes.get(LISTED..after_name)?).ok()?;
        let stated = [u32_at(bytes, 24)?, u32_at(bytes, 20)?, u32_at(bytes, 42)?];
        let [size, packed, local] = large_numbers(stated, bytes.get(after_name..after_extra)?)?;
        // Bit 0 of the flags is encryption.
        let is_stored = short(10)? == 0 && short(8)? & 1 == 0 && size == packed;
        let next = after_extra + comment;
        (next <= bytes.len()).then_some((ZipEntry { name, is_stored, size, local }, next))
    }

    /// Where its bytes are.
    fn place(&self, file: &FileBytes<'_>) -> Result<Range<u64>, ContainerProblem> {
        if !self.is_stored {
            return Err(broken(PytorchProblem::Compressed { entry: self.name.to_owned() }));
        }
        let wrong = || broken(PytorchProblem::Entry { entry: self.name.to_owned() });
        let until =
            self.local.checked_add(LOCAL as u64).filter(|until| *until <= file.len).ok_or_else(wrong)?;
        let local = read(file, self.local..until)?;
        let (name, extra) = (u16_at(&local, 26), u16_at(&local, 28));
        let (Some(name), Some(extra), true) = (name, extra, local.starts_with(LOCAL_MARK)) else {
            return Err(wrong());
        };
        let start = until + u64::from(name) + u64::from(extra);
        let end = start.checked_add(self.size).filter(|end| *end <= file.len);
        end.map(|end| start..end).ok_or_else(wrong)
    }
}

/// Numbers of which those that are all ones stand in the extras, in this order.
fn large_numbers(stated: [u32; 3], extras: &[u8]) -> Option<[u64; 3]> {
    let mut found = stated.map(u64::from);
    if !stated.contains(&u32::MAX) {
        return Some(found);
    }
    let mut rest = extras;
    while let (Some(kind), Some(len)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let own = rest.get(4..4 + usize::from(len))?;
        if kind == LARGE {
            let mut at = 0;
            for number in found.iter_mut().filter(|number| **number == u64::from(u32::MAX)) {
                *number = u64_at(own, at)?;
                at += 8;
            }
            return Some(found);
        }
        rest = &rest[4 + usize::from(len)..];
    }
    None
}

/// Bytes of the file, which has them.
pub(crate) fn read(file: &FileBytes<'_>, range: Range<u64>) -> Result<Vec<u8>, ContainerProblem> {
    let mut bytes = vec![0; (range.end - range.start) as usize];
    (file.read)(range.start, &mut bytes).map_err(ContainerProblem::Unreadable)?;
    Ok(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn broken(problem: PytorchProblem) -> ContainerProblem {
    ContainerProblem::Broken(problem.into())
}
