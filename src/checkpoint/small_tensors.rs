//! Small tensors whose values a plan needs, such as the shape that no header says, and what headers say beside tensors.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;

use crate::error::claim::ClaimError;
use crate::error::quantized::QuantizedProblem;
use crate::error::{Error, Result};
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::tensor::reference::TensorRef;

use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::header::metadata_of;

/// The most that is read of one tensor.
const MOST_BYTES: u64 = 64 << 10;

/// Reads small tensors of a checkpoint, and what its headers say beside them. The shard that was read last stays open.
pub(crate) struct Peek<'a> {
    base: &'a Checkpoint,
    open: RefCell<Option<(u32, Box<dyn Source>)>>,
    /// What the header says that was asked last.
    said: RefCell<Option<(u32, HashMap<String, String>)>>,
}

impl<'a> Peek<'a> {
    pub(crate) fn new(base: &'a Checkpoint) -> Peek<'a> {
        Peek { base, open: RefCell::new(None), said: RefCell::new(None) }
    }

    /// What the header of a tensor's file says under a key beside its tensors.
    ///
    /// # Errors
    /// As [`metadata_of`].
    pub(crate) fn said(&self, tensor: &TensorRef, key: &str) -> Result<Option<String>> {
        let mut said = self.said.borrow_mut();
        let (_, all) = match said.take() {
            Some(known) if known.0 == tensor.file.0 => said.insert(known),
            _ => {
                let shard = &self.base.catalogue.shards[tensor.file.0 as usize];
                let all = metadata_of(&shard.like, Path::new(&shard.name))?;
                said.insert((tensor.file.0, all.into_iter().collect()))
            }
        };
        Ok(all.get(key).cloned())
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// [`ClaimError::Quantized`] for one above 64 KiB, which is none of those that are meant to be read so; or as
    /// [`Source::read_at`].
    pub(crate) fn read(&self, tensor: &TensorRef) -> Result<Vec<u8>> {
        let catalogue = &self.base.catalogue;
        if tensor.bytes() > MOST_BYTES {
            let name =
                catalogue.at(tensor).map_or_else(String::new, |i| catalogue.tensors[i].name.to_string());
            let why = QuantizedProblem::ManyBytes { bytes: tensor.bytes() };
            return Err(Error::new(ClaimError::Quantized { tensor: name, why }));
        }
        let mut open = self.open.borrow_mut();
        let source = match open.take() {
            Some((file, source)) if file == tensor.file.0 => source,
            _ => self.base.location.open(&catalogue.shards[tensor.file.0 as usize].name)?,
        };
        let mut bytes = vec![0; tensor.bytes() as usize];
        source.read_at(&mut bytes, tensor.offset)?;
        *open = Some((tensor.file.0, source));
        Ok(bytes)
    }
}
