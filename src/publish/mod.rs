//! Where the result appears: whole, or not at all.
//!
//! ```text
//!  OUTPUT absent, or an empty folder   → staged in OUTPUT.partial beside it, renamed when whole   (rename.rs)
//!  OUTPUT an empty mount point, or
//!  nothing can be made beside it       → staged inside it, moved into place, config last          (into_place.rs)
//!  OUTPUT holds this plan's result     → already done, after its hashes were checked
//!  OUTPUT holds anything else          → refused, and left as it is
//! ```
//!
//! One way is one file and one row in `WAYS`. What is staged has a journal with the plan's digest, and a lock that is held
//! until it is shown, so that two processes do not write one output and a later run knows whose leavings it found.

#![allow(clippy::disallowed_methods, reason = "publishing is renaming and removing files")]

pub(crate) mod card;
pub(crate) mod into_place;
pub(crate) mod journal;
pub(crate) mod record;
pub(crate) mod rename;
pub(crate) mod staging;

use crate::publish::record::Record;
use crate::publish::staging::Staging;
use std::path::{Path, PathBuf};

use crate::cancel::Cancel;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::storage::files::is_mount_point;
use crate::storage::list::{State, resolved, state};

/// One way of making a staged result visible.
pub(crate) trait Publish: Sync {
    /// Where the result for `output` is staged, if this way serves for it.
    fn staging(&self, output: &Path, state: State) -> Option<PathBuf>;

    /// Makes what is staged in `staging` visible as `output`, so that a power cut cannot undo it.
    ///
    /// # Errors
    /// [`ErrorKind::OutputHolds`] if something appeared there, [`ErrorKind::OutputUnwritable`] or [`ErrorKind::Write`];
    /// what is staged stays.
    fn publish(&self, staging: &Path, output: &Path) -> Result<()>;
}

/// Every way, in the order in which they are tried.
static WAYS: &[&dyn Publish] = &[&rename::Rename, &into_place::IntoPlace];

/// What is to be done about an output.
pub(crate) enum Output {
    /// It is there already: the result of the same plan, as it was written.
    AlreadyDone,
    /// It can be made.
    Open(Way),
}

/// How and where an output will be made.
pub(crate) struct Way {
    output: PathBuf,
    staging: PathBuf,
    publish: &'static dyn Publish,
}

/// Looks at `output` and decides. Writes nothing.
///
/// # Errors
/// [`ErrorKind::OutputHolds`] if it, or what is staged for it, is something else; [`ErrorKind::OutputDamaged`] if it is the
/// result of this plan but not as it was written.
pub(crate) fn look(output: &Path, digest: &str, cancel: &Cancel) -> Result<Output> {
    let output = real(output)?;
    let now = state(&output)?;
    if now == State::Folder {
        if let Some(record) = Record::read(&output)?
            && record.plan == digest
        {
            record.check(&output, cancel)?;
            return Ok(Output::AlreadyDone);
        }
        let inside = into_place::staged_in(&output);
        if staging::owner(&inside)?.as_deref() == Some(digest) {
            return Ok(Output::Open(Way { output, staging: inside, publish: &into_place::IntoPlace }));
        }
    }
    if matches!(now, State::Folder | State::Other) {
        let error = Error::new(ErrorKind::OutputHolds { path: output });
        return Err(error.hint("name an output that does not exist yet, or an empty folder"));
    }
    let ways = WAYS.iter().copied();
    let found =
        ways.filter_map(|publish| publish.staging(&output, now).map(|staging| (publish, staging))).next();
    let Some((publish, staging)) = found else {
        return Err(ErrorKind::OutputUnwritable { path: output }.into());
    };
    match (state(&staging)?, staging::owner(&staging)?) {
        (State::Absent | State::EmptyFolder, _) => {}
        (_, Some(owner)) if owner == digest => {}
        _ => {
            let error = Error::new(ErrorKind::OutputHolds { path: staging });
            return Err(
                error.hint("it was begun by a merge of other inputs: remove it, or name another output")
            );
        }
    }
    Ok(Output::Open(Way { output, staging, publish }))
}

/// The output's path with symlinks resolved, so that what is staged beside it is on the same file system.
fn real(output: &Path) -> Result<PathBuf> {
    if output.exists() {
        return Ok(resolved(output));
    }
    match (output.parent(), output.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            Ok(resolved(parent).join(name))
        }
        _ => Err(ErrorKind::OutputUnwritable { path: output.to_owned() }.into()),
    }
}

/// Whether a new name can be made beside `output`: it is no mount point, and its folder can be written to.
fn has_room_beside(output: &Path) -> bool {
    let Some(parent) = output.parent() else { return false };
    !is_mount_point(output) && staging::is_writable(parent)
}

impl Way {
    /// Where the result will be.
    pub(crate) fn output(&self) -> &Path {
        &self.output
    }

    /// The folder whose file system must have room.
    pub(crate) fn folder(&self) -> &Path {
        self.staging.parent().unwrap_or(&self.staging)
    }

    /// Begins: makes the staging folder, locks it, and clears what an earlier run of the same plan left in it.
    ///
    /// # Errors
    /// [`ErrorKind::OutputInUse`] if another process has it or had it since it was looked at,
    /// [`ErrorKind::OutputUnwritable`].
    pub(crate) fn begin(&self, digest: &str) -> Result<Staging> {
        let staging = Staging::begin(&self.staging, digest)?;
        let is_taken = match self.staging.starts_with(&self.output) {
            true => Record::read(&self.output)?.is_some(),
            false => !matches!(state(&self.output)?, State::Absent | State::EmptyFolder),
        };
        if is_taken {
            staging.discard();
            let error = Error::new(ErrorKind::OutputInUse { path: self.output.clone() });
            return Err(error.hint(
                "it has finished just now: run the command again to see whether it is the same merge",
            ));
        }
        Ok(staging)
    }

    /// Publishes what was staged.
    ///
    /// # Errors
    /// As [`Publish::publish`].
    pub(crate) fn publish(&self, staging: Staging) -> Result<()> {
        let (folder, _lock) = staging.finish()?;
        self.publish.publish(&folder, &self.output)
    }
}
