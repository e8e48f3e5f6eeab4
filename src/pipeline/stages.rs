//! The threads of a run: made in one scope, watched, joined; the first cause of an end wins.

use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::memory::pool::PoolMemory;
use crate::pipeline::progress::{Progress, Snapshot};
use crate::pipeline::run::Run;
use crate::pipeline::stop::Stop;
use crate::pipeline::tally::Applied;
use crate::pipeline::writer::ShardDone;
use crate::pipeline::{feed, tally, worker, writer};
use crossbeam_channel::{bounded, unbounded};
use std::thread;
use std::time::Duration;

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
                    let ends = feed::FeedEnds { to_merge: &to_merge, reduced: &reduced, spare: &recycled };
                    stop.watch("reader", || feed::run(self, pool, progress, &ends, stop))
                }),
            )];
            for _ in 0..self.schedule.workers {
                let ends = worker::WorkerEnds {
                    loaded: loaded.clone(),
                    to_write: to_write.clone(),
                    spare: spare.clone(),
                };
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
                    let ends = writer::WriterEnds { merged, reduced: to_feed };
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
