//! GGUF as a [`Container`].

use std::collections::HashSet;
use std::mem::size_of;

use crate::formats::allowance::Allowance;
use crate::formats::container::{
    Broken, Container, ContainerProblem, FileBytes, FileHeader, FileNames, Room, TensorEntry,
};
use crate::formats::foreign::foreign;
use crate::formats::gguf::cursor::Cursor;
use crate::formats::gguf::pairs::{HeaderPair, alignment, read_pairs};
use crate::formats::gguf::problem::GgufProblem;
use crate::formats::gguf::types::{dtype_of, number_of};
use crate::formats::gguf::{MAGIC, MAX_AXES, MAX_NAME_BYTES, START_BYTES};
use crate::formats::header_bytes::HeaderBytes;
use crate::formats::lfs::is_lfs_pointer;
use crate::tensor::dtype::{Dtype, bytes_of};
use crate::tensor::name::NameList;
use crate::tensor::shape::{Shape, SharedShapes};

/// GGUF files.
pub(crate) struct Gguf;

/// The key of what most tensors of a file are: readers find it out where it is missing.
const FILE_TYPE: &str = "general.file_type";

/// The start of a header: its version and pairs, and how many tensors follow.
struct Start {
    version: u32,
    tensors: u64,
    pairs: Vec<HeaderPair>,
}

impl Container for Gguf {
    fn ending(&self) -> &'static str {
        ".gguf"
    }

    fn file_names(&self) -> FileNames {
        FileNames::Any
    }

    fn read(&self, file: &FileBytes<'_>, room: Room) -> Result<FileHeader, ContainerProblem> {
        let mut cursor = Cursor::new(file, room.bytes);
        let start = read_start(&mut cursor)?;
        let alignment =
            alignment(&start.pairs).map_err(|problem| ContainerProblem::Broken(problem.into()))?;
        let like =
            [&start_bytes(start.version, 0, start.pairs.len()), cursor.since(START_BYTES as u64)].concat();
        let allowance = Allowance::new(room.bytes.saturating_sub(cursor.at()));
        allowance.take(like.len() as u64);
        let mut infos = Infos {
            allowance: &allowance,
            tensor_bytes: room.tensor_bytes,
            alignment,
            end: 0,
            padded_end: 0,
        };
        let tensors = infos.read(&mut cursor, start.tensors)?;
        let padding = cursor.at().next_multiple_of(alignment) - cursor.at();
        // A file without tensors may end here.
        cursor.take(if start.tensors == 0 { padding.min(cursor.left()) } else { padding })?;
        let bytes = cursor.into_bytes();
        if !allowance.suffices() {
            return Err(ContainerProblem::NoRoom(allowance.needed().saturating_add(bytes.len() as u64)));
        }
        check_length(file.len, bytes.len() as u64, &infos)?;
        let data = bytes.len() as u64;
        let tensors =
            tensors.into_iter().map(|tensor| TensorEntry { offset: tensor.offset + data, ..tensor });
        Ok(FileHeader {
            bytes: HeaderBytes::new(bytes),
            like: HeaderBytes::new(like),
            tensors: tensors.collect(),
        })
    }

    fn build(
        &self,
        like: &HeaderBytes,
        is_kept: &dyn Fn(&str) -> bool,
        tensors: &[(&str, Dtype, &[u64])],
    ) -> Result<HeaderBytes, Broken> {
        let start = said(like)?;
        let alignment = alignment(&start.pairs)?;
        let kept = |pair: &&HeaderPair| is_kept(&pair.key) && pair.key != FILE_TYPE;
        let kept: Vec<&HeaderPair> = start.pairs.iter().filter(kept).collect();
        let mut bytes = start_bytes(start.version, tensors.len() as u64, kept.len()).to_vec();
        for pair in kept {
            bytes.extend(&like[pair.bytes.start as usize..pair.bytes.end as usize]);
        }
        let (mut names, mut offset) = (HashSet::new(), 0);
        for &(name, dtype, axes) in tensors {
            if !names.insert(name) {
                return Err(GgufProblem::Twice { tensor: name.to_owned() }.into());
            }
            put_info(&mut bytes, name, (dtype, axes), offset)?;
            offset = end_of(name, dtype, axes, offset)?.next_multiple_of(alignment);
        }
        bytes.resize(bytes.len().next_multiple_of(alignment as usize), 0);
        Ok(HeaderBytes::new(bytes))
    }

    fn metadata(&self, header: &HeaderBytes) -> Result<Vec<(String, String)>, Broken> {
        let pairs = said(header)?.pairs.into_iter();
        Ok(pairs.map(|pair| (pair.key, pair.value)).collect())
    }

    fn alignment(&self, header: &HeaderBytes) -> Result<u64, Broken> {
        Ok(alignment(&said(header)?.pairs)?)
    }
}

