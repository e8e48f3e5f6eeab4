//! The stop of a run under every order of steps that the model checker tries.

use crate::error::Error;
use crate::error::kind::ErrorKind;
use crate::error::run::RunError;
use crate::pipeline::stop::Stop;
use crate::threads::atomic::{AtomicUsize, Ordering};
use crate::threads::model::{Timeouts, explore};
use crate::threads::thread;

const STAGES: [&str; 3] = ["reader", "worker", "writer"];

fn error_of(stage: &'static str) -> Error {
    Error::new(RunError::NoThread { stage })
}

fn stage_of(error: &Error) -> &'static str {
    let ErrorKind::Run(RunError::NoThread { stage }) = error.kind() else { panic!("{error:?}") };
    stage
}

#[test]
fn whoever_sees_the_stop_finds_the_first_cause_kept() {
    explore(Timeouts::Fire, 3000, || {
        let stop = Stop::default();
        // Stages whose error was raised before any other began to be.
        let (begun, first) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        thread::scope(|scope| {
            for (i, stage) in STAGES.into_iter().enumerate() {
                let (stop, begun, first) = (&stop, &begun, &first);
                scope.spawn(move || {
                    stop.watch(stage, || {
                        // What only follows from the stop must not become its cause.
                        if stop.is_raised() {
                            return Err(ErrorKind::Stopped.into());
                        }
                        begun.fetch_add(1, Ordering::SeqCst);
                        stop.raise(error_of(stage));
                        if begun.load(Ordering::SeqCst) == 1 {
                            first.store(i, Ordering::SeqCst);
                        }
                        Ok(())
                    });
                });
            }
        });
        assert_eq!(stop.ended(), STAGES.len());
        let first = STAGES.get(first.load(Ordering::SeqCst));
        let cause = stage_of(&stop.into_cause().expect("three were raised"));
        assert!(first.is_none_or(|first| *first == cause), "`{cause}` was not the first");
    });
}

#[test]
fn the_end_of_a_stage_wakes_who_waits_for_all() {
    // Without timeouts: a wake that is lost is a wait for ever.
    explore(Timeouts::Never, 2000, || {
        let stop = Stop::default();
        thread::scope(|scope| {
            for stage in STAGES {
                let stop = &stop;
                scope.spawn(move || stop.watch(stage, || Ok(())));
            }
            while stop.ended() < STAGES.len() {
                thread::park_timeout(std::time::Duration::from_millis(100));
            }
        });
        assert!(!stop.is_raised() && stop.into_cause().is_none());
    });
}
