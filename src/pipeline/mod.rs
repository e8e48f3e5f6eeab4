//! Runs a plan: one feed that reads, some workers and one writer over one pool of memory.
//!
//! ```text
//!            leases                    any order            schedule order
//!  pool ──▶ feed ──▶ tiles ──▶ workers ──▶ merged tiles ──▶ writer ──▶ sink of the shard
//!    ▲         factor buffers of a band ┘ (given back)      │
//!    └────────────────── tile buffers, when their bytes are written ┘
//! ```
//!
//! The feed walks the schedule and takes leases in its order; it is the only one that waits for memory. Factors are read as
//! they are and prepared by the first worker that needs them. [`apply::merge_tile`] is the merge itself, a function of its
//! arguments. The result of a reduction over a tensor travels back from the writer to the feed, which sends the first tile
//! that is written only when it has it: reducing needs the order of the schedule, and only the writer has that.
//!
//! Channels hold as many tiles as there are tile buffers, so a send never waits for anything but a stage that has stopped.
//! The writer puts tiles back into order: the tile it waits for was leased before every tile that is held up, so it is
//! always under way. In steady state nothing is allocated but by a product's own packing.
//!
//! Shutdown is dropping senders. The stage that fails records the cause in [`Stop`] and returns; the others find a closed
//! channel or the flag and return quietly. The first cause wins.

pub(crate) mod apply;
pub(crate) mod factors;
pub(crate) mod feed;
pub(crate) mod fetch;
pub(crate) mod gather;
pub(crate) mod message;
pub(crate) mod progress;
pub(crate) mod reduce;
pub(crate) mod repack;
pub(crate) mod retained;
pub(crate) mod scratch;
pub(crate) mod stop;
pub(crate) mod tally;
pub(crate) mod worker;
pub(crate) mod writer;

use crate::pipeline::progress::{Progress, Snapshot};
use crate::pipeline::stop::Stop;
use crate::pipeline::tally::Applied;
use crate::pipeline::writer::ShardDone;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};

use crate::cancel::Cancel;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::kernels::dispatch::Kernels;
use crate::memory::pool::PoolMemory;
use crate::plan::out_tensor::Plan;
use crate::schedule::budget::Schedule;
use crate::storage::source::Source;
use crate::storage::store::Store;

/// What a run reads and writes.
pub struct Run<'r> {
    /// What to do.
    pub plan: &'r Plan,
    /// How to do it here.
    pub schedule: &'r Schedule,
    /// The plan's inputs, in its order, and behind them the scratch file of repacked factors, if there is one.
    pub sources: &'r [&'r dyn Source],
    /// Where the shards go.
    pub store: &'r dyn Store,
    /// Which arithmetic runs.
    pub kernels: Kernels,
    /// Stops it.
    pub cancel: &'r Cancel,
    /// Whether adapters may change nothing.
    pub allow_noop: bool,
}

/// How often the caller hears of progress, and a signal is looked for.
const TICK: Duration = Duration::from_millis(100);

impl Run<'_> {
    /// Does all of it. `shard_done` is called in the writer's thread once a shard is committed; `tick` in this one, about
    /// ten times a second.
    ///
    /// # Errors
    /// The first thing that went wrong in any stage; what was committed stays.
    pub fn run(
        &self,
        shard_done: &mut (dyn FnMut(ShardDone) -> Result<()> + Send),
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<Applied> {
        let mut memory = PoolMemory::new(self.schedule.cut)?;
        let pool = memory.pool();
        let (stop, progress) = (Stop::default(), Progress::new(self.plan));
        let tally = tally::Tally::new(self.plan);
        let depth = self.schedule.cut.slabs + 1;
        let (to_merge, loaded) = bounded(depth);
        let (to_write, merged) = bounded(depth);
        let (spare, recycled) = bounded(depth + 1);
        let (to_feed, reduced) = unbounded();
        thread::scope(|scope| {
            let (pool, stop, progress, tally) = (&pool, &stop, &progress, &tally);
            let mut stages = vec![(
                "reader",
                scope.spawn(move || {
                    let ends = feed::Ends { to_merge: &to_merge, reduced: &reduced, spare: &recycled };
                    stop.watch("reader", || feed::run(self, pool, progress, &ends, stop))
                }),
            )];
            for _ in 0..self.schedule.workers {
                let ends =
                    worker::Ends { loaded: loaded.clone(), to_write: to_write.clone(), spare: spare.clone() };
                stages.push((
                    "worker",
                    scope.spawn(move || stop.watch("worker", || worker::run(self, tally, &ends, stop))),
                ));
            }
            // The workers hold the rest; ours would keep the writer waiting for ever.
            drop((loaded, to_write, spare));
            stages.push((
                "writer",
                scope.spawn(move || {
                    let ends = writer::Ends { merged, reduced: to_feed };
                    stop.watch("writer", || writer::run(self, ends, progress, shard_done, stop))
                }),
            ));
            while stop.ended() < stages.len() {
                thread::park_timeout(TICK);
                if self.cancel.is_cancelled() {
                    stop.raise(ErrorKind::Stopped.into());
                }
                tick(&progress.snapshot(pool.held()));
            }
            for (name, stage) in stages {
                if stage.join().is_err() {
                    stop.raise(Error::new(ErrorKind::Panicked { stage: name }));
                }
            }
        });
        stop.into_cause().map_or(Ok(()), Err)?;
        tally.applied(self.plan, self.allow_noop)
    }
}
