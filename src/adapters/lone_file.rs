//! Adapters that are one file, whatever it is called: that file, or a directory that has no other of its kind.

use crate::adapters::dialect::Detection;
use crate::checkpoint::header::read_header;
use crate::checkpoint::header_room::HeaderRoom;
use crate::error::Result;
use crate::formats::container::{FileHeader, TensorEntry};
use crate::hub::resolved::Resolved;
use crate::storage::location::Location;
use crate::storage::source::Source;
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

/// Memory for the header of a file that may be one.
const MOST_HEADER_BYTES: u64 = 64 << 20;

/// Whether a file is a dialect's own, one of whose tensors is enough. What is wrong with a file is said when it is opened, as
/// whatever it is.
///
/// # Errors
/// A file that cannot be opened.
pub(crate) fn detect_by_tensor(
    dir: &Location,
    file: &str,
    is_own: impl Fn(&TensorEntry) -> bool,
) -> Result<Detection> {
    let header = header(dir.open(file)?.as_ref(), dir, file);
    let is_any = header.is_ok_and(|header| header.tensors.iter().any(is_own));
    Ok(if is_any { Detection::Certain } else { Detection::No })
}

/// Checks that the safetensors file that is meant alone is one, if there is one: of a file that was cut nobody can tell whose it is.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn check_header(place: &Location) -> Result<()> {
    let Some((dir, file)) = lone_file(place, ".safetensors")? else { return Ok(()) };
    header(dir.open(&file)?.as_ref(), &dir, &file).map(drop)
}

fn header(source: &dyn Source, dir: &Location, file: &str) -> Result<FileHeader> {
    read_header(source, &dir.path_of(file), HeaderRoom::at_most(MOST_HEADER_BYTES))
}
