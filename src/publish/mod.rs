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
//! until it is shown, so that two processes do not write one output and a later run knows whose leftovers it found.
//! Everything here goes through the [`Store`](crate::storage::store::Store) of the output, so that it can be tried in memory
//! and with faults.

pub(crate) mod card;
pub(crate) mod into_place;
pub(crate) mod journal;
pub(crate) mod record;
pub(crate) mod rename;
pub(crate) mod staging;
pub(crate) mod target;

use crate::error::Result;
use crate::publish::target::State;
use crate::storage::location::Location;

/// One way of making a staged result visible.
pub(crate) trait Publish: Sync {
    /// Where the result for `output` is staged, if this way serves for it.
    fn staging(&self, output: &Location, state: State) -> Option<Location>;

    /// Makes what is staged in `staging` visible as `output`, so that a power cut cannot undo it.
    ///
    /// # Errors
    /// [`ErrorKind::OutputHolds`](crate::error::kind::ErrorKind::OutputHolds) if something appeared there,
    /// [`ErrorKind::Write`](crate::error::kind::ErrorKind::Write); what is staged stays.
    fn publish(&self, staging: &Location, output: &Location) -> Result<()>;
}

/// Every way, in the order in which they are tried.
static WAYS: &[&dyn Publish] = &[&rename::Rename, &into_place::IntoPlace];
