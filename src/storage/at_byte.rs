//! Where in a file a write failed, told with the cause: a message names file, cause and place.

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::io;

/// The cause of a failed write, with the first byte that it may lack.
#[derive(Debug)]
struct AtByte {
    cause: io::Error,
    offset: u64,
}

impl Display for AtByte {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.cause, self.offset)
    }
}

impl Error for AtByte {}

/// `cause`, which says that it was of a write at `offset`, unless it says where already.
pub(crate) fn at_byte(cause: io::Error, offset: u64) -> io::Error {
    if cause.get_ref().is_some_and(|cause| cause.is::<AtByte>()) {
        return cause;
    }
    io::Error::new(cause.kind(), AtByte { cause, offset })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_place_is_told_and_the_kind_is_kept() {
        let full = at_byte(at_byte(io::Error::from_raw_os_error(28), 4096), 9000);
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let cause = io::Error::from_raw_os_error(28);
        assert_eq!(full.to_string(), format!("{cause} at byte 4096"));
    }
}
