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
use crate::storage::address::cure;
use crate::storage::files::write_small;
use crate::storage::location::Location;
use crate::storage::store::Store;

/// What stands in front of a repo id where an output is meant to be one.
const HUB: &str = "hub:";
const TEXT: &[u8] = b"shardfold tries what this store can do, and removes this file\n";

/// Whether a name is that of a file that only tried something, left by a process that was cut off. It may still be made under
/// a temporary name.
pub(crate) fn is_probe(name: &str) -> bool {
    let own = name.strip_prefix('.').filter(|own| own.starts_with(".shardfold.") && own.ends_with(".tmp"));
    own.map_or(name.starts_with(".shardfold.") && name.ends_with(".probe"), |own| own.contains(".probe."))
}

/// Removes what tries left in `dir`.
///
/// # Errors
/// As [`Store::list`] and [`Store::remove`].
pub(crate) fn clear_probes(dir: &Location) -> Result<()> {
    let mut left = dir.list("")?.into_iter().filter(|entry| is_probe(&entry.name));
    left.try_for_each(|entry| dir.remove(&entry.name))
}

/// A name's ending that no other process uses, on this host or another.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    format!("{}-{now:x}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed))
}

/// A staging directory beside another that no other run has.
pub(crate) fn unshared(staging: &Location) -> Location {
    let name = format!("{}-{}", staging.name().unwrap_or_default(), unique());
    staging.beside(&name).unwrap_or_else(|| staging.join(&name))
}

/// Whether a store has the calls that a way of publishing needs.
#[derive(Debug)]
pub(crate) enum Ability {
    /// It has.
    Serves {
        /// Whether its files can be locked.
        is_locked: bool,
    },
    /// It lacks one: the refusal of the output, with the cause and what helps.
    Lacks(Error),
}

/// Tries all that staging does in `dir`.
///
/// # Errors
/// What goes wrong, and is not that a call is refused.
pub(crate) fn probe_store(dir: &Location, output: &Location) -> Result<Ability> {
    let name = format!(".shardfold.{}.probe", unique());
    let mut step = Step::Make;
    let tried = try_all(dir, &name, &mut step);
    if tried.is_err() {
        // It may be there, and is only in the way.
        let _ = dir.remove(&name);
    }
    ability(tried, |error| match step {
        Step::Make => unwritable(output, error),
        step => lacking(output, step, error),
    })
}

/// Tries to write a file once in `dir`, read it and remove it: all that is done where nothing is renamed. Nothing is locked.
///
/// # Errors
/// What goes wrong, and is not that a call is refused.
pub(crate) fn probe_once(dir: &Location, output: &Location) -> Result<Ability> {
    let name = format!(".shardfold.{}.probe", unique());
    let write = || {
        let mut sink = dir.write_once(&name, 2 * TEXT.len() as u64)?;
        sink.write(TEXT)?;
        sink.write(TEXT)?;
        sink.commit()?;
        let found = dir.read_small(&name, 2 * TEXT.len() as u64)?;
        if found.as_deref() != Some(&TEXT.repeat(2)) {
            let error = Error::new(StorageError::Write { path: dir.path_of(&name) });
            return Err(error.because("what was written is not there"));
        }
        dir.remove(&name)
    };
    let tried = write();
    if tried.is_err() {
        // It may be there, and is only in the way.
        let _ = dir.remove(&name);
    }
    ability(tried.map(|()| false), |error| unwritable(output, error))
}

/// What a try came to. A disk that fails is not a store that lacks a call.
fn ability(tried: Result<bool>, refusal: impl FnOnce(Error) -> Error) -> Result<Ability> {
    match tried {
        Ok(is_locked) => Ok(Ability::Serves { is_locked }),
        Err(error) if is_lack(&error) => Ok(Ability::Lacks(refusal(error))),
        Err(error) => Err(refusal(error)),
    }
}

/// Whether a write failed as calls do that a store does not have.
pub(crate) fn is_lack(error: &Error) -> bool {
    use io::ErrorKind::{
        CrossesDevices, ExecutableFileBusy, InvalidInput, NotSeekable, PermissionDenied, ResourceBusy,
        Unsupported,
    };
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    let is_refused = cause.is_none_or(|kind| {
        matches!(
            kind,
            CrossesDevices
                | ExecutableFileBusy
                | InvalidInput
                | NotSeekable
                | PermissionDenied
                | ResourceBusy
                | Unsupported
        )
    });
    is_refused && matches!(error.kind(), ErrorKind::Storage(StorageError::Write { .. }))
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
    // What says more of itself (a spent quota, a full disk) is no matter of what the file system can do.
    let own = error.advice().map(str::to_owned);
    let hint = own.unwrap_or_else(|| {
        format!(
            "the file system there cannot {}, as a mounted bucket cannot: merge to a local disk and copy the result there",
            step.text()
        )
    });
    Error::new(OutputError::OutputUnwritable { path: output.path() }).because(error).hint(hint)
}