/// Version and pairs of bytes that were read or built.
fn said(header: &HeaderBytes) -> Result<Start, Broken> {
    let read = |offset: u64, buf: &mut [u8]| {
        buf.copy_from_slice(&header[offset as usize..][..buf.len()]);
        Ok(())
    };
    let file = FileBytes { len: header.len() as u64, read: &read };
    read_start(&mut Cursor::new(&file, u64::MAX)).map_err(|problem| match problem {
        ContainerProblem::NotWhole(cause) | ContainerProblem::Broken(cause) => cause,
        _ => GgufProblem::NoMagic.into(),
    })
}

fn start_bytes(version: u32, tensors: u64, pairs: usize) -> [u8; START_BYTES] {
    let mut bytes = [0; START_BYTES];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..8].copy_from_slice(&version.to_le_bytes());
    bytes[8..16].copy_from_slice(&tensors.to_le_bytes());
    bytes[16..].copy_from_slice(&(pairs as u64).to_le_bytes());
    bytes
}

fn read_start(cursor: &mut Cursor<'_>) -> Result<Start, ContainerProblem> {
    let broken = |problem: GgufProblem| Err(ContainerProblem::Broken(problem.into()));
    let first = cursor.take(cursor.left().min(16))?;
    if !first.starts_with(MAGIC) {
        return match foreign(first) {
            _ if is_lfs_pointer(first) => Err(ContainerProblem::LfsPointer),
            Some(what) => Err(ContainerProblem::Foreign(what)),
            None => broken(GgufProblem::NoMagic),
        };
    }
    let Some((version, tensors)) = first[4..].split_first_chunk::<4>() else {
        return Err(ContainerProblem::NotWhole(GgufProblem::PastEnd { file: first.len() as u64 }.into()));
    };
    let version = u32::from_le_bytes(*version);
    match version {
        2 | 3 => (),
        found if matches!(found.swap_bytes(), 1..=3) => return broken(GgufProblem::BigEndian),
        found => return broken(GgufProblem::Version { found }),
    }
    let Some(tensors) = tensors.first_chunk::<8>().map(|count| u64::from_le_bytes(*count)) else {
        return Err(ContainerProblem::NotWhole(GgufProblem::PastEnd { file: first.len() as u64 }.into()));
    };
    let pairs = cursor.u64()?;
    Ok(Start { version, tensors, pairs: read_pairs(cursor, pairs)? })
}

/// The infos of tensors, as they are read.
struct Infos<'a> {
    allowance: &'a Allowance,
    tensor_bytes: u64,
    alignment: u64,
    /// Where the data of the last tensor ends, and where zeros behind it do; counted from the start of the data.
    end: u64,
    padded_end: u64,
}

/// A tensor without its name.
struct Info {
    dtype: Dtype,
    shape: Shape,
    offset: u64,
}

