//! [`CloudClient`]: requests to an object store, which are waited for while it is looked whether work should stop.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use object_store::path::Path as Key;
use object_store::{Error as CloudError, ObjectStore};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cancel::Cancel;
use crate::error::kind::ErrorKind;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::rules;
use crate::storage::shown::shown;

/// How often it is looked whether work should stop.
const LOOK: Duration = Duration::from_millis(100);
/// How long it is waited in all, once work should stop, for requests that clear away what it made.
const CLEARING: Duration = Duration::from_millis(1500);
/// How long it is waited for one whose answer nobody needs.
const ABORTING: Duration = Duration::from_secs(10);
/// Where clouds keep the credentials of a machine: whoever asks there has none of his own.
const MACHINE: [&str; 2] = ["169.254.169.254", "metadata.google.internal"];

/// An object store, and the thread that its requests run in.
pub(crate) struct CloudClient {
    /// The bucket.
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// What runs in its thread, which ends when the sender is gone.
    requests: Handle,
    _end: oneshot::Sender<()>,
    /// What ends every wait.
    pub(crate) cancel: Cancel,
    /// What ends every request, also those that nobody waits for.
    ends: Cancel,
    /// When it was seen first that work should stop.
    stopped: OnceLock<Instant>,
    /// What messages call the bucket.
    pub(crate) root: PathBuf,
    /// What helps where access is refused.
    pub(crate) cure: &'static str,
}

/// Why there is no answer.
pub(crate) enum NoAnswer {
    /// What the store, or the way to it, says.
    Refused(CloudError),
    /// Work should stop.
    Stopped,
}

impl CloudClient {
    /// For the bucket `objects`, which messages call `root`; of the tokens, the first ends waits, and this client sets the second when
    /// it goes.
    ///
    /// # Errors
    /// [`StorageError::Unreadable`] if no thread can be had.
    pub(crate) fn new(
        objects: Arc<dyn ObjectStore>,
        root: PathBuf,
        cure: &'static str,
        (cancel, ends): (Cancel, Cancel),
    ) -> Result<CloudClient> {
        let unreadable = |cause| Error::new(StorageError::Unreadable { path: root.clone() }).because(cause);
        let (requests, end) = thread_of_requests().map_err(unreadable)?;
        Ok(CloudClient { objects, requests, _end: end, cancel, ends, stopped: OnceLock::new(), root, cure })
    }

