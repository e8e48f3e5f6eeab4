//! The threads of a run: made in one scope, watched, joined; the first cause of an end wins.

use crate::error::kind::ErrorKind;
use crate::error::run::RunError;
use crate::error::{Error, Result};
use crate::memory::pool::PoolMemory;
use crate::pipeline::milestone::Milestone;
use crate::pipeline::progress::{Progress, Snapshot};
use crate::pipeline::run::Run;
use crate::pipeline::stop::Stop;
use crate::pipeline::tally::{Applied, Tally};
use crate::pipeline::writer::WriterEnds;
use crate::pipeline::{feed, worker, writer};
use crate::threads::channel::{bounded, unbounded};
use crate::threads::thread::{self, Builder, Scope, ScopedJoinHandle};
use std::io;
use std::time::Duration;

/// How often the caller hears of progress, and a signal is looked for.
const TICK: Duration = Duration::from_millis(100);

impl Run<'_> {
    /// Does all of it. `record` is called in the writer's thread at every milestone; `tick` in this one, about ten times a
    /// second.
    ///
    /// # Errors
    /// The first thing that went wrong in any stage; what was committed stays.
    pub fn run(
        &self,
        record: &mut (dyn FnMut(Milestone) -> Result<()> + Send),
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<Applied> {
        let mut memory = PoolMemory::new(self.schedule.cut)?;
        let progress = Progress::new(self.plan, self.extent, self.kept);
        let mut tally = Tally::new(self.plan, self.kept);
        let write = |ends: WriterEnds<'_, '_, '_>, stop: &Stop| {
            writer::run(self, ends, (&progress, &mut tally), record, stop)
        };
        self.stages(&mut memory, &progress, write, tick)?;
        tally.applied(self.plan, self.allow_noop, self.accept_loss)
    }

    /// Starts all stages over this memory, `last` as the one that tiles end in, and joins them.
    ///
    /// # Errors
    /// The first thing that went wrong in any stage.
    pub(crate) fn stages(
        &self,
        memory: &mut PoolMemory,
        progress: &Progress,
        last: impl FnOnce(WriterEnds<'_, '_, '_>, &Stop) -> Result<()> + Send,
        tick: &mut dyn FnMut(&Snapshot),
    ) -> Result<()> {
        let (pool, stop) = (memory.pool(), Stop::default());
        let depth = self.schedule.cut.slabs + 1;
        let (to_merge, loaded) = bounded(depth);
        let (to_write, merged) = bounded(depth);
        let (spare, recycled) = bounded(depth + 1);
        let (to_feed, reduced) = unbounded();
        let (to_worker, counted) = bounded(depth + 1);
        thread::scope(|scope| {
            let (pool, stop) = (&pool, &stop);
            let mut stages = Stages { scope, stop, running: Vec::new() };
            let clock = self.clocks.stage("reader");
            stages.start("reader", move || {
                let (to_merge, reduced, spare) = (&to_merge, &reduced, &recycled);
                let ends = feed::FeedEnds { to_merge, reduced, spare, clock: &clock };
                feed::run(self, pool, progress, &ends, stop)
            });
            let clock = self.clocks.stage("writer");
            stages.start("writer", move || {
                last(WriterEnds { merged, reduced: to_feed, counted: to_worker, clock }, stop)
            });
            for i in 0..self.schedule.workers {
                let ends = worker::WorkerEnds {
                    loaded: loaded.clone(),
                    to_write: to_write.clone(),
                    spare: spare.clone(),
                    counted: counted.clone(),
                    clock: self.clocks.stage("worker"),
                };
                let work = move || worker::run(self, &ends, stop);
                // Fewer threads than were asked for do the same work.
                if i == 0 { stages.start("worker", work) } else { stages.start_if_possible("worker", work) }
            }
            // The workers hold the rest; ours would keep the writer waiting for ever.
            drop((loaded, to_write, spare));
            stages.join(&mut || {
                if self.cancel.is_cancelled() {
                    stop.raise(ErrorKind::Stopped.into());
                }
                tick(&progress.snapshot(pool.held()));
            });
        });
        stop.into_cause().map_or(Ok(()), Err)
    }
}

/// The stages of a run that were started.
struct Stages<'scope, 'env, 's> {
    scope: &'scope Scope<'scope, 'env>,
    stop: &'s Stop,
    running: Vec<(&'static str, ScopedJoinHandle<'scope, ()>)>,
}

impl<'scope> Stages<'scope, '_, 'scope> {
    /// Starts a stage without which nothing can be done: where it cannot be had, the others end.
    fn start(&mut self, name: &'static str, stage: impl FnOnce() -> Result<()> + Send + 'scope) {
        if let Err(cause) = self.try_start(name, stage) {
            let error = Error::new(RunError::NoThread { stage: name }).because(cause);
            self.stop
                .raise(error.hint("raise the limit on processes: `ulimit -u`, or `pids.max` of the cgroup"));
        }
    }

    /// Starts a stage, or does without it.
    fn start_if_possible(&mut self, name: &'static str, stage: impl FnOnce() -> Result<()> + Send + 'scope) {
        let _ = self.try_start(name, stage);
    }

    /// Waits until all of them have come to their end; calls `tick` about ten times a second.
    fn join(self, tick: &mut dyn FnMut()) {
        while self.stop.ended() < self.running.len() {
            thread::park_timeout(TICK);
            tick();
        }
        for (name, stage) in self.running {
            if stage.join().is_err() {
                self.stop.raise(Error::new(RunError::Panicked { stage: name }));
            }
        }
    }

    fn try_start(
        &mut self,
        name: &'static str,
        stage: impl FnOnce() -> Result<()> + Send + 'scope,
    ) -> io::Result<()> {
        let stop = self.stop;
        let thread = Builder::new().spawn_scoped(self.scope, move || stop.watch(name, stage))?;
        self.running.push((name, thread));
        Ok(())
    }
}
