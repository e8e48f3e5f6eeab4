//! Channels of many senders and receivers on the model checker's locks, by the names and errors that crossbeam's have.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use crossbeam_channel::{RecvError, RecvTimeoutError, SendError, TryRecvError, TrySendError};
use shuttle::sync::{Condvar, Mutex, MutexGuard};

use crate::threads::model::{Timeouts, timeouts};

/// A channel that holds so many messages.
pub(crate) fn bounded<T>(room: usize) -> (Sender<T>, Receiver<T>) {
    let queue = Queue { messages: VecDeque::new(), room, senders: 1, receivers: 1 };
    let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new() });
    (Sender(shared.clone()), Receiver(shared))
}

/// A channel that holds any number.
pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    bounded(usize::MAX)
}

struct Shared<T> {
    queue: Mutex<Queue<T>>,
    changed: Condvar,
}

struct Queue<T> {
    messages: VecDeque<T>,
    room: usize,
    senders: usize,
    receivers: usize,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().expect("a check that panics ends")
    }

    fn wait<'q>(&self, queue: MutexGuard<'q, Queue<T>>) -> MutexGuard<'q, Queue<T>> {
        self.changed.wait(queue).expect("a check that panics ends")
    }
}

/// Where messages go in.
pub(crate) struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    pub(crate) fn send(&self, message: T) -> Result<(), SendError<T>> {
        let mut queue = self.0.lock();
        while queue.receivers > 0 && queue.messages.len() >= queue.room {
            queue = self.0.wait(queue);
        }
        if queue.receivers == 0 {
            return Err(SendError(message));
        }
        queue.messages.push_back(message);
        self.0.changed.notify_all();
        Ok(())
    }

    pub(crate) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut queue = self.0.lock();
        if queue.receivers == 0 {
            return Err(TrySendError::Disconnected(message));
        }
        if queue.messages.len() >= queue.room {
            return Err(TrySendError::Full(message));
        }
        queue.messages.push_back(message);
        self.0.changed.notify_all();
        Ok(())
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        self.0.lock().senders += 1;
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.lock().senders -= 1;
        self.0.changed.notify_all();
    }
}

/// Where they come out.
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

impl<T> Receiver<T> {
    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        let mut queue = self.0.lock();
        while queue.messages.is_empty() && queue.senders > 0 {
            queue = self.0.wait(queue);
        }
        let message = queue.messages.pop_front().ok_or(RecvError)?;
        self.0.changed.notify_all();
        Ok(message)
    }

    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut queue = self.0.lock();
        let Some(message) = queue.messages.pop_front() else {
            let is_open = queue.senders > 0;
            return Err(if is_open { TryRecvError::Empty } else { TryRecvError::Disconnected });
        };
        self.0.changed.notify_all();
        Ok(message)
    }

    pub(crate) fn recv_timeout(&self, _: Duration) -> Result<T, RecvTimeoutError> {
        if timeouts() == Timeouts::Never {
            return self.recv().map_err(|RecvError| RecvTimeoutError::Disconnected);
        }
        if let Ok(message) = self.try_recv() {
            return Ok(message);
        }
        shuttle::thread::yield_now();
        self.try_recv().map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }

    pub(crate) fn try_iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Receiver<T> {
        self.0.lock().receivers += 1;
        Receiver(self.0.clone())
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.receivers -= 1;
        // Nobody takes them any more. What they hold goes back without this lock.
        let messages =
            if queue.receivers == 0 { std::mem::take(&mut queue.messages) } else { VecDeque::new() };
        drop(queue);
        self.0.changed.notify_all();
        drop(messages);
    }
}

impl<'r, T> IntoIterator for &'r Receiver<T> {
    type Item = T;
    type IntoIter = Box<dyn Iterator<Item = T> + 'r>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}
