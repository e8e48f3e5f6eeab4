//! Calls that a signal interrupts, made again.

use std::io;

/// The result of `call`, which is made again for as long as a signal interrupts it. The standard library does so when it
/// opens, reads, writes and syncs, but not when it looks, lists, renames, makes or removes.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
