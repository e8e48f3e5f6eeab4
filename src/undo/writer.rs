//! [`UndoWriter`]: an undo file that is written while a merge is taken back, tile by tile, and compared with the base.

use blake3::Hasher;

use crate::error::run::RunError;
use crate::error::{Error, Result};
use crate::plan::out_tensor::{Content, OutTensor, Plan};
use crate::storage::sink::Patch;
use crate::storage::source::Source;
use crate::undo::exceptions::write_block;
use crate::undo::layout::{BLOCK, GROUP, HASH, MAGIC, UndoLayout, width};

/// Bytes that are written at once.
const STEP: usize = 256 << 10;

/// What an undo file came to.
pub(crate) struct WrittenUndo {
    /// Its length.
    pub(crate) bytes: u64,
    /// BLAKE3 of it, in hex.
    pub(crate) hash: String,
}

/// An undo file that is written.
pub(crate) struct UndoWriter<'w> {
    /// The plan that takes the merge back.
    plan: &'w Plan,
    layout: UndoLayout,
    /// The inputs of the merge, in the plan's order.
    base: &'w [&'w dyn Source],
    out: OutBytes,
    /// Where every sixteenth block is.
    places: Vec<u64>,
    /// Of the base's tensors so far.
    hashes: Vec<[u8; HASH]>,
    /// The tensor under way.
    open: OpenTensor,
    /// What a block is written to on the way.
    body: Vec<u8>,
}

/// How far a tensor is.
#[derive(Default)]
struct OpenTensor {
    /// Bytes of it that are in blocks.
    done: u64,
    /// What was made behind them, less than a block.
    made: Vec<u8>,
    /// The base's bytes of these.
    wanted: Vec<u8>,
    /// Of the base's.
    hash: Hasher,
}

/// Bytes on their way to the file.
struct OutBytes {
    file: Box<dyn Patch>,
    /// Bytes that are in the file.
    at: u64,
    /// What comes behind them.
    held: Vec<u8>,
    hash: Hasher,
}

impl OutBytes {
    /// Writes what is held, if it is much.
    fn flush(&mut self, least: usize) -> Result<()> {
        if self.held.len() >= least.max(1) {
            self.hash.update(&self.held);
            self.file.write_at(&self.held, self.at)?;
            self.at += self.held.len() as u64;
            self.held.clear();
        }
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.held.extend_from_slice(bytes);
        self.flush(STEP)
    }

    /// Where the next byte will be.
    fn place(&self) -> u64 {
        self.at + self.held.len() as u64
    }
}

