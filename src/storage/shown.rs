//! What messages call a path that begins with the handle of a directory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::storage::interrupted::uninterrupted;

/// Where a process finds what it has open.
pub(crate) const OPEN_FILES: &str = "/proc/self/fd";

/// What messages call `path`, which may begin with a handle.
pub(crate) fn shown(path: &Path) -> PathBuf {
    let Ok(below) = path.strip_prefix(OPEN_FILES) else { return path.to_owned() };
    let mut parts = below.components();
    let handle = parts.next().map(|handle| Path::new(OPEN_FILES).join(handle));
    let held = handle.and_then(|handle| uninterrupted(|| fs::read_link(&handle)).ok());
    let below = parts.as_path();
    match held {
        Some(held) if below.as_os_str().is_empty() => held,
        Some(held) => held.join(below),
        None => path.to_owned(),
    }
}
