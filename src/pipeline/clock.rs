//! What each thread of a run spends its time on, and when: sums, and a timeline that has as many pieces however long the run is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

/// What a thread may be at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// Reading inputs.
    Read,
    /// Merging tiles.
    Compute,
    /// Hashing what is written.
    Hash,
    /// Writing shards.
    Write,
    /// Making a shard last.
    Sync,
    /// Waiting for another thread: for memory, a tile, or the result of a reduction.
    Wait,
}

impl Activity {
    /// All of them.
    pub const ALL: [Activity; 6] = {
        use Activity::*;
        [Read, Compute, Hash, Write, Sync, Wait]
    };

    /// Its name.
    pub fn name(self) -> &'static str {
        ["read", "compute", "hash", "write", "sync", "wait"][self as usize]
    }
}

/// Pieces of a timeline, at most: so many can be told apart on a screen.
const PIECES: usize = 512;
/// Seconds of a piece at first.
const FIRST_PIECE: f64 = 0.02;

/// Seconds by activity.
type Seconds = [f64; Activity::ALL.len()];

/// The clocks of a run's threads.
#[derive(Debug)]
pub struct Clocks {
    started: Instant,
    all: Mutex<Vec<(&'static str, Arc<StageClock>)>>,
}

impl Default for Clocks {
    /// None yet; the time begins now.
    fn default() -> Clocks {
        Clocks { started: Instant::now(), all: Mutex::default() }
    }
}

/// The clock of one thread.
#[derive(Debug)]
pub(crate) struct StageClock {
    started: Instant,
    timeline: Mutex<Timeline>,
}

#[derive(Debug)]
struct Timeline {
    /// Seconds of a piece.
    piece: f64,
    pieces: Vec<Seconds>,
    total: Seconds,
    /// When it began and ended, in seconds of the run.
    span: [f64; 2],
}

/// What one thread did.
#[derive(Clone, Debug, Serialize)]
pub struct ThreadTime {
    /// Which stage it ran.
    pub stage: &'static str,
    /// Seconds from its first work to its last.
    pub seconds: f64,
    /// The part of them that each activity took, in the order of [`Activity::ALL`].
    pub shares: Vec<(Activity, f64)>,
    /// Seconds of a piece of its timeline.
    #[serde(skip)]
    pub piece_seconds: f64,
    /// Seconds of every activity in each piece of the run from its start.
    #[serde(skip)]
    pub pieces: Vec<[f64; Activity::ALL.len()]>,
}

impl Clocks {
    /// A clock for a thread of that stage.
    pub(crate) fn stage(&self, name: &'static str) -> Arc<StageClock> {
        let timeline = Timeline {
            piece: FIRST_PIECE,
            pieces: Vec::with_capacity(PIECES),
            total: Seconds::default(),
            span: [f64::INFINITY, 0.0],
        };
        let clock = Arc::new(StageClock { started: self.started, timeline: Mutex::new(timeline) });
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((name, clock.clone()));
        clock
    }

    /// What every thread did so far.
    pub(crate) fn threads(&self) -> Vec<ThreadTime> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, clock)| clock.held().shown(name)).collect()
    }
}

impl StageClock {
    /// Does `work`, which is `activity`.
    pub(crate) fn spend<T>(&self, activity: Activity, work: impl FnOnce() -> T) -> T {
        let from = self.started.elapsed();
        let done = work();
        self.held().add(activity, [from.as_secs_f64(), self.started.elapsed().as_secs_f64()]);
        done
    }

    fn held(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timeline {
    fn add(&mut self, activity: Activity, [from, to]: [f64; 2]) {
        self.total[activity as usize] += to - from;
        self.span = [self.span[0].min(from), self.span[1].max(to)];
        while to >= self.piece * PIECES as f64 {
            self.halve();
        }
        let last = (to / self.piece) as usize;
        if self.pieces.len() <= last {
            self.pieces.resize(last + 1, Seconds::default());
        }
        for i in (from / self.piece) as usize..=last {
            let [start, end] = [i as f64 * self.piece, (i + 1) as f64 * self.piece];
            self.pieces[i][activity as usize] += (to.min(end) - from.max(start)).max(0.0);
        }
    }

    /// Makes one piece of every two.
    fn halve(&mut self) {
        let both = |pair: &[Seconds]| {
            std::array::from_fn(|activity| pair.iter().map(|piece| piece[activity]).sum::<f64>())
        };
        for i in 0..self.pieces.len().div_ceil(2) {
            self.pieces[i] = both(&self.pieces[2 * i..(2 * i + 2).min(self.pieces.len())]);
        }
        self.pieces.truncate(self.pieces.len().div_ceil(2));
        self.piece *= 2.0;
    }

    fn shown(&self, stage: &'static str) -> ThreadTime {
        let seconds = (self.span[1] - self.span[0]).max(0.0);
        let share = |activity: Activity| self.total[activity as usize] / seconds.max(1e-9);
        ThreadTime {
            stage,
            seconds,
            shares: Activity::ALL.map(|activity| (activity, share(activity))).to_vec(),
            piece_seconds: self.piece,
            pieces: self.pieces.clone(),
        }
    }
}

impl ThreadTime {
    /// The part of its time that these activities took.
    pub(crate) fn share(&self, activities: &[Activity]) -> f64 {
        let wanted = self.shares.iter().filter(|(activity, _)| activities.contains(activity));
        wanted.map(|(_, share)| share).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_where_it_was_spent_however_long_the_run() {
        let clocks = Clocks::default();
        let clock = clocks.stage("reader");
        let spans = [(Activity::Read, 0.0, 0.5), (Activity::Wait, 0.5, 1.0), (Activity::Read, 900.0, 1000.0)];
        for (activity, from, to) in spans {
            clock.held().add(activity, [from, to]);
        }
        let thread = &clocks.threads()[0];
        assert_eq!((thread.stage, thread.seconds), ("reader", 1000.0));
        assert!((thread.share(&[Activity::Read]) - 0.1005).abs() < 1e-9);
        assert!((thread.share(&[Activity::Read, Activity::Wait]) - 0.101).abs() < 1e-9);
        assert!(thread.pieces.len() <= PIECES && thread.piece_seconds * PIECES as f64 > 1000.0);
        let read: f64 = thread.pieces.iter().map(|piece| piece[Activity::Read as usize]).sum();
        assert!((read - 100.5).abs() < 1e-6, "no second is lost when pieces are joined: {read}");
        let late = (950.0 / thread.piece_seconds) as usize;
        assert!((thread.pieces[late][Activity::Read as usize] - thread.piece_seconds).abs() < 1e-6);
    }

    #[test]
    fn what_is_done_is_given_back() {
        let clocks = Clocks::default();
        assert_eq!(clocks.stage("writer").spend(Activity::Sync, || 7), 7);
        assert!(clocks.threads()[0].share(&[Activity::Sync]) > 0.99);
    }
}
