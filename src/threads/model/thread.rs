//! The model checker's threads, by the names that std's have.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use shuttle::thread::{JoinHandle, Scope, ScopedJoinHandle, panicking, scope};

use shuttle::sync::{Condvar, Mutex};

use crate::threads::model::{Timeouts, timeouts};

thread_local! {
    /// Threads that are had before one is refused; none if none is.
    static GRANTED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Makes a thread, or is refused one.
pub(crate) struct Builder;

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder
    }

    pub(crate) fn spawn<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        may_spawn()?;
        Ok(shuttle::thread::spawn(work))
    }

    pub(crate) fn spawn_scoped<'scope, T: Send + 'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        work: impl FnOnce() -> T + Send + 'scope,
    ) -> io::Result<ScopedJoinHandle<'scope, T>> {
        may_spawn()?;
        Ok(scope.spawn(work))
    }
}

/// From now on, on this thread of the system, one thread is refused when so many were had.
pub(crate) fn refuse_after(granted: Option<usize>) {
    GRANTED.set(granted);
}

fn may_spawn() -> io::Result<()> {
    let Some(granted) = GRANTED.get() else { return Ok(()) };
    GRANTED.set(granted.checked_sub(1));
    if granted > 0 { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
}

/// A thread that can be woken. The checker's own may wake without a reason, and would hide that nobody wakes them.
#[derive(Clone)]
pub(crate) struct Thread(Arc<Wake>);

#[derive(Default)]
struct Wake {
    is_woken: Mutex<bool>,
    changed: Condvar,
}

shuttle::thread_local! {
    static WAKE: Arc<Wake> = Arc::default();
}

impl Thread {
    pub(crate) fn unpark(&self) {
        *self.0.is_woken.lock().expect("a check that panics ends") = true;
        self.0.changed.notify_one();
    }
}

/// The thread that asks.
pub(crate) fn current() -> Thread {
    Thread(WAKE.with(Arc::clone))
}

/// Lets others go on; without timeouts, until this thread is woken.
pub(crate) fn park_timeout(_: Duration) {
    if timeouts() == Timeouts::Fire {
        return shuttle::thread::yield_now();
    }
    let Thread(wake) = current();
    let mut is_woken = wake.is_woken.lock().expect("a check that panics ends");
    while !*is_woken {
        is_woken = wake.changed.wait(is_woken).expect("a check that panics ends");
    }
    *is_woken = false;
}
