//! [`FoundTensors`]: where each tensor of a plan is in the directory that is verified.

use std::collections::HashSet;

use crate::checkpoint::discover::Checkpoint;
use crate::error::Result;
use crate::plan::out_tensor::{OutShard, OutTensor, Plan};
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::{EntryKind, Store};
use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;
use crate::verify::finding::Finding;

/// The files of a directory, and where in them the tensors of a plan are.
#[derive(Default)]
pub(crate) struct FoundTensors {
    /// Files with their names.
    pub(crate) files: Vec<(String, Box<dyn Source>)>,
    /// By shard and tensor of the plan; none where there is nothing to compare with.
    places: Vec<Vec<Option<FilePlace>>>,
}

/// Where a tensor begins.
#[derive(Clone, Copy)]
pub(crate) struct FilePlace {
    /// Index of the file.
    pub(crate) file: usize,
    /// First byte in it.
    pub(crate) offset: u64,
}

impl FoundTensors {
    /// For a directory that was made by the plan: everything is where the plan puts it.
    ///
    /// # Errors
    /// As [`Store::stat`] and [`Store::open`].
    pub(crate) fn by_plan(plan: &Plan, dir: &Location, findings: &mut Vec<Finding>) -> Result<FoundTensors> {
        let mut target = FoundTensors::default();
        for shard in &plan.shards {
            let file = target.open(dir, shard, findings)?;
            let place = |tensor: &OutTensor| Some(FilePlace { file: file?, offset: tensor.offset });
            target.places.push(shard.tensors.iter().map(place).collect());
        }
        Ok(target)
    }

    /// Opens the file of a shard and looks at its length.
    fn open(
        &mut self,
        dir: &Location,
        shard: &OutShard,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<usize>> {
        let name = shard.name.clone();
        let found = match dir.stat(&name)? {
            Some(stat) if stat.kind == EntryKind::File => stat.bytes,
            _ => {
                findings.push(Finding::MissingFile { file: name });
                return Ok(None);
            }
        };
        if found != shard.bytes {
            findings.push(Finding::Length { file: name.clone(), expected: shard.bytes, found });
        }
        self.files.push((name.clone(), dir.open(&name)?));
        Ok(Some(self.files.len() - 1))
    }

    /// For a directory that was made in another way: tensors are found by their names, in whichever shard.
    pub(crate) fn by_name(plan: &Plan, found: Checkpoint, findings: &mut Vec<Finding>) -> FoundTensors {
        let names: Vec<String> = found.catalogue.shards.iter().map(|shard| shard.name.clone()).collect();
        let mut place = |tensor: &OutTensor| {
            let Some(base) = found.catalogue.find(&tensor.name) else {
                findings.push(Finding::MissingTensor { tensor: tensor.name.to_string() });
                return None;
            };
            let other = &base.tensor;
            let file = other.file.0 as usize;
            if (other.dtype, &other.shape) != (tensor.dtype, &tensor.shape) {
                findings.push(Finding::Form {
                    tensor: tensor.name.to_string(),
                    file: names[file].clone(),
                    expected: form(tensor.dtype, &tensor.shape),
                    found: form(other.dtype, &other.shape),
                });
                return None;
            }
            Some(FilePlace { file, offset: other.offset })
        };
        let places = plan.shards.iter().map(|shard| shard.tensors.iter().map(&mut place).collect()).collect();
        let expected: HashSet<&str> = plan.tensors().map(|tensor| &*tensor.name).collect();
        let others = found.catalogue.tensors.iter().filter(|tensor| !expected.contains(&*tensor.name));
        findings.extend(others.map(|other| Finding::OtherTensor {
            tensor: other.name.to_string(),
            file: names[other.tensor.file.0 as usize].clone(),
        }));
        FoundTensors { files: names.into_iter().zip(found.sources).collect(), places }
    }

    /// Where a tensor of the plan is.
    pub(crate) fn place(&self, shard: usize, tensor: usize) -> Option<FilePlace> {
        *self.places.get(shard)?.get(tensor)?
    }

    /// Name of the file that a tensor of the plan is in.
    pub(crate) fn file_of(&self, shard: usize, tensor: usize) -> Option<&str> {
        Some(&self.files[self.place(shard, tensor)?.file].0)
    }

    /// Reads as much of `buf` as the file at `place` has, `at` bytes behind it. A file that is too short is a finding already.
    ///
    /// # Errors
    /// As [`Source::read_at`].
    pub(crate) fn read(&self, place: FilePlace, at: u64, buf: &mut [u8]) -> Result<usize> {
        let source = &self.files[place.file].1;
        let left = source.len().saturating_sub(place.offset + at);
        let len = left.min(buf.len() as u64) as usize;
        if len > 0 {
            source.read_at(&mut buf[..len], place.offset + at)?;
            source.done_before(place.offset + at + len as u64);
        }
        Ok(len)
    }
}

/// `BF16 [4, 8]`.
fn form(dtype: Dtype, shape: &Shape) -> String {
    format!("{dtype} {:?}", shape.axes())
}
