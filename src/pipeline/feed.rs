//! The feed: walks the schedule, takes leases in its order, has tiles and factors read, and sends them on. It is the only
//! stage that waits for memory, and the barrier of reductions: no tile is written before their results are there.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::memory::pool::{Lease, Pool};
use crate::schedule::order::Tiles;
use crate::schedule::reduces::Reduces;
use crate::schedule::region::{FactorBlock, Sharing};
use crate::schedule::tile::{MergeTile, Purpose, Tile, Work, list_blocks};
use crate::tensor::rect::Rect;
use crate::threads::channel::{Receiver, RecvTimeoutError, Sender};

use crate::pipeline::clock::{Activity, StageClock};
use crate::pipeline::factors::BandFactors;
use crate::pipeline::fetch::Fetch;
use crate::pipeline::message::{LoadedTile, ReductionResult};
use crate::pipeline::milestone::walk_start;
use crate::pipeline::progress::Progress;
use crate::pipeline::run::Run;
use crate::pipeline::stop::Stop;

/// How often a wait looks whether the run is stopped.
const LOOK: Duration = Duration::from_millis(50);

/// The feed's ends of its channels.
pub(crate) struct FeedEnds<'c, 'p, 's, 'm> {
    /// Where tiles go.
    pub(crate) to_merge: &'c Sender<LoadedTile<'p, 's, 'm>>,
    /// The results of reductions.
    pub(crate) reduced: &'c Receiver<ReductionResult>,
    /// Lists of factors whose tiles are merged, to be used again.
    pub(crate) spare: &'c Receiver<Vec<FactorBlock>>,
    /// What its time goes to.
    pub(crate) clock: &'c StageClock,
}

/// Reads every tile and sends it on; returns quietly when the workers are gone or the run is stopped.
pub(crate) fn run<'p, 's, 'm>(
    run: &'p Run<'p>,
    pool: &'s Pool<'m>,
    progress: &Progress,
    ends: &FeedEnds<'_, 'p, 's, 'm>,
    stop: &Stop,
) -> Result<()> {
    let fetch = Fetch::new(run, progress, stop);
    let (reduced, clock) = (ends.reduced, ends.clock);
    let mut feed = Feed { pool, stop, reduced, clock, fetch, band: None, reductions: Reductions::default() };
    let is_shared = Box::new(|file, range: &_, to, whole| run.shared.is_shared(file, range, to, whole));
    let mut tiles = Tiles::new((run.plan, run.extent), run.schedule, walk_start(run.kept), is_shared);
    loop {
        ends.spare.try_iter().for_each(|own| tiles.recycle(own));
        let Some(tile) = tiles.next() else { return Ok(()) };
        let Some(loaded) = feed.load(tile)? else { return Ok(()) };
        if ends.to_merge.send(loaded).is_err() {
            return Ok(());
        }
    }
}

/// The reductions over the tensor that is being read.
#[derive(Default)]
struct Reductions {
    /// Reductions that were sent out and are not awaited.
    open: usize,
    /// The tensor whose reductions were awaited.
    of: Option<(usize, usize)>,
    /// Their results, if it has any.
    done: Option<Arc<Vec<ReductionResult>>>,
}

/// The tensor of a band, and what the reduction is for if it is for one.
type BandOf = (usize, usize, Option<Reduces>);

/// The band whose factors were read last.
struct Band<'s, 'm> {
    of: BandOf,
    rect: Rect,
    factors: Arc<BandFactors<'s, 'm>>,
}

struct Feed<'r, 's, 'm> {
    pool: &'s Pool<'m>,
    stop: &'r Stop,
    reduced: &'r Receiver<ReductionResult>,
    clock: &'r StageClock,
    fetch: Fetch<'r>,
    band: Option<Band<'s, 'm>>,
    reductions: Reductions,
}

