//! The model checker behind the names of [`threads`](crate::threads), and how a check is run in it.
//!
//! It runs a check many times on one thread of the system, each time in another order of steps; a step ends wherever a
//! thread takes a lock, an atomic, a message. It is not exhaustive: orders are drawn at random, half of them such that few
//! changes of thread decide (probabilistic concurrency testing, Burckhardt et al. 2010). Every access is sequentially
//! consistent in it, so what a weaker order allows is not found here.

pub(crate) mod channel;
pub(crate) mod once;
pub(crate) mod thread;

use std::cell::Cell;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, MaxSteps, Runner};

/// Steps after which a run is taken for one that never ends; the longest has some ten thousand.
const MOST_STEPS: usize = 300_000;
/// Changes of thread that decide, in half of the orders.
const DEPTH: usize = 3;
/// The kernels of a debug build need some.
const STACK: usize = 1 << 20;
/// The same orders in every run; `SHUTTLE_RANDOM_SEED` sets another.
const SEED: u64 = 0x5eed;

/// Whether a wait with a timeout ends by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeouts {
    /// Whenever what is waited for is not there at once: a wait can be too short, whatever its length.
    Fire,
    /// Never: who needs a timeout to go on is found, as it waits for ever.
    Never,
}

thread_local! {
    static TIMEOUTS: Cell<Timeouts> = const { Cell::new(Timeouts::Fire) };
}

/// Whether timeouts fire in the check that runs on this thread of the system.
pub(crate) fn timeouts() -> Timeouts {
    TIMEOUTS.get()
}

/// Runs `check` in so many orders, and fails the test where one of them panics, waits for ever, or never ends.
pub(crate) fn explore(timeouts: Timeouts, orders: usize, check: impl Fn() + Clone + Send + Sync + 'static) {
    TIMEOUTS.set(timeouts);
    let mut config = Config::new();
    config.stack_size = STACK;
    config.max_steps = MaxSteps::FailAfter(MOST_STEPS);
    config.silence_warnings = true;
    let random = RandomScheduler::new_from_seed(SEED, orders / 2);
    Runner::new(random, config.clone()).run(check.clone());
    let few = PctScheduler::new_from_seed(SEED, DEPTH, orders.div_ceil(2));
    Runner::new(few, config).run(check);
    println!("{orders} orders");
}

/// A number below `end` that belongs to the order that is tried.
pub(crate) fn draw(end: usize) -> usize {
    use shuttle::rand::Rng;
    shuttle::rand::thread_rng().gen_range(0..end)
}
