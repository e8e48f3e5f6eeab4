//! Reads: the bytes that a tile or a band asks for, from the inputs into a buffer.

use crate::encodings::encoding::{Place, Runs};
use crate::error::Result;
use crate::error::kind::ErrorKind;
use crate::ops::op::Op;
use crate::schedule::region::FactorBlock;
use crate::schedule::region::start_encoding;
use crate::schedule::tile::MergeTile;
use crate::tensor::reference::{FileId, TensorRef};

use crate::pipeline::factors::{raw_range, value_bytes};
use crate::pipeline::gather::GatherBuffer;
use crate::pipeline::progress::Progress;
use crate::pipeline::run::Run;
use crate::pipeline::stop::Stop;

/// Bytes that are read at once where only every so many-th element is kept.
const STRIDED: usize = 1 << 14;

/// Reads what it is asked for, and counts it.
pub(crate) struct Fetch<'r> {
    files: RunFiles<'r>,
    gather: GatherBuffer,
}

impl<'r> Fetch<'r> {
    /// For the inputs of `run`.
    pub(crate) fn new(run: &'r Run<'r>, progress: &'r Progress, stop: &'r Stop) -> Fetch<'r> {
        let gather = GatherBuffer::new(run.schedule.gather_bytes);
        Fetch { files: RunFiles { run, progress, stop }, gather }
    }

    /// Reads bytes that are copied.
    pub(crate) fn copied(&self, from: FileId, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.files.read(from, buffer, offset)?;
        self.files.done_before(from, offset + buffer.len() as u64);
        Ok(())
    }

    /// Reads what a tile starts from, and the raw factors of its own.
    pub(crate) fn tile(&mut self, shard: usize, tile: &MergeTile<'_>, buffer: &mut [u8]) -> Result<()> {
        let (merged, layout) = (&tile.merged, &tile.layout);
        self.gather.turn_to((shard, tile.tensor), || merged.strided_parts());
        // Parts are counted through all weights, as the gather buffer holds those of the first.
        let mut number = 0;
        for (weight, start) in merged.read_weights().zip([layout.source.start, layout.form.start]) {
            let (encoding, mut at) = (start_encoding(weight), start);
            let place = Place::new(weight, merged.view, &tile.rect);
            for (i, part) in weight.parts().iter().enumerate() {
                let runs = encoding.runs(i, place);
                let bytes = runs.bytes() as usize;
                self.part((number, part), runs, &mut buffer[at..at + bytes])?;
                (at, number) = (at + bytes, number + 1);
            }
        }
        self.factors(merged.ops, &layout.own, &mut buffer[layout.own_at..])
    }

    /// Reads the runs of one part.
    fn part(&mut self, part: (usize, &TensorRef), runs: Runs, buffer: &mut [u8]) -> Result<()> {
        let (files, (i, TensorRef { file, offset, .. })) = (&self.files, part);
        if runs.count > 1 && self.gather.holds(i) {
            return self.gather.pick(part, runs, buffer, |piece, at| {
                files.read(*file, piece, at)?;
                files.done_before(*file, at + piece.len() as u64);
                Ok(())
            });
        }
        for (run, buffer) in (0..).zip(buffer.chunks_exact_mut(runs.len.max(1) as usize)) {
            files.read(*file, buffer, offset + runs.first + run * runs.stride)?;
        }
        files.done_before(*file, offset + runs.first);
        Ok(())
    }

    /// Reads the raw bytes of factors to where they are prepared.
    pub(crate) fn factors(&self, ops: &[Op], blocks: &[FactorBlock], region: &mut [u8]) -> Result<()> {
        for block in blocks {
            let factor = &ops[block.op].factors[block.factor];
            let (size, runs) = (value_bytes(factor), block.runs);
            let raw = &mut region[raw_range(factor, block)];
            let run_bytes = (runs.len as usize * size).max(1);
            for (run, buffer) in (0..).zip(raw.chunks_exact_mut(run_bytes)) {
                let offset = block.offset + (runs.first + run * runs.stride) * size as u64;
                self.files.read_strided(block.file, buffer, offset, (runs.step as usize, size))?;
            }
        }
        Ok(())
    }
}

/// The inputs of a run.
struct RunFiles<'r> {
    run: &'r Run<'r>,
    progress: &'r Progress,
    stop: &'r Stop,
}

impl RunFiles<'_> {
    /// Fills `buffer` with every `step`-th element of `size` bytes from `offset` on.
    fn read_strided(
        &self,
        from: FileId,
        buffer: &mut [u8],
        offset: u64,
        (step, size): (usize, usize),
    ) -> Result<()> {
        if step == 1 {
            return self.read(from, buffer, offset);
        }
        let mut stretch = [0; STRIDED];
        let apart = step * size;
        // So many of the elements that are kept lie in one stretch.
        let most = STRIDED.saturating_sub(size) / apart + 1;
        let mut at = offset;
        for kept in buffer.chunks_mut(most * size) {
            let count = kept.len() / size;
            let stretch = &mut stretch[..(count - 1) * apart + size];
            self.read(from, stretch, at)?;
            for (to, from) in kept.chunks_exact_mut(size).zip(stretch.chunks(apart)) {
                to.copy_from_slice(&from[..size]);
            }
            at += (count * apart) as u64;
        }
        Ok(())
    }

    fn read(&self, from: FileId, buffer: &mut [u8], offset: u64) -> Result<()> {
        if self.stop.is_raised() {
            return Err(ErrorKind::Stopped.into());
        }
        self.run.sources[from.0 as usize].read_at(buffer, offset)?;
        self.progress.add_read(buffer.len() as u64);
        Ok(())
    }

    fn done_before(&self, from: FileId, offset: u64) {
        self.run.sources[from.0 as usize].done_before(offset);
    }
}