impl<'w> UndoWriter<'w> {
    /// Into an empty `file`, where `plan` takes a merge back whose inputs are `base` and then adapters.
    pub(crate) fn new(plan: &'w Plan, base: &'w [&'w dyn Source], file: Box<dyn Patch>) -> UndoWriter<'w> {
        let out = OutBytes { file, at: 0, held: MAGIC.to_vec(), hash: Hasher::new() };
        let (layout, open) = (UndoLayout::of(plan), OpenTensor::default());
        let (places, hashes) = (Vec::with_capacity(layout.places as usize), Vec::new());
        UndoWriter { plan, layout, base, out, places, hashes, open, body: Vec::new() }
    }

    /// Adds the next bytes that were made of a shard, from its byte `at` on: those of one tensor.
    ///
    /// # Errors
    /// [`RunError::Unfilled`] for bytes that are not the next; as reading the base and writing.
    pub(crate) fn pass(&mut self, shard: usize, at: u64, mut bytes: &[u8]) -> Result<()> {
        self.close_whole()?;
        let Some(tensor) = self.tensor().filter(|(of, tensor)| {
            *of == shard && tensor.offset + self.open.done + self.open.made.len() as u64 == at
        }) else {
            return Err(self.unfilled());
        };
        let block = BLOCK as usize * width(tensor.1);
        while !bytes.is_empty() {
            let (own, behind) = bytes.split_at(bytes.len().min(block - self.open.made.len()));
            self.open.made.extend_from_slice(own);
            if self.open.made.len() == block {
                self.close_block()?;
            }
            bytes = behind;
        }
        self.close_whole()
    }

    /// The tensor under way, with its shard; none behind the last.
    fn tensor(&self) -> Option<(usize, &'w OutTensor)> {
        let undone = self.layout.tensors.get(self.hashes.len())?;
        Some((undone.shard, &self.plan.shards[undone.shard].tensors[undone.tensor]))
    }

    /// That not all was made, which is a bug of ours.
    fn unfilled(&self) -> Error {
        let filled = self.open.done + self.open.made.len() as u64;
        let (tensor, wanted) = self
            .tensor()
            .map_or_else(Default::default, |(_, tensor)| (tensor.name.to_string(), tensor.bytes));
        RunError::Unfilled { tensor, filled, wanted }.into()
    }

    /// Writes the block of what was made, and hashes the base's bytes of it.
    fn close_block(&mut self) -> Result<()> {
        let Some((_, tensor)) = self.tensor() else { return Ok(()) };
        let width = width(tensor);
        let OpenTensor { done, made, wanted, hash } = &mut self.open;
        if (*done / width as u64).is_multiple_of(BLOCK * GROUP) {
            self.places.push(self.out.place());
        }
        wanted.resize(made.len(), 0);
        read_base(self.base, tensor, *done, wanted)?;
        hash.update(wanted);
        write_block(wanted, made, width, (&mut self.body, &mut self.out.held));
        *done += made.len() as u64;
        made.clear();
        self.out.flush(STEP)
    }

    /// Goes on to the next tensor behind each that is whole.
    fn close_whole(&mut self) -> Result<()> {
        while let Some((shard, tensor)) = self.tensor() {
            if self.open.done + (self.open.made.len() as u64) < tensor.bytes {
                return Ok(());
            }
            if !self.open.made.is_empty() {
                self.close_block()?;
            }
            let undone = self.layout.tensors[self.hashes.len()];
            let behind = self.plan.shards[shard].next_start(undone.tensor) - tensor.offset;
            // What stands before the next tensor belongs to this one.
            self.open.wanted.resize((behind - tensor.bytes) as usize, 0);
            read_base(self.base, tensor, tensor.bytes, &mut self.open.wanted)?;
            self.open.hash.update(&self.open.wanted);
            self.hashes.push(self.open.hash.finalize().into());
            self.open.hash.reset();
            self.open.done = 0;
        }
        Ok(())
    }

    /// Writes what stands behind the blocks: the merge's `digest`, the hashes of the base's sections, of which `same` tells those
    /// that the merge left as they were, by shard and number, and the places.
    ///
    /// # Errors
    /// [`RunError::Unfilled`] if something was not made; as writing.
    pub(crate) fn finish(
        mut self,
        digest: &str,
        same: &dyn Fn(usize, usize) -> Option<[u8; HASH]>,
    ) -> Result<WrittenUndo> {
        self.close_whole()?;
        if self.tensor().is_some() {
            return Err(self.unfilled());
        }
        self.out.put(digest.as_bytes())?;
        let mut own = self.layout.tensors.iter().zip(&self.hashes).peekable();
        for (shard, planned) in self.plan.shards.iter().enumerate() {
            for section in 0..=planned.tensors.len() {
                let made = own.next_if(|(of, _)| (of.shard, of.tensor + 1) == (shard, section));
                let hash = made.map(|(_, hash)| *hash).or_else(|| same(shard, section));
                let unknown =
                    || RunError::Unfilled { tensor: planned.name.clone(), filled: 0, wanted: planned.bytes };
                self.out.put(&hash.ok_or_else(unknown)?)?;
            }
        }
        for place in &self.places {
            self.out.put(&place.to_le_bytes())?;
        }
        self.out.flush(0)?;
        let sum: [u8; HASH] = self.out.hash.finalize().into();
        self.out.put(&sum)?;
        self.out.flush(0)?;
        self.out.file.sync()?;
        Ok(WrittenUndo { bytes: self.out.at, hash: self.out.hash.finalize().to_hex().to_string() })
    }
}

/// Reads the base's bytes of a tensor, from its byte `at` on.
fn read_base(base: &[&dyn Source], tensor: &OutTensor, at: u64, to: &mut [u8]) -> Result<()> {
    let Content::Compute { start, .. } = &tensor.content else { return Ok(()) };
    let Some(part) = start.parts().first().filter(|_| !to.is_empty()) else { return Ok(()) };
    base[part.file.0 as usize].read_at(to, part.offset + at)
}