impl Infos<'_> {
    fn read(&mut self, cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<TensorEntry>, ContainerProblem> {
        // Each has two lengths, a type and an offset at least.
        if count > cursor.left() / 24 {
            let problem = GgufProblem::Count { what: "tensors", found: count };
            return Err(ContainerProblem::NotWhole(problem.into()));
        }
        let (mut names, mut infos, mut shapes) = (NameList::default(), Vec::new(), SharedShapes::default());
        for _ in 0..count {
            let name = cursor.text("the name of a tensor", MAX_NAME_BYTES)?.to_owned();
            let info = self.info(cursor, &name, &mut shapes)?;
            let own = self.tensor_bytes + (2 * name.len() + size_of::<Info>()) as u64;
            // What there is no room for is only counted.
            if self.allowance.take(own) {
                names.push(&name);
                infos.push(info);
            }
        }
        let with = |(name, info)| {
            let Info { dtype, shape, offset } = info;
            TensorEntry { name, dtype, shape, offset }
        };
        let tensors: Vec<TensorEntry> = names.names().zip(infos).map(with).collect();
        let mut seen = HashSet::new();
        match tensors.iter().find(|tensor| !seen.insert(&*tensor.name)) {
            Some(twice) => {
                let problem = GgufProblem::Twice { tensor: twice.name.to_string() };
                Err(ContainerProblem::Broken(problem.into()))
            }
            None => Ok(tensors),
        }
    }

    fn info(
        &mut self,
        cursor: &mut Cursor<'_>,
        name: &str,
        shapes: &mut SharedShapes,
    ) -> Result<Info, ContainerProblem> {
        let (tensor, broken) =
            (|| name.to_owned(), |problem: GgufProblem| ContainerProblem::Broken(problem.into()));
        let axes = cursor.u32()?;
        if axes > MAX_AXES {
            return Err(broken(GgufProblem::Axes { tensor: tensor(), found: axes }));
        }
        let mut sizes = (0..axes).map(|_| cursor.u64()).collect::<Result<Vec<u64>, _>>()?;
        let number = cursor.u32()?;
        let dtype = dtype_of(number)
            .ok_or_else(|| broken(GgufProblem::UnknownType { tensor: tensor(), found: number }))?;
        let block = dtype.values();
        let values = sizes.first_mut().filter(|_| block > 1);
        if let Some(values) = values {
            if !values.is_multiple_of(block) {
                return Err(broken(GgufProblem::Rows { tensor: tensor(), dtype, found: *values, block }));
            }
            *values /= block;
        }
        sizes.reverse();
        let offset = cursor.u64()?;
        if offset != self.padded_end {
            let (found, expected) = (offset, self.padded_end);
            return Err(broken(GgufProblem::Untiled { tensor: tensor(), found, expected }));
        }
        self.end = end_of(name, dtype, &sizes, offset).map_err(broken)?;
        self.padded_end = self
            .end
            .checked_next_multiple_of(self.alignment)
            .ok_or_else(|| broken(GgufProblem::Overflow { tensor: tensor() }))?;
        let shape = Shape::new(&sizes).ok_or_else(|| broken(GgufProblem::Overflow { tensor: tensor() }))?;
        Ok(Info { dtype, shape: shapes.first(shape), offset })
    }
}

/// Holds the length of a file against what its tensors take: the zeros behind the last may be missing.
fn check_length(file: u64, header: u64, infos: &Infos<'_>) -> Result<(), ContainerProblem> {
    let [least, most] = [infos.end, infos.padded_end].map(|end| header.saturating_add(end));
    if file < least {
        let problem = GgufProblem::FileLength { promised: least, found: file };
        return Err(ContainerProblem::NotWhole(problem.into()));
    }
    if file > most {
        let problem = GgufProblem::FileLength { promised: most, found: file };
        return Err(ContainerProblem::TooLong(problem.into()));
    }
    Ok(())
}

/// Where the data of a tensor ends that begins at `offset`.
fn end_of(name: &str, dtype: Dtype, axes: &[u64], offset: u64) -> Result<u64, GgufProblem> {
    let elements = Shape::new(axes).map(|shape| shape.elements());
    let bytes = elements.and_then(|elements| bytes_of(dtype, elements));
    // Half of all that counts is far beyond every file, and leaves room for what is added.
    let end = bytes.and_then(|bytes| offset.checked_add(bytes)).filter(|end| *end <= u64::MAX / 2);
    end.ok_or_else(|| GgufProblem::Overflow { tensor: name.to_owned() })
}

/// Appends the info of a tensor.
fn put_info(
    bytes: &mut Vec<u8>,
    name: &str,
    (dtype, axes): (Dtype, &[u64]),
    offset: u64,
) -> Result<(), GgufProblem> {
    let tensor = || name.to_owned();
    let number = number_of(dtype).ok_or_else(|| GgufProblem::NoType { tensor: tensor(), dtype })?;
    if axes.len() > MAX_AXES as usize {
        return Err(GgufProblem::Axes { tensor: tensor(), found: axes.len() as u32 });
    }
    if name.len() as u64 > MAX_NAME_BYTES {
        let (what, found, most) = ("the name of a tensor", name.len() as u64, MAX_NAME_BYTES);
        return Err(GgufProblem::LongText { what, found, most });
    }
    bytes.extend((name.len() as u64).to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend((axes.len() as u32).to_le_bytes());
    for (i, axis) in axes.iter().rev().enumerate() {
        let values = if i == 0 { axis.checked_mul(dtype.values()) } else { Some(*axis) };
        bytes.extend(values.ok_or_else(|| GgufProblem::Overflow { tensor: tensor() })?.to_le_bytes());
    }
    bytes.extend(number.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    Ok(())
}
