//! Work in a thread of its own while the caller's waits without the interpreter lock: it looks for signals, and calls the
//! caller's functions, so that neither Ctrl-C nor an exception waits for the work's end.

use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use shardfold::{Cancel, Event, Reporter};

use crate::errors::to_python;

/// How often a signal is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Whom events are told to.
#[derive(Default)]
pub(crate) struct Listener<'py> {
    /// Called with the text of a note.
    pub(crate) note: Option<Bound<'py, PyAny>>,
    /// Called with the numbers of progress.
    pub(crate) progress: Option<Bound<'py, PyAny>>,
}

/// An event on its way to the caller's thread.
enum Told {
    Note(String),
    /// Bytes written, of how many, and read; the shard, from 1, and their number.
    Progress([u64; 5]),
}

impl Listener<'_> {
    /// Tells what happened; of progress the last news is enough.
    fn tell(&self, first: Told, more: &mut Receiver<Told>) -> PyResult<()> {
        let mut last = None;
        for told in std::iter::once(first).chain(more.try_iter()) {
            match (told, &self.note) {
                (Told::Note(text), Some(note)) => drop(note.call1((text,))?),
                (Told::Note(_), None) => {}
                (Told::Progress(now), _) => last = Some(now),
            }
        }
        if let (Some([written, total, read, shard, shards]), Some(progress)) = (last, &self.progress) {
            progress.call1((written, total, read, shard, shards))?;
        }
        Ok(())
    }
}

/// Sends events to the caller's thread.
struct Sending(Sender<Told>);

impl Reporter for Sending {
    fn event(&mut self, event: &Event<'_>) {
        let told = match event {
            Event::Note(note) => Told::Note(note.to_string()),
            Event::Progress(now) => Told::Progress([
                now.written_bytes,
                now.total_bytes,
                now.read_bytes,
                now.shard as u64 + 1,
                now.shards as u64,
            ]),
            _ => return,
        };
        // The caller listens until the work has ended.
        let _ = self.0.send(told);
    }
}

/// Does `work`, which `cancel` stops, and returns what it gives.
///
/// # Errors
/// What a signal's handler raised (KeyboardInterrupt) or what a function of the listener raised, once the work has stopped; else
/// the work's own error.
pub(crate) fn in_background<T: Send>(
    py: Python<'_>,
    cancel: &Cancel,
    listener: &Listener<'_>,
    work: impl FnOnce(&mut dyn Reporter) -> shardfold::Result<T> + Send,
) -> PyResult<T> {
    let (send, mut events) = channel();
    let (done, raised) = thread::scope(|scope| {
        let working = scope.spawn(move || work(&mut Sending(send)));
        let mut raised = None;
        loop {
            let events = &mut events;
            let told = {
                let waiting = &mut *events;
                py.detach(move || waiting.recv_timeout(LOOK))
            };
            let heard = match told {
                Ok(told) if raised.is_none() => listener.tell(told, events),
                Ok(_) | Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = heard.and_then(|()| py.check_signals()) {
                // Only the first counts; the work is on its way to its end.
                raised.get_or_insert(error);
                cancel.cancel();
            }
        }
        (py.detach(|| working.join()), raised)
    });
    match (raised, done) {
        (Some(raised), _) => Err(raised),
        (None, Ok(done)) => done.map_err(|error| to_python(py, &error)),
        (None, Err(panic)) => resume_unwind(panic),
    }
}