    /// The answer to a request, unless work should stop first.
    pub(crate) fn wait<T>(
        &self,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> std::result::Result<T, NoAnswer> {
        let until = |_: Instant| self.cancel.is_cancelled();
        self.poll(request, until)
            .ok_or(NoAnswer::Stopped)?
            .map_err(|refusal| NoAnswer::Refused(told(refusal)))
    }

    /// The answer to a request that removes something: also when work should stop, for a moment.
    pub(crate) fn wait_to_remove<T>(
        &self,
        request: impl Future<Output = object_store::Result<T>>,
    ) -> std::result::Result<T, NoAnswer> {
        let answer = self.poll(request, |_| self.is_long_stopped());
        answer.ok_or(NoAnswer::Stopped)?.map_err(|refusal| NoAnswer::Refused(told(refusal)))
    }

    /// Does a request that throws away what nobody wants, as far as that takes no longer than a moment.
    pub(crate) fn throw_away<T>(&self, request: impl Future<Output = object_store::Result<T>>) {
        // Nobody is left to tell.
        let _ = self.poll(request, |started| self.is_long_stopped() || started.elapsed() > ABORTING);
    }

    fn is_long_stopped(&self) -> bool {
        self.cancel.is_cancelled() && self.stopped.get_or_init(Instant::now).elapsed() > CLEARING
    }

    /// Does a request while others are made.
    pub(crate) fn start<T: Send + 'static>(
        &self,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> JoinHandle<object_store::Result<T>> {
        self.requests.spawn(request)
    }

    /// What a request comes to; none if `is_over` says so first. It is polled by this thread, so that it may borrow, and its
    /// caller may be a part of another runtime.
    fn poll<T>(&self, request: impl Future<Output = T>, is_over: impl Fn(Instant) -> bool) -> Option<T> {
        let _entered = self.requests.enter();
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let (mut context, mut request) = (Context::from_waker(&waker), pin!(request));
        let started = Instant::now();
        loop {
            if let Poll::Ready(done) = request.as_mut().poll(&mut context) {
                return Some(done);
            }
            if is_over(started) {
                return None;
            }
            thread::park_timeout(LOOK);
        }
    }

    /// What messages call the object, or all that is below its name.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    /// The key of a name.
    ///
    /// # Errors
    /// [`StorageError::LeadsOut`]; [`StorageError::Unreadable`] for a name that no object can have.
    pub(crate) fn key(&self, name: &str) -> Result<Key> {
        rules::check_dir(name)?;
        Key::parse(name).map_err(|cause| {
            Error::new(StorageError::Unreadable { path: self.path_of(name) }).because(cause.to_string())
        })
    }

    /// The error of reading or looking at `path`, which is `what` if that is not there.
    pub(crate) fn unreadable(&self, what: &'static str, path: &Path, cause: NoAnswer) -> Error {
        match cause {
            NoAnswer::Refused(CloudError::NotFound { .. }) => rules::missing(what, path),
            cause => self.explained(StorageError::Unreadable { path: shown(path) }, cause),
        }
    }

    /// The error of changing `path`.
    pub(crate) fn unwritable(&self, path: &Path, cause: NoAnswer) -> Error {
        self.explained(StorageError::Write { path: shown(path) }, cause)
    }

    /// `error`, with what it came of and what helps.
    pub(crate) fn explained(&self, error: StorageError, cause: NoAnswer) -> Error {
        let NoAnswer::Refused(refusal) = cause else { return ErrorKind::Stopped.into() };
        let text = text_of(&refusal);
        let hint = match &refusal {
            CloudError::PermissionDenied { .. } | CloudError::Unauthenticated { .. } => Some(self.cure),
            _ if MACHINE.iter().any(|machine| text.contains(machine)) => Some(self.cure),
            CloudError::NotFound { .. } => {
                Some("the bucket must be there already, and is looked for in the region that is set")
            }
            _ => None,
        };
        // Of another kind than what a file system lacks: nothing else would do where this does not.
        let error = Error::new(error).because(io::Error::other(text));
        hint.into_iter().fold(error, Error::hint)
    }
}

impl Drop for CloudClient {
    fn drop(&mut self) {
        self.ends.cancel();
    }
}

/// Starts a thread that requests are made in until the sender is gone. A runtime of several threads would take a hundredth of all that is
/// released, and do no more: what blocks has threads of its own.
fn thread_of_requests() -> io::Result<(Handle, oneshot::Sender<()>)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let requests = runtime.handle().clone();
    let (end, ended) = oneshot::channel();
    thread::Builder::new().name("cloud".to_owned()).spawn(move || {
        // Either way it ends.
        let _ = runtime.block_on(ended);
        // Nothing that is left is waited for.
        runtime.shutdown_background();
    })?;
    Ok((requests, end))
}

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// An error as what it is: of lists, the status of the answer is in its words alone.
fn told(refusal: CloudError) -> CloudError {
    let text = text_of(&refusal);
    let CloudError::Generic { source, .. } = refusal else { return refusal };
    let (path, has) = (String::new(), |status: &str| text.contains(&format!("status code: {status}")));
    if has("404") {
        CloudError::NotFound { path, source }
    } else if has("401") || has("403") {
        CloudError::PermissionDenied { path, source }
    } else {
        CloudError::Generic { store: "store", source }
    }
}

/// What went wrong, in one line, without the bodies of answers: each cause behind the one that it explains, unless that says it.
fn text_of(refusal: &CloudError) -> String {
    const MOST_CHARS: usize = 400;
    let mut text = refusal.to_string();
    let mut cause = std::error::Error::source(refusal);
    while let Some(deeper) = cause {
        let own = deeper.to_string();
        if !text.contains(&own) {
            text = format!("{text}: {own}");
        }
        cause = deeper.source();
    }
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = line.join(" ");
    match line.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
