//! The reader: takes leases in the order of the schedule, reads what tiles need, decodes their factors.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::encodings;
use crate::encodings::{Place, Runs};
use crate::error::Result;
use crate::error::kind::ErrorKind;
use crate::kernels::dispatch::Kernels;
use crate::memory::pool::{Lease, Pool};
use crate::ops::op::Op;
use crate::plan::out_tensor::ClaimRecord;
use crate::schedule::blocks::start_encoding;
use crate::schedule::blocks::{BlockSpec, Slab, shared_blocks};
use crate::schedule::cut::Merged;
use crate::schedule::steps::{Tile, Work, tiles};
use crate::tensor::dtype::bytes_of;
use crate::tensor::rect::Rect;
use crate::tensor::reference::{FileId, TensorRef};

use crate::pipeline::Run;
use crate::pipeline::gather::Stretches;
use crate::pipeline::message::{Loaded, Pass, Shared};
use crate::pipeline::progress::Progress;
use crate::pipeline::stop::Stop;

/// Reads every tile and sends it on; returns quietly when the workers are gone or the run is stopped.
pub(crate) fn run<'s, 'm>(
    run: &Run<'_>,
    pool: &'s Pool<'m>,
    progress: &Progress,
    ends: &Ends<'_, 's, 'm>,
    stop: &Stop,
) -> Result<()> {
    let (passes, stretches) = (ends.passes, Stretches::new(run.schedule.stretch_bytes));
    let mut reader =
        Reader { run, pool, progress, stop, passes, band: None, folding: Folding::default(), stretches };
    for tile in tiles(run.plan, run.schedule) {
        let Some(loaded) = reader.load(tile)? else { return Ok(()) };
        if ends.to_merge.send(loaded).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The reader's ends of its channels.
pub(crate) struct Ends<'c, 's, 'm> {
    /// Where tiles go.
    pub(crate) to_merge: &'c Sender<Loaded<'s, 'm>>,
    /// Where what passes came to is told.
    pub(crate) passes: &'c Receiver<Pass>,
}

/// The passes over the tensor that is being read.
#[derive(Default)]
struct Folding {
    /// Passes that were sent out and are not done.
    open: usize,
    /// The tensor, and what those that are done came to.
    of: Option<(usize, usize)>,
    done: Arc<Vec<Pass>>,
}

/// Bytes that are read at once where only some elements of a stretch are kept.
const PICKED: usize = 1 << 14;
/// How often a wait looks whether the run is stopped.
const LOOK: Duration = Duration::from_millis(50);

/// The band whose factors are in a slot: its tensor (and the op, for a pass), its place, and the factors.
type Band<'s, 'm> = ((usize, usize, Option<usize>), Rect, Arc<Shared<'s, 'm>>);

struct Reader<'r, 's, 'm> {
    run: &'r Run<'r>,
    pool: &'s Pool<'m>,
    progress: &'r Progress,
    stop: &'r Stop,
    passes: &'r Receiver<Pass>,
    band: Option<Band<'s, 'm>>,
    folding: Folding,
    stretches: Stretches,
}

impl<'r, 's, 'm> Reader<'r, 's, 'm> {
    /// A tile with its bytes; `None` when the run is stopped.
    fn load(&mut self, tile: Tile) -> Result<Option<Loaded<'s, 'm>>> {
        match &tile.work {
            Work::Header => Ok(Some(Loaded { tile, slab: None, shared: None, folded: Arc::default() })),
            &Work::Copy { from, offset, bytes, .. } => {
                let Some(mut slab) = self.slab() else { return Ok(None) };
                self.read(from, &mut slab[..bytes as usize], offset)?;
                self.done_before(from, offset + bytes);
                Ok(Some(Loaded { tile, slab: Some(slab), shared: None, folded: Arc::default() }))
            }
            &Work::Fold { tensor, op, ref rect, ref band, is_last } => {
                let merged = self.merged(tile.shard, tensor).pass(op);
                let loaded = self.load_tile(merged, (tile.shard, tensor, Some(op)), rect, band)?;
                self.folding.open += usize::from(is_last);
                let Some((slab, shared)) = loaded else { return Ok(None) };
                Ok(Some(Loaded { tile, slab: Some(slab), shared: Some(shared), folded: Arc::default() }))
            }
            &Work::Write { tensor, ref rect, ref band } => {
                if !self.wait_for_passes((tile.shard, tensor)) {
                    return Ok(None);
                }
                let merged = self.merged(tile.shard, tensor);
                let loaded = self.load_tile(merged, (tile.shard, tensor, None), rect, band)?;
                let Some((slab, shared)) = loaded else { return Ok(None) };
                let folded = self.folding.done.clone();
                Ok(Some(Loaded { tile, slab: Some(slab), shared: Some(shared), folded }))
            }
        }
    }

