//! Runs a plan: one reader, some workers and one writer over one pool of memory.
//!
//! ```text
//!            leases                    any order            schedule order
//!  pool ──▶ reader ──▶ tiles ──▶ workers ──▶ merged ──▶ writer ──▶ sink of the shard
//!    ▲         slots: factors of a band ┘ (given back)      │
//!    └──────────────────────── slabs, when their bytes are written ┘
//! ```
//!
//! What a fold over a tensor comes to travels back from the writer to the reader, which sends the first tile that is written
//! only when it has it: folding needs the order of the schedule, and only the writer has that.
//!
//! The reader takes leases in the order of the schedule and is the only one that waits for memory. Channels hold as many
//! tiles as there are slabs, so a send never waits for anything but a stage that has stopped. The writer puts tiles back
//! into order: the tile it waits for was leased before every tile that is held up, so it is always under way.
//!
//! Shutdown is dropping senders. The stage that fails records the cause in [`Stop`] and returns; the others find a closed
//! channel or the flag and return quietly. The first cause wins.

pub(crate) mod gather;
pub(crate) mod message;
pub(crate) mod progress;
pub(crate) mod reader;
pub(crate) mod repack;
pub(crate) mod retained;
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
use crate::memory::pool::Memory;
use crate::plan::out_tensor::Plan;
use crate::schedule::budget::Schedule;
use crate::storage::source::Source;
use crate::storage::store::Store;

/// What a run reads, writes and tells.
pub struct Run<'r> {
    /// What to do.
    pub plan: &'r Plan,
    /// How to do it here.
    pub schedule: &'r Schedule,
    /// The plan's inputs, in its order, and behind them the scratch file of packed factors, if there is one.
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
        let mut memory = Memory::new(self.schedule.cut)?;
        let pool = memory.pool();
        let (stop, progress) = (Stop::default(), Progress::new(self.plan));
        let tally = tally::Tally::new(self.plan);
        let (to_merge, loaded) = bounded(self.schedule.cut.slabs + 1);
        let (to_write, merged) = bounded(self.schedule.cut.slabs + 1);
        let (pass_done, passes) = unbounded();
        thread::scope(|scope| {
            let (pool, stop, progress, tally) = (&pool, &stop, &progress, &tally);
            let mut stages = vec![(
                "reader",
                scope.spawn(move || {
                    let ends = reader::Ends { to_merge: &to_merge, passes: &passes };
                    stop.watch("reader", || reader::run(self, pool, progress, &ends, stop))
                }),
            )];
            for _ in 0..self.schedule.workers {
                let (loaded, to_write) = (loaded.clone(), to_write.clone());
                stages.push((
                    "worker",
                    scope.spawn(move || {
                        stop.watch("worker", || worker::run(self, tally, &loaded, &to_write, stop))
                    }),
                ));
            }
            // The workers hold the rest; ours would keep the writer waiting for ever.
            drop((loaded, to_write));
            stages.push((
                "writer",
                scope.spawn(move || {
                    let ends = writer::Ends { merged, pass_done };
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
