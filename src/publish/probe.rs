//! What a store can do, tried with a tiny file before anything is read or written: a store that cannot rename, append or
//! sync is refused at once, and one without locks gets staging directories that nobody shares.

use std::error::Error as _;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::kind::ErrorKind;
use crate::error::output::OutputError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::files::write_small;
use crate::storage::location::Location;
use crate::storage::store::Store;

const TEXT: &[u8] = b"shardfold tries what this store can do, and removes this file\n";

/// A name's ending that no other process uses, on this host or another.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    format!("{}-{now:x}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed))
}

/// Tries all that staging does in `dir`. Returns whether its files can be locked.
///
/// # Errors
/// [`OutputError::OutputUnwritable`] for `output` where something cannot be done at all, with the cause and what helps.
pub(crate) fn probe_store(dir: &Location, output: &Location) -> Result<bool> {
    let name = format!(".shardfold.{}.probe", unique());
    let mut step = Step::Make;
    let tried = try_all(dir, &name, &mut step);
    if tried.is_err() {
        // It may be there, and is only in the way.
        let _ = dir.remove(&name);
    }
    tried.map_err(|error| match step {
        Step::Make => unwritable(output, error),
        step => lacking(output, step, error),
    })
}

/// What is tried, one after the other.
#[derive(Clone, Copy)]
enum Step {
    Make,
    Append,
    Lock,
    Remove,
}

impl Step {
    fn text(self) -> &'static str {
        match self {
            Step::Make => "rename or sync a file",
            Step::Append => "append to a file",
            Step::Lock => "open a file again",
            Step::Remove => "remove a file",
        }
    }
}

fn try_all(dir: &Location, name: &str, step: &mut Step) -> Result<bool> {
    write_small(dir, name, TEXT)?;
    *step = Step::Append;
    let mut patch = dir.patch(name)?;
    patch.write_at(b"\n", TEXT.len() as u64)?;
    patch.sync()?;
    drop(patch);
    let found = dir.stat(name)?.map(|stat| stat.bytes);
    if found != Some(TEXT.len() as u64 + 1) {
        let error = Error::new(StorageError::Write { path: dir.path_of(name) });
        return Err(error.because("what was written is not there"));
    }
    *step = Step::Lock;
    let is_locked = dir.lock(name)?.is_held();
    *step = Step::Remove;
    dir.remove(name)?;
    Ok(is_locked)
}

/// The refusal of an output on a store that lacks something, whatever its error says.
fn lacking(output: &Location, step: Step, error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Storage(StorageError::Write { .. })) {
        return error;
    }
    let hint = format!(
        "the file system there cannot {}, as a mounted bucket cannot: merge to a local disk and copy the result there",
        step.text()
    );
    Error::new(OutputError::OutputUnwritable { path: output.path() }).because(error).hint(hint)
}

/// The refusal of an output in which nothing can be made because of `error`; other errors as they are.
pub(crate) fn unwritable(output: &Location, error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Storage(StorageError::Write { .. })) {
        return error;
    }
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let path = output.path();
    let hint = match cause {
        Some(io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
            return lacking(output, Step::Make, error);
        }
        Some(io::ErrorKind::ReadOnlyFilesystem) => Some("it is mounted read-only: name another output"),
        Some(io::ErrorKind::PermissionDenied) => Some("nothing may be created there: name another output"),
        _ if is_url(&path.to_string_lossy()) => Some("OUTPUT is a directory; a URL is not accepted"),
        _ => None,
    };
    let refused = Error::new(OutputError::OutputUnwritable { path }).because(error);
    hint.into_iter().fold(refused, Error::hint)
}

/// Whether a path is a URL as it was typed, or as joining it to a directory left it.
fn is_url(path: &str) -> bool {
    ["s3:/", "gs:/", "hf:/", "http:/", "https:/", "az:/"].iter().any(|start| path.contains(start))
}
