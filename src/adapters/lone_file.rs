//! Adapters that are one file, whatever it is called: that file, or a directory that has no other of its kind.

use crate::error::Result;
use crate::hub::resolved::Resolved;
use crate::storage::location::Location;
use crate::storage::store::{EntryKind, Store};

/// The directory and the name of the only file of that ending that is meant.
///
/// # Errors
/// A directory that cannot be read.
pub(crate) fn lone_file(place: &Location, ending: &str) -> Result<Option<(Location, String)>> {
    let ends = |name: &&str| name.ends_with(ending);
    match place.stat("")?.map(|stat| stat.kind) {
        Some(EntryKind::File) => {
            let name = place.name().filter(ends).map(str::to_owned);
            Ok(name.map(|name| (Resolved::from(place.clone()).directory().location, name)))
        }
        Some(_) if place.is_directory()? => {
            let mut own =
                place.list("")?.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(ending));
            Ok(own.next().filter(|_| own.next().is_none()).map(|name| (place.clone(), name)))
        }
        _ => Ok(None),
    }
}
