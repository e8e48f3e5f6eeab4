//! Files that are had without being written: ranges that two files share, and two names of one file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::storage::files::look;
use crate::storage::io::block::BLOCK;
use crate::storage::io::settings::{Sharing, Unchanged};
use crate::storage::os;
use crate::storage::temporary::Temporary;

/// What new files in the directory at `dir` can share with `from`: it is tried with one block.
pub(crate) fn sharing_in(dir: &Path, from: &File, asked: Unchanged) -> Sharing {
    if asked == Unchanged::Copy {
        return Sharing::default();
    }
    let ranges = shares_block(dir, from).unwrap_or(false);
    let files = asked == Unchanged::Link && links(dir, from).unwrap_or(false);
    Sharing { ranges, files }
}

fn shares_block(dir: &Path, from: &File) -> io::Result<bool> {
    if from.metadata()?.len() < BLOCK as u64 {
        return Ok(false);
    }
    let tried = Temporary::create(dir, Path::new("sharing"), &OpenOptions::new())?;
    os::share_range(from, 0, BLOCK as u64, (&tried.file, 0))
}

/// Whether both are on one device. A link to see whether one can be had would change the file's times.
fn links(dir: &Path, from: &File) -> io::Result<bool> {
    Ok(look(dir)?.dev() == from.metadata()?.dev())
}
