//! Writing to stderr, where the log of a command goes.

use std::io::Write;

/// Writes to stderr. A log that cannot be written stops nothing: the disk may be full, or whoever read it gone.
pub(crate) fn say(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}
