//! How stages stop each other: a flag that all look at, and the first cause.

use std::sync::PoisonError;

use crate::error::run::RunError;
use crate::error::{Error, Result};
use crate::threads::Mutex;
use crate::threads::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::threads::thread::{self, Thread};

/// Set once, by the first thing that goes wrong.
pub(crate) struct Stop {
    raised: AtomicBool,
    cause: Mutex<Option<Error>>,
    /// Stages that have come to their end.
    ended: AtomicUsize,
    owner: Thread,
}

impl Default for Stop {
    /// Not raised; the thread that makes it is woken whenever a stage ends.
    fn default() -> Stop {
        Stop {
            raised: AtomicBool::new(false),
            cause: Mutex::new(None),
            ended: AtomicUsize::new(0),
            owner: thread::current(),
        }
    }
}

impl Stop {
    /// Asks all stages to return. Only the first cause is kept.
    pub(crate) fn raise(&self, cause: Error) {
        let mut kept = self.cause.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert(cause);
        self.raised.store(true, Ordering::Release);
    }

    /// Whether stages should return.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Acquire)
    }

    /// Runs a stage: its error, or its panic, stops the others, and its end wakes the owner.
    pub(crate) fn watch(&self, name: &'static str, stage: impl FnOnce() -> Result<()>) {
        // A panic would leave the others waiting for what this stage holds, so it is noticed before the join.
        let alarm = Alarm { stop: self, name };
        if let Err(cause) = stage() {
            self.raise(cause);
        }
        drop(alarm);
    }

    /// How many stages have come to their end. A thread is not finished yet when it wakes the owner, so they are counted.
    pub(crate) fn ended(&self) -> usize {
        self.ended.load(Ordering::Acquire)
    }

    /// The cause, if there was one.
    pub(crate) fn into_cause(self) -> Option<Error> {
        self.cause.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Alarm<'s> {
    stop: &'s Stop,
    name: &'static str,
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.stop.raise(Error::new(RunError::Panicked { stage: self.name }));
        }
        self.stop.ended.fetch_add(1, Ordering::Release);
        self.stop.owner.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind::ErrorKind;

    #[test]
    fn the_first_cause_wins_and_a_panic_is_one() {
        let stop = Stop::default();
        thread::scope(|scope| {
            let stage = scope.spawn(|| stop.watch("worker", || panic!("on purpose")));
            assert!(stage.join().is_err());
        });
        assert!(stop.is_raised());
        stop.watch("reader", || Err(ErrorKind::Stopped.into()));
        let cause = stop.into_cause().expect("raised");
        assert!(matches!(cause.kind(), ErrorKind::Run(RunError::Panicked { stage: "worker" })));
    }
}