/// The refusal of an output in which nothing can be made because of `error`; other errors as they are.
pub(crate) fn unwritable(output: &Location, error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Storage(StorageError::Write { .. })) {
        return error;
    }
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let (kind, text) = (cause.map(io::Error::kind), cause.map(ToString::to_string));
    let hint = match kind {
        Some(io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
            return lacking(output, Step::Make, error);
        }
        Some(io::ErrorKind::ReadOnlyFilesystem) => "it is mounted read-only: name another output",
        Some(io::ErrorKind::PermissionDenied) => "nothing may be created there: name another output",
        Some(io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory) => {
            "a part of the path is a file: name another output"
        }
        Some(io::ErrorKind::NotFound) => "make sure that the directory above it can be made",
        _ => error.advice().unwrap_or("run the same command again, or name an output on another disk"),
    };
    let refused = Error::new(OutputError::OutputUnwritable { path: output.path() }).hint(hint);
    match text {
        Some(text) => refused.because(text),
        None => refused.because(error),
    }
}

/// Fails if an output is named as a URL, which would be taken for a directory of that name.
///
/// # Errors
/// [`OutputError::OutputUnwritable`].
pub(crate) fn check_no_url(output: &Location) -> Result<()> {
    if output.is_write_once() {
        // It is what its URL says.
        return Ok(());
    }
    let path = output.path();
    let text = path.to_string_lossy();
    if let Some(name) = text.strip_prefix(HUB).map(str::to_owned) {
        let error =
            Error::new(OutputError::OutputUnwritable { path }).because("nothing is written to the hub");
        return Err(error.hint(format!("name a local directory, then `hf upload {name} DIRECTORY`")));
    }
    if !is_url(&text) {
        return Ok(());
    }
    let cure = cure(&text.replacen(":/", "://", 1).replacen(":///", "://", 1));
    let error = Error::new(OutputError::OutputUnwritable { path }).because("it is a URL");
    let local = "name a local directory, and copy the result from there";
    Err(error.hint(cure.map_or_else(|| local.to_owned(), |cure| format!("{local}; {cure}"))))
}

/// Whether a path begins with a scheme. Taking a path apart may have left one of its slashes.
fn is_url(path: &str) -> bool {
    let scheme = path.split_once(":/").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| scheme.len() > 1 && scheme.chars().all(|c| c.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::Memory;
    use crate::storage::testing::faulty::Faulty;
    use crate::storage::testing::script::{Failure, Operation};

    #[test]
    fn a_spent_disk_is_not_taken_for_what_the_store_cannot_do() {
        for (kind, is_of_store) in [
            (io::ErrorKind::StorageFull, false),
            (io::ErrorKind::QuotaExceeded, false),
            (io::ErrorKind::Other, true),
        ] {
            let store = Faulty::new(Memory::new()).failing(Operation::Write, 2, Failure::Kind(kind));
            let dir = Location::new(store);
            let error = probe_store(&dir, &dir.join("out")).expect_err("the second write fails");
            assert!(
                matches!(error.kind(), ErrorKind::Output(OutputError::OutputUnwritable { .. })),
                "{error:?}"
            );
            let advice = error.advice().expect("what helps");
            assert_eq!(advice.contains("as a mounted bucket cannot"), is_of_store, "{advice}");
        }
    }

    #[test]
    fn a_disk_that_fails_is_no_missing_directory() {
        for (kind, advice) in [
            (io::ErrorKind::NotFound, "make sure that the directory above it can be made"),
            (io::ErrorKind::Other, "run the same command again, or name an output on another disk"),
        ] {
            let error = Error::new(StorageError::Write { path: "o".into() }).because(io::Error::from(kind));
            assert_eq!(unwritable(&Location::of_path("o"), error).advice(), Some(advice));
        }
    }

    #[test]
    fn what_a_try_leaves_is_known() {
        for name in [".shardfold.1-a-0.probe", "..shardfold.1-a-0.probe.1-7.tmp"] {
            assert!(is_probe(name), "{name}");
        }
        for name in
            [".shardfold.partial", "shardfold.1.probe", "..shardfold.x.tmp", ".shardfold.journal.1-0.tmp"]
        {
            assert!(!is_probe(name), "{name}");
        }
    }

    #[test]
    fn urls_are_no_directories() {
        for url in ["s3://bucket/x", "hf://org/name", "https://host", "hub:org/name"] {
            assert!(check_no_url(&Location::of_path(url)).is_err(), "{url}");
        }
        for path in ["a/b", "/s3:/x", "a://b", "dir with space/x", "x:y", "./hub:x"] {
            assert!(check_no_url(&Location::of_path(path)).is_ok(), "{path}");
        }
    }
}
