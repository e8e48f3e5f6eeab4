//! Cold starts: what a run reads must come from the disk.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{Result, child};

/// How the page cache was emptied.
#[derive(PartialEq, Eq)]
pub(super) enum Cold {
    /// All of it, by root.
    Dropped,
    /// The input files only, by advice.
    Advised,
}

/// Writes back what is dirty, then drops the cache of the input folders.
pub(super) fn drop(inputs: &[&Path]) -> Result<Cold> {
    for folder in inputs {
        child::sync(folder)?;
    }
    if fs::write("/proc/sys/vm/drop_caches", "3").is_ok() {
        return Ok(Cold::Dropped);
    }
    for folder in inputs {
        for entry in fs::read_dir(folder)? {
            advise(&entry?.path())?;
        }
    }
    Ok(Cold::Advised)
}

/// `dd … iflag=nocache count=0` is POSIX_FADV_DONTNEED on a whole file, without opening it for writing.
fn advise(file: &Path) -> Result<()> {
    let mut dd = Command::new("dd");
    dd.arg(format!("if={}", file.display())).args(["iflag=nocache", "count=0"]).stderr(Stdio::null());
    let status = dd.status()?;
    if status.success() { Ok(()) } else { Err(format!("{dd:?}: {status}").into()) }
}