    fn merged(&self, shard: usize, tensor: usize) -> Merged<'r> {
        let out = &self.run.plan.shards[shard].tensors[tensor];
        Merged::of(out).expect("such tiles are made for merged tensors only")
    }

    /// A slab with the values and the factors of a tile, and the factors that it shares.
    fn load_tile(
        &mut self,
        merged: Merged<'_>,
        of: (usize, usize, Option<usize>),
        rect: &Rect,
        band: &Rect,
    ) -> Result<Option<(Lease<'s, 'm>, Arc<Shared<'s, 'm>>)>> {
        let Some(shared) = self.shared(of, merged, band)? else { return Ok(None) };
        let Some(mut slab) = self.slab() else { return Ok(None) };
        self.load_values(merged, (of.0, of.1), rect, &mut slab)?;
        Ok(Some((slab, shared)))
    }

    /// Waits until every pass over the tensor that is to be written is done; false when the run is stopped.
    fn wait_for_passes(&mut self, tensor: (usize, usize)) -> bool {
        if self.folding.of == Some(tensor) {
            return true;
        }
        let mut done = Vec::with_capacity(self.folding.open);
        while done.len() < self.folding.open {
            match self.passes.recv_timeout(LOOK) {
                Ok(pass) => done.push(pass),
                Err(RecvTimeoutError::Timeout) if !self.stop.is_raised() => {}
                Err(_) => return false,
            }
        }
        self.folding = Folding { open: 0, of: Some(tensor), done: Arc::new(done) };
        true
    }

    fn slab(&self) -> Option<Lease<'s, 'm>> {
        self.pool.slabs.lease(|| self.stop.is_raised())
    }

    /// Reads what a tile starts from, and the factors of its own.
    fn load_values(
        &mut self,
        merged: Merged<'_>,
        of: (usize, usize),
        rect: &Rect,
        slab: &mut [u8],
    ) -> Result<()> {
        let Merged { start, ops, view, .. } = merged;
        let layout = Slab::new(&merged, rect);
        let encoding = start_encoding(start);
        let place = Place { logical: start, view, rect };
        self.stretches.turn_to(of, || merged.stretches());
        let mut at = 0;
        for (i, part) in start.parts.iter().enumerate() {
            let runs = encoding.runs(i, place);
            let buf = &mut slab[at..at + runs.bytes() as usize];
            at += buf.len();
            if runs.count > 1 && self.stretches.holds(i) {
                self.pick((i, part), runs, buf)?;
                continue;
            }
            for (run, buf) in (0..).zip(buf.chunks_exact_mut(runs.len.max(1) as usize)) {
                self.read(part.file, buf, part.offset + runs.first + run * runs.stride)?;
            }
            self.done_before(part.file, part.offset + runs.first);
        }
        self.load_factors(ops, &layout.own, &mut slab[layout.own_at..])
    }

    /// Reads runs that do not touch: whole stored rows of which each is one.
    fn pick(&mut self, part: (usize, &TensorRef), runs: Runs, buf: &mut [u8]) -> Result<()> {
        let mut stretches = std::mem::take(&mut self.stretches);
        let read = |piece: &mut [u8], at: u64| {
            self.read(part.1.file, piece, at)?;
            self.done_before(part.1.file, at + piece.len() as u64);
            Ok(())
        };
        let picked = stretches.pick(part, runs, buf, read);
        self.stretches = stretches;
        picked
    }

    /// The factors of a band, from the slot that holds them or newly read; `None` when the run is stopped.
    fn shared(
        &mut self,
        of: (usize, usize, Option<usize>),
        merged: Merged<'_>,
        place: &Rect,
    ) -> Result<Option<Arc<Shared<'s, 'm>>>> {
        if let Some((tensor, held, shared)) = &self.band
            && *tensor == of
            && held == place
        {
            return Ok(Some(shared.clone()));
        }
        // The last band's slot is given back by the last worker that needs it: we must not wait for one we hold.
        self.band = None;
        let blocks = shared_blocks(merged.ops, merged.view, place);
        let mut slot = None;
        if !blocks.is_empty() {
            let Some(mut lease) = self.pool.slots.lease(|| self.stop.is_raised()) else { return Ok(None) };
            self.load_factors(merged.ops, &blocks, &mut lease)?;
            slot = Some(lease);
        }
        let shared = Arc::new(Shared { blocks, slot });
        self.band = Some((of, place.clone(), shared.clone()));
        Ok(Some(shared))
    }

    /// Reads and decodes parts of factors to where `blocks` says.
    fn load_factors(&self, ops: &[Op], blocks: &[BlockSpec], region: &mut [u8]) -> Result<()> {
        for block in blocks {
            let (op, factor) = (&ops[block.op], &ops[block.op].factors[block.factor]);
            let encoding = encodings::plain(factor.tensor.dtype).expect("factors of other types are refused");
            let size = bytes_of(factor.tensor.dtype, 1).expect("plain floats are whole bytes");
            let runs = factor.runs(&block.positions);
            let all: &mut [f32] = bytemuck::cast_slice_mut(&mut region[block.at.clone()]);
            let values = &mut all[..(runs.len * runs.count) as usize];
            let len = (runs.len * size) as usize;
            let raw_at = size_of_val(values) - len * runs.count as usize;
            // The bytes are read to the end of where the values go, and decoded from the front: a value is never longer
            // in the file than in memory, so that none is overwritten before it is decoded.
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(values);
            for run in 0..runs.count {
                let at = raw_at + run as usize * len;
                let offset = factor.tensor.offset + (runs.first + run * runs.stride) * size;
                self.read_picked(factor.tensor.file, &mut bytes[at..at + len], offset, runs.step, size)?;
            }
            if !widen_in_place(encoding, self.run.kernels, bytes, raw_at, size as usize) {
                return Err(not_finite(&self.run.plan.claims[op.claim.0 as usize], block.factor, self.run));
            }
            if factor.prepared_len.is_some()
                && let Some(preparation) = op.delta().preparation()
            {
                preparation.prepare(all);
            }
        }
        Ok(())
    }

    /// Fills `buf` with every `step`-th element of `size` bytes from `offset` on.
    fn read_picked(&self, from: FileId, buf: &mut [u8], offset: u64, step: u64, size: u64) -> Result<()> {
        if step == 1 {
            return self.read(from, buf, offset);
        }
        let mut stretch = [0; PICKED];
        let size = size as usize;
        let apart = step as usize * size;
        // So many of the elements that are kept lie in one stretch.
        let most = PICKED.saturating_sub(size) / apart + 1;
        let mut at = offset;
        for kept in buf.chunks_mut(most * size) {
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

    fn read(&self, from: FileId, buf: &mut [u8], offset: u64) -> Result<()> {
        if self.stop.is_raised() {
            return Err(ErrorKind::Stopped.into());
        }
        self.run.sources[from.0 as usize].read_at(buf, offset)?;
        self.progress.add_read(buf.len() as u64);
        Ok(())
    }

    fn done_before(&self, from: FileId, offset: u64) {
        self.run.sources[from.0 as usize].done_before(offset);
    }
}

/// Decodes the plain numbers that lie from `raw_at` to the end of `bytes` to f32 from its start; true if all are finite.
fn widen_in_place(
    encoding: &dyn encodings::Encoding,
    kernels: Kernels,
    bytes: &mut [u8],
    raw_at: usize,
    size: usize,
) -> bool {
    const STEP: usize = 512;
    let (mut raw, mut values) = ([0; STEP * size_of::<f32>()], [0.0; STEP]);
    let count = (bytes.len() - raw_at) / size;
    let mut finite = true;
    for first in (0..count).step_by(STEP) {
        let n = STEP.min(count - first);
        let (raw, values) = (&mut raw[..n * size], &mut values[..n]);
        raw.copy_from_slice(&bytes[raw_at + first * size..raw_at + (first + n) * size]);
        finite &= encoding.decode_flat(kernels, raw, values);
        bytes[first * size_of::<f32>()..(first + n) * size_of::<f32>()]
            .copy_from_slice(bytemuck::cast_slice(values));
    }
    finite
}

fn not_finite(claim: &ClaimRecord, factor: usize, run: &Run<'_>) -> crate::error::Error {
    let adapter = run.plan.adapters[claim.adapter as usize].name.clone();
    let key = claim.keys.get(factor).cloned().unwrap_or_else(|| claim.module.clone());
    ErrorKind::NonFiniteFactor { adapter, key }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widening_in_place_overwrites_nothing_it_still_needs() {
        for n in [0usize, 1, 2, 511, 512, 513, 1500] {
            let expected: Vec<f32> = (0..n).map(|i| i as f32 - 700.0).collect();
            let mut bytes = vec![0u8; n * 4];
            for (i, value) in expected.iter().enumerate() {
                bytes[n * 2 + 2 * i..][..2].copy_from_slice(&half::f16::from_f32(*value).to_le_bytes());
            }
            let encoding = encodings::find("f16").expect("in the table");
            assert!(widen_in_place(encoding, Kernels::scalar(), &mut bytes, n * 2, 2));
            let values: Vec<f32> =
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            assert_eq!(values, expected);
        }
    }
}