impl<'s, 'm> Feed<'_, 's, 'm> {
    /// A tile with its bytes; `None` when the run is stopped.
    fn load<'p>(&mut self, tile: Tile<'p>) -> Result<Option<LoadedTile<'p, 's, 'm>>> {
        match &tile.work {
            Work::Header | Work::Share { .. } => {
                Ok(Some(LoadedTile { tile, buffer: None, factors: None, reduced: None }))
            }
            &Work::Copy { from, offset, bytes, .. } => {
                let Some(mut buffer) = self.tile_buffer() else { return Ok(None) };
                let bytes = &mut buffer[..bytes as usize];
                self.clock.spend(Activity::Read, || self.fetch.copied(from, offset, bytes))?;
                Ok(Some(LoadedTile { tile, buffer: Some(buffer), factors: None, reduced: None }))
            }
            Work::Merge(merge) => {
                let shard = tile.shard;
                let Some(reduced) = self.results_for(shard, merge) else { return Ok(None) };
                let Some(factors) = self.band_factors(shard, merge)? else { return Ok(None) };
                let Some(mut buffer) = self.tile_buffer() else { return Ok(None) };
                self.clock.spend(Activity::Read, || self.fetch.tile(shard, merge, &mut buffer))?;
                Ok(Some(LoadedTile { tile, buffer: Some(buffer), factors: Some(factors), reduced }))
            }
        }
    }

    fn tile_buffer(&self) -> Option<Lease<'s, 'm>> {
        self.clock.spend(Activity::Wait, || self.pool.slabs.lease(|| self.stop.is_raised()))
    }

    /// The results that a tile needs, which are awaited: for one that is written, of all reductions over its tensor; for one that
    /// is reduced for an op, of what its start must know. `None` when the run is stopped.
    fn results_for(
        &mut self,
        shard: usize,
        tile: &MergeTile<'_>,
    ) -> Option<Option<Arc<Vec<ReductionResult>>>> {
        let of = Some((shard, tile.tensor));
        let needs_results = match tile.purpose {
            Purpose::Write => true,
            Purpose::Reduce { of: Reduces::Op(_), .. } => tile.merged.survey_len() > 0,
            Purpose::Reduce { of: Reduces::Start, .. } => false,
        };
        // Those that an op's own reduction opened are of no use to its next tiles.
        let is_awaited =
            self.reductions.of == of && (self.reductions.open == 0 || tile.purpose != Purpose::Write);
        if needs_results && !is_awaited {
            let before = self.reductions.done.take().filter(|_| self.reductions.of == of);
            let done = self.clock.spend(Activity::Wait, || self.wait_for_results(before))?;
            self.reductions = Reductions { open: 0, of, done };
        }
        if let Purpose::Reduce { is_last, .. } = tile.purpose {
            self.reductions.open += usize::from(is_last);
        }
        Some(self.reductions.done.clone().filter(|_| needs_results))
    }

    /// Waits until every open reduction is done, and adds their results to those of the tensor that came before.
    fn wait_for_results(
        &self,
        before: Option<Arc<Vec<ReductionResult>>>,
    ) -> Option<Option<Arc<Vec<ReductionResult>>>> {
        if self.reductions.open == 0 {
            return Some(before);
        }
        let mut done = before.map_or_else(Vec::new, |before| before.to_vec());
        let all = done.len() + self.reductions.open;
        while done.len() < all {
            match self.reduced.recv_timeout(LOOK) {
                Ok(reduced) => done.push(reduced),
                Err(RecvTimeoutError::Timeout) if !self.stop.is_raised() => {}
                Err(_) => return None,
            }
        }
        Some(Some(Arc::new(done)))
    }

    /// The factors of a tile's band, from the buffer that holds them or newly read; `None` when the run is stopped.
    fn band_factors(
        &mut self,
        shard: usize,
        tile: &MergeTile<'_>,
    ) -> Result<Option<Arc<BandFactors<'s, 'm>>>> {
        let op = match tile.purpose {
            Purpose::Write => None,
            Purpose::Reduce { of, .. } => Some(of),
        };
        let of = (shard, tile.tensor, op);
        if let Some(band) = &self.band
            && band.of == of
            && band.rect == tile.band
        {
            return Ok(Some(band.factors.clone()));
        }
        // The last band's buffer is given back by the last worker that needs it: we must not wait for one we hold.
        self.band = None;
        let mut blocks = Vec::new();
        list_blocks(&tile.merged, &tile.band, Sharing::Band, &mut blocks);
        let mut buffer = None;
        if !blocks.is_empty() {
            let lease = || self.pool.slots.lease(|| self.stop.is_raised());
            let Some(mut lease) = self.clock.spend(Activity::Wait, lease) else { return Ok(None) };
            let read = || self.fetch.factors(tile.merged.ops, &blocks, &mut lease);
            self.clock.spend(Activity::Read, read)?;
            buffer = Some(lease);
        }
        let factors = Arc::new(BandFactors::new(blocks, buffer));
        self.band = Some(Band { of, rect: tile.band.clone(), factors: factors.clone() });
        Ok(Some(factors))
    }
}
