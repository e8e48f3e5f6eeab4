//! [`IoSettings`]: the way that a store is to take, and how much memory it may use.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::storage::io::way::IoWay;
use crate::storage::io::ways::IO_WAYS;

/// A way of moving bytes between files and memory, by its name: `buffered` goes through the page cache, `direct` past it,
/// `dontcache` through a cache that keeps nothing.
#[derive(Clone, Copy)]
pub struct IoMode(pub(crate) &'static dyn IoWay);

impl IoMode {
    /// The way of that name, if there is one.
    pub fn find(name: &str) -> Option<IoMode> {
        IO_WAYS.iter().find(|way| way.name() == name).map(|way| IoMode(*way))
    }

    /// The names of all ways.
    pub fn names() -> impl Iterator<Item = &'static str> {
        IO_WAYS.iter().map(|way| way.name())
    }

    /// The same for a store whose files are only read in order.
    pub(crate) fn in_order(self) -> IoMode {
        self.0.in_order().map_or(self, IoMode)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

impl Default for IoMode {
    /// The way that serves everywhere.
    fn default() -> IoMode {
        IoMode(IO_WAYS[0])
    }
}

impl PartialEq for IoMode {
    fn eq(&self, other: &IoMode) -> bool {
        self.name() == other.name()
    }
}

impl Serialize for IoMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Debug for IoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What becomes of bytes that another file has, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unchanged {
    /// They are shared where the file system can share ranges of files, until one of the two is changed there.
    #[default]
    Share,
    /// They are written.
    Copy,
    /// A file that is all the same is a hard link to the other: one file with two names. Other bytes are shared.
    Link,
}

/// Which bytes of another file a new one can have without writing them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Whole blocks.
    pub ranges: bool,
    /// Whole files.
    pub files: bool,
}

/// How a store is to read and write large files.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct IoSettings {
    /// The way.
    pub mode: IoMode,
    /// Bytes that may be read before they are asked for.
    pub read_bytes: u64,
    /// What becomes of bytes that are the same in another file.
    pub unchanged: Unchanged,
    /// Bytes of a file being written whose way to the disk was not begun. Two to three times as many are not there yet.
    pub write_bytes: u64,
}
