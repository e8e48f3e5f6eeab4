//! Files of `torch.save` as a [`Container`]: read, and written as safetensors.

use std::collections::HashMap;
use std::ops::Range;

use crate::formats::allowance::Allowance;
use crate::formats::container::{
    Broken, Container, ContainerProblem, FileBytes, FileHeader, FileNames, Room, TensorEntry,
};
use crate::formats::foreign::foreign;
use crate::formats::header_bytes::HeaderBytes;
use crate::formats::lfs::is_lfs_pointer;
use crate::formats::pytorch::MAX_PICKLE_BYTES;
use crate::formats::pytorch::legacy::{Legacy, is_legacy, read_legacy};
use crate::formats::pytorch::pickle::{PickleMachine, Stopped};
use crate::formats::pytorch::problem::PytorchProblem;
use crate::formats::pytorch::state_dict::tensors;
use crate::formats::pytorch::zip::{entries, read};
use crate::formats::safetensors::container::{Safetensors, of_torch};
use crate::tensor::dtype::Dtype;

/// Files of `torch.save` whose names end so.
pub(crate) struct Pytorch(pub(crate) &'static str);

/// What a zip begins with, and a pickle.
const ZIP: &[u8] = b"PK\x03\x04";
const PICKLE: u8 = 0x80;
const FIRST: u64 = 128;

impl Container for Pytorch {
    fn ending(&self) -> &'static str {
        self.0
    }

    fn file_names(&self) -> FileNames {
        if self.0 == ".bin" { FileNames::OfOlderLibraries } else { FileNames::OfAdapters }
    }

    fn read(&self, file: &FileBytes<'_>, room: Room) -> Result<FileHeader, ContainerProblem> {
        let first = read(file, 0..file.len.min(FIRST))?;
        if is_legacy(&first) {
            let Legacy { bytes, state, storages } = read_legacy(file, room)?;
            let tensors = state_dict(&bytes[state], &storages, room)?;
            return Ok(FileHeader { bytes: HeaderBytes::new(bytes), like: of_torch(), tensors });
        }
        if !first.starts_with(ZIP) {
            return Err(other(&first));
        }
        let storages = entries(file, room.bytes)?;
        let is_big = match storages.get("byteorder") {
            Some(order) if order.end - order.start <= 16 => read(file, order.clone())? != b"little",
            Some(_) => true,
            None => false,
        };
        if is_big {
            return Err(ContainerProblem::Broken(PytorchProblem::BigEndian.into()));
        }
        let pickle = storages
            .get("data.pkl")
            .ok_or_else(|| ContainerProblem::Broken(PytorchProblem::NoPickle.into()))?;
        let found = pickle.end - pickle.start;
        if found > MAX_PICKLE_BYTES {
            return Err(ContainerProblem::Broken(PytorchProblem::TooLong { found }.into()));
        }
        let needed = found.saturating_mul(4);
        if needed > room.bytes {
            return Err(ContainerProblem::NoRoom(needed));
        }
        let bytes = read(file, pickle.clone())?;
        let tensors = state_dict(&bytes, &storages, room)?;
        Ok(FileHeader { bytes: HeaderBytes::new(bytes), like: of_torch(), tensors })
    }

    fn build(
        &self,
        like: &HeaderBytes,
        is_kept: &dyn Fn(&str) -> bool,
        tensors: &[(&str, Dtype, &[u64])],
    ) -> Result<HeaderBytes, Broken> {
        Safetensors.build(like, is_kept, tensors)
    }

    fn metadata(&self, header: &HeaderBytes) -> Result<Vec<(String, String)>, Broken> {
        Safetensors.metadata(header)
    }
}

/// The tensors of the state dict that a pickle makes, each in one of these storages.
fn state_dict(
    pickle: &[u8],
    storages: &HashMap<String, Range<u64>>,
    room: Room,
) -> Result<Vec<TensorEntry>, ContainerProblem> {
    // The pickle, and what it leaves on the stack for each of its bytes at most.
    let needed = (pickle.len() as u64).saturating_mul(4);
    let left = room.bytes.checked_sub(needed).ok_or(ContainerProblem::NoRoom(needed))?;
    let allowance = Allowance::new(left);
    let no_room = || ContainerProblem::NoRoom(allowance.needed().saturating_add(needed));
    let (result, machine) = PickleMachine::run(pickle, &allowance).map_err(|stopped| match stopped {
        Stopped::Problem(problem) => ContainerProblem::Broken(problem.into()),
        Stopped::NoRoom => no_room(),
    })?;
    let tensors =
        tensors(result, &machine, storages).map_err(|problem| ContainerProblem::Broken(problem.into()))?;
    let own = tensors.iter().map(|tensor: &TensorEntry| room.tensor_bytes + 2 * tensor.name.len() as u64);
    if allowance.take(own.sum()) { Ok(tensors) } else { Err(no_room()) }
}

/// Why a file that is no zip is not read.
fn other(first: &[u8]) -> ContainerProblem {
    match foreign(first) {
        _ if is_lfs_pointer(first) => ContainerProblem::LfsPointer,
        _ if first.first() == Some(&PICKLE) => ContainerProblem::Broken(PytorchProblem::NoMagic.into()),
        Some(what) => ContainerProblem::Foreign(what),
        None => ContainerProblem::NotWhole(PytorchProblem::NoDirectory.into()),
    }
}
