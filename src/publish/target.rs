//! An output as it is found, and what is to be done about it.

use crate::cancel::Cancel;
use crate::error::kind::ErrorKind;
use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::publish::into_place::{IntoPlace, staged_in};
use crate::publish::provenance::Provenance;
use crate::publish::rename::{Rename, staged_beside};
use crate::publish::staging::{Owner, Staging, owner};
use crate::publish::way::{Publish, State};
use crate::storage::location::Location;
use crate::storage::store::Store;

/// Every way, in the order in which they are tried.
static WAYS: &[&dyn Publish] = &[&Rename, &IntoPlace];

/// What is to be done about an output.
pub(crate) enum Probed {
    /// It is there already: the result of the same plan, as it was written.
    AlreadyDone,
    /// It can be made.
    Ready(OutputTarget),
}

/// How and where an output will be made.
pub(crate) struct OutputTarget {
    output: Location,
    staging: Location,
    way: &'static dyn Publish,
}

/// Looks at `output` and decides. Writes nothing.
///
/// # Errors
/// [`OutputError::OutputHolds`] if it, or what is staged for it, is something else; [`OutputError::OutputDamaged`] if it is the
/// result of this plan but not as it was written.
pub(crate) fn probe(output: &Location, digest: &str, cancel: &Cancel) -> Result<Probed> {
    let output = output.clone();
    let state = State::of(&output)?;
    if state == State::Dir {
        if let Some(record) = Provenance::read(&output)?
            && record.plan == digest
        {
            record.check(&output, cancel)?;
            return Ok(Probed::AlreadyDone);
        }
        if let Some(target) = begun_inside(&output, digest)? {
            return Ok(Probed::Ready(target));
        }
    }
    if matches!(state, State::Dir | State::Other) {
        let error = Error::new(ErrorKind::Output(OutputError::OutputHolds { path: output.path() }));
        return Err(error.hint("name an output that does not exist yet, or an empty directory"));
    }
    let found = WAYS.iter().find_map(|way| Some((*way, way.staging(&output, state)?)));
    let Some((way, staging)) = found else {
        return Err(OutputError::OutputUnwritable { path: output.path() }.into());
    };
    match owner(&staging)? {
        Owner::Nobody => {}
        Owner::Plan(plan) if plan == digest => {}
        Owner::Plan(_) | Owner::Unknown => {
            let error = Error::new(OutputError::OutputHolds { path: staging.path() });
            return Err(
                error.hint("it was begun by a merge of other inputs: remove it, or name another output")
            );
        }
    }
    Ok(Probed::Ready(OutputTarget { output, staging, way }))
}

/// How to go on with a result that an earlier run of the same plan staged inside the output.
fn begun_inside(output: &Location, digest: &str) -> Result<Option<OutputTarget>> {
    let staging = staged_in(output);
    if staging.stat("")?.is_none() {
        return Ok(None);
    }
    let is_ours = match owner(&staging)? {
        Owner::Plan(plan) => plan == digest,
        // It was cut off before it began: then nothing else is there.
        Owner::Nobody => output.list("")?.len() == 1,
        Owner::Unknown => false,
    };
    Ok(is_ours.then(|| OutputTarget { output: output.clone(), staging, way: &IntoPlace }))
}

impl OutputTarget {
    /// Where the result will be.
    pub(crate) fn output(&self) -> &Location {
        &self.output
    }

    /// The directory whose file system must have room.
    pub(crate) fn dir(&self) -> Location {
        self.staging.parent().unwrap_or_else(|| self.staging.clone())
    }

    /// Begins: makes the staging directory, locks it, and clears what an earlier run of the same plan left in it.
    ///
    /// # Errors
    /// [`OutputError::OutputInUse`] if another process has it or had it since it was looked at,
    /// [`OutputError::OutputUnwritable`].
    pub(crate) fn begin(&self, digest: &str) -> Result<Staging> {
        let staging = Staging::begin(&self.staging, digest)?;
        if self.is_taken()? {
            staging.discard();
            let error = Error::new(OutputError::OutputInUse { path: self.output.path() });
            return Err(error.hint(
                "it has finished just now: run the command again to see whether it is the same merge",
            ));
        }
        self.drop_staged_beside(digest);
        Ok(staging)
    }

    /// Whether another process has put something at the output since it was looked at.
    fn is_taken(&self) -> Result<bool> {
        if self.is_inside() {
            return Ok(Provenance::read(&self.output)?.is_some());
        }
        Ok(!matches!(State::of(&self.output)?, State::Absent | State::EmptyDir))
    }

    fn is_inside(&self) -> bool {
        self.staging.path().starts_with(self.output.path())
    }

    /// Removes what was staged beside an output into which it could only be moved file by file, and the move was cut off.
    fn drop_staged_beside(&self, digest: &str) {
        let Some(beside) = staged_beside(&self.output).filter(|_| self.is_inside()) else { return };
        if owner(&beside).is_ok_and(|owner| matches!(owner, Owner::Plan(plan) if plan == digest)) {
            // It is only in the way, and the next run tries again.
            let _ = beside.remove_dir("");
        }
    }

    /// Publishes what was staged.
    ///
    /// # Errors
    /// As [`Publish::publish`].
    pub(crate) fn publish(&self, staging: Staging) -> Result<()> {
        let (dir, _lock) = staging.finish()?;
        self.way.publish(&dir, &self.output)
    }
}
