//! [`Tries`]: how often a request is made again, and when.
//!
//! The wait doubles each time and is drawn from half of that to one and a half, so that many hosts that failed together do not
//! come back together. Where the server says when, that counts.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::storage::http::problem::{Failure, ServerProblem};

/// How long a wait is made without a look whether to stop.
pub(crate) const LOOK: Duration = Duration::from_millis(200);
/// Longer waits than this are not made because a server says so.
const LONGEST_ASKED: Duration = Duration::from_secs(300);
/// Longer waits than this are not made for want of an answer.
const LONGEST: Duration = Duration::from_secs(20);

/// How patient a client is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Requests for the same bytes at the most.
    pub(crate) tries: u32,
    /// About how long is waited after the first.
    pub(crate) first_wait: Duration,
    /// How long nothing may come.
    pub(crate) stall: Duration,
    /// How long a host may take to be found, and to answer at all.
    pub(crate) connect: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        let seconds = Duration::from_secs;
        Patience {
            tries: 6,
            first_wait: Duration::from_millis(250),
            stall: seconds(10),
            connect: seconds(10),
        }
    }
}

/// The tries of one request.
pub(crate) struct Tries<'c> {
    patience: Patience,
    cancel: &'c Cancel,
    failed: u32,
}

/// Why a request is not made again.
pub(crate) enum GaveUp {
    /// What was wrong in the end, after so many tries.
    Problem(ServerProblem, u32),
    /// Work should stop.
    Stopped,
}

impl GaveUp {
    /// What to say of it, unless work should stop.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            GaveUp::Problem(problem, 0 | 1) => Some(problem.to_string()),
            GaveUp::Problem(problem, tries) => Some(format!("{problem}, after {tries} tries")),
            GaveUp::Stopped => None,
        }
    }
}

impl<'c> Tries<'c> {
    /// None was made yet.
    pub(crate) fn new(patience: Patience, cancel: &'c Cancel) -> Tries<'c> {
        Tries { patience, cancel, failed: 0 }
    }

    /// Something came: what fails from now on is counted anew.
    pub(crate) fn succeeded(&mut self) {
        self.failed = 0;
    }

    /// One failed: waits until the next is due.
    ///
    /// # Errors
    /// When there is no next.
    pub(crate) fn failed(&mut self, failure: Failure) -> Result<(), GaveUp> {
        let (problem, asked) = match failure {
            Failure::Stopped => return Err(GaveUp::Stopped),
            Failure::Lasting(problem) => return Err(GaveUp::Problem(problem, 1)),
            Failure::Passing(problem, asked) => (problem, asked),
        };
        self.failed += 1;
        if self.failed >= self.patience.tries {
            return Err(GaveUp::Problem(problem, self.failed));
        }
        let usual = self.patience.first_wait.saturating_mul(1 << (self.failed - 1).min(16)).min(LONGEST);
        let wait = asked.map_or(usual.mul_f64(0.5 + drawn()), |asked| asked.min(LONGEST_ASKED));
        if pause(wait, self.cancel) { Ok(()) } else { Err(GaveUp::Stopped) }
    }
}

/// Waits so long; `false` if work should stop.
fn pause(wait: Duration, cancel: &Cancel) -> bool {
    let until = Instant::now() + wait;
    loop {
        if cancel.is_cancelled() {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        sleep(left.min(LOOK));
    }
}

/// A number from 0 to 1 that nobody knows: each state of the standard library's hasher has keys of its own.
fn drawn() -> f64 {
    let word = RandomState::new().build_hasher().finish();
    (word >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passing(asked: Option<Duration>) -> Failure {
        Failure::Passing(ServerProblem::Status { host: "h".to_owned(), status: 503 }, asked)
    }

    #[test]
    fn tries_are_bounded_and_counted_anew_when_something_came() {
        let (cancel, patience) =
            (Cancel::default(), Patience { tries: 3, first_wait: Duration::ZERO, ..Patience::default() });
        let mut tries = Tries::new(patience, &cancel);
        for _ in 0..5 {
            assert!(tries.failed(passing(None)).is_ok() && tries.failed(passing(None)).is_ok());
            tries.succeeded();
        }
        let spent = (0..3).find_map(|_| tries.failed(passing(None)).err());
        let text = spent.and_then(|spent| spent.text());
        assert_eq!(text.as_deref(), Some("`h` answered 503 Service Unavailable, after 3 tries"));
    }

    #[test]
    fn a_wait_ends_when_work_should_stop() {
        let cancel = Cancel::default();
        let stopper = cancel.clone();
        let started = Instant::now();
        std::thread::spawn(move || {
            sleep(Duration::from_millis(50));
            stopper.cancel();
        });
        let asked = Some(Duration::from_secs(200));
        let stopped = Tries::new(Patience::default(), &cancel).failed(passing(asked));
        assert!(matches!(stopped, Err(GaveUp::Stopped)));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn draws_differ() {
        let draws: Vec<f64> = (0..8).map(|_| drawn()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        assert!(draws.iter().any(|draw| (draw - draws[0]).abs() > 1e-9), "{draws:?}");
    }
}
