//! [`FreshDir`]: a result of a few files, made beside an output and then shown whole. It has no journal: what is cut off is made anew.

use crate::cancel::Cancel;
use crate::error::output::OutputError;
use crate::error::{Error, Result};
use crate::publish::probe::{Ability, check_no_url, probe_store, unshared};
use crate::publish::rename::{Rename, staged_beside};
use crate::publish::way::{Publish, State};
use crate::storage::location::Location;
use crate::storage::store::Store;

/// A directory that nobody sees yet; dropped without being published, it is removed.
pub(crate) struct FreshDir {
    output: Location,
    staging: Location,
    is_published: bool,
}

impl FreshDir {
    /// A directory beside `output`, at which nothing is or an empty directory.
    ///
    /// # Errors
    /// [`OutputError::OutputHolds`]; [`OutputError::OutputUnwritable`] where nothing can be made beside it.
    pub(crate) fn begin(output: &Location) -> Result<FreshDir> {
        check_no_url(output)?;
        if matches!(State::of(output)?, State::Dir | State::Other) {
            let error = Error::new(OutputError::OutputHolds { path: output.path() });
            return Err(error.hint("name an output that does not exist yet, or an empty directory"));
        }
        let unwritable = || Error::new(OutputError::OutputUnwritable { path: output.path() });
        let staging = staged_beside(output).ok_or_else(unwritable)?;
        match probe_store(&output.parent().ok_or_else(unwritable)?, output)? {
            Ability::Serves { .. } => {}
            Ability::Lacks(error) => return Err(error),
        }
        Ok(FreshDir { output: output.clone(), staging: unshared(&staging), is_published: false })
    }

    /// What files are written to.
    pub(crate) fn dir(&self) -> &Location {
        &self.staging
    }

    /// Shows it under the output's name.
    ///
    /// # Errors
    /// As [`Publish::publish`]; then nothing is there.
    pub(crate) fn publish(mut self, cancel: &Cancel) -> Result<()> {
        self.staging.sync("")?;
        Rename.publish(&self.staging, &self.output, cancel)?;
        self.is_published = true;
        Ok(())
    }
}

impl Drop for FreshDir {
    fn drop(&mut self) {
        if !self.is_published {
            // It is only in the way.
            let _ = self.staging.remove_dir("");
        }
    }
}
