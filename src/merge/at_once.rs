//! Pieces of work that do not depend on each other, done by a few threads while the caller's shows how far they are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, ScopedJoinHandle, scope};
use std::time::Duration;

use crate::cancel::Cancel;
use crate::error::kind::ErrorKind;
use crate::error::run::RunError;
use crate::error::{Error, Result};

/// How often the caller is asked to show how far it is.
const TICK: Duration = Duration::from_millis(100);

/// Does pieces 0 to `count`, each once, in `threads` threads, and calls `tick` meanwhile. The first that fails stops the others.
///
/// # Errors
/// The first error; [`RunError::NoThread`].
pub(crate) fn at_once(
    (count, threads): (usize, usize),
    cancel: &Cancel,
    work: &(dyn Fn(usize, &Cancel) -> Result<()> + Sync),
    tick: &mut dyn FnMut(),
) -> Result<()> {
    let (next, stop) = (AtomicUsize::new(0), cancel.child());
    let (next, stop, caller) = (&next, &stop, &std::thread::current());
    let each = move || {
        let mut done = Ok(());
        while done.is_ok() {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= count {
                break;
            }
            done = stop.check().and_then(|()| work(piece, stop));
        }
        if done.is_err() {
            stop.cancel();
        }
        caller.unpark();
        done
    };
    scope(|scope| {
        let started = (0..threads.clamp(1, count.max(1))).map(|_| Builder::new().spawn_scoped(scope, each));
        let started: std::io::Result<Vec<_>> = started.collect();
        let running = started.map_err(|cause| {
            stop.cancel();
            Error::new(RunError::NoThread { stage: "worker" }).because(cause)
        })?;
        while !running.iter().all(ScopedJoinHandle::is_finished) {
            std::thread::park_timeout(TICK);
            tick();
        }
        let ended = running.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| Err(RunError::Panicked { stage: "worker" }.into()))
        });
        first_cause(ended)
    })
}

/// What went wrong first: who was only stopped by it says less.
fn first_cause(ended: impl Iterator<Item = Result<()>>) -> Result<()> {
    let mut found: Result<()> = Ok(());
    for error in ended.filter_map(Result::err) {
        let is_better = match &found {
            Ok(()) => true,
            Err(before) => matches!(before.kind(), ErrorKind::Stopped),
        };
        if is_better {
            found = Err(error);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::error::request::RequestError;

    #[test]
    fn each_piece_is_done_once() {
        for (count, threads) in [(0, 2), (1, 4), (100, 1), (100, 3)] {
            let done = Mutex::new(vec![0; count]);
            let work = |piece: usize, _: &Cancel| {
                done.lock().unwrap()[piece] += 1;
                Ok(())
            };
            at_once((count, threads), &Cancel::default(), &work, &mut || {}).unwrap();
            assert_eq!(*done.lock().unwrap(), vec![1; count]);
        }
    }

    #[test]
    fn the_first_that_fails_stops_the_others_and_is_what_is_told() {
        let work = |piece: usize, stop: &Cancel| {
            if piece == 3 {
                return Err(RequestError::Required { flag: "--base" }.into());
            }
            if piece > 0 {
                return Ok(());
            }
            loop {
                stop.check()?;
            }
        };
        let error = at_once((1000, 2), &Cancel::default(), &work, &mut || {}).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Request(RequestError::Required { .. })), "{error:?}");
        let cancel = Cancel::default();
        cancel.cancel();
        let error = at_once((9, 2), &cancel, &work, &mut || {}).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Stopped), "{error:?}");
    }
}
