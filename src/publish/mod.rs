//! Where the result appears: whole, or not at all.
//!
//! ```text
//!  OUTPUT absent, or an empty directory   → staged in OUTPUT.partial beside it, renamed when whole   (rename.rs)
//!  OUTPUT an empty mount point, or
//!  nothing can be made beside it       → staged inside it, moved into place, config last          (into_place.rs)
//!  files cannot be renamed there, as
//!  in a mounted bucket                → written in place, each file once, the record last        (write_once.rs)
//!  OUTPUT holds this plan's result     → already done, after its hashes were checked
//!  OUTPUT holds anything else          → refused, and left as it is
//! ```
//!
//! One way is one file and one row in `WAYS` (target.rs). What is staged has a journal with the plan's digest, and a lock that
//! is held until it is shown, so that two processes do not write one output and a later run knows whose leftovers it found.
//! Everything here goes through the [`Store`](crate::storage::store::Store) of the output, so that it can be tried in memory
//! and with faults.

pub(crate) mod checksums;
pub(crate) mod difference;
pub(crate) mod finished;
pub(crate) mod fresh;
pub(crate) mod hashing;
pub(crate) mod into_place;
pub(crate) mod journal;
pub(crate) mod kept;
pub(crate) mod leftovers;
pub(crate) mod model_card;
pub(crate) mod part_number;
pub(crate) mod part_record;
pub(crate) mod parts;
pub(crate) mod probe;
pub(crate) mod provenance;
pub(crate) mod record_json;
pub(crate) mod rename;
pub(crate) mod staging;
pub(crate) mod target;
pub(crate) mod way;
pub(crate) mod write_once;
