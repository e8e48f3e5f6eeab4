//! What a command was asked for, on stdout or in a file.

use std::io::Write;
use std::path::Path;

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::storage::files::write_small;
use crate::storage::location::Location;

use crate::cli::values::usage;

/// Prints what a command was asked for to stdout.
///
/// # Errors
/// [`StorageError::Write`], also when whoever read it has gone.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    printed.map_err(|cause| Error::new(StorageError::Write { path: "stdout".into() }).because(cause))
}

/// Writes the file that a flag names.
///
/// # Errors
/// Misuse where `path` is no name of a file; else as [`write_small`].
pub(crate) fn write_text(flag: &'static str, path: &Path, text: &str) -> Result<()> {
    let file = Location::of_path(path);
    let (Some(dir), Some(name)) = (file.parent(), file.name()) else {
        return Err(usage(flag, &path.to_string_lossy(), "the name of a file is accepted"));
    };
    write_small(&dir, name, text.as_bytes())
}
