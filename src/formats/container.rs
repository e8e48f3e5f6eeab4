//! [`Container`]: a format of files that hold tensors behind a header. Whoever reads or writes such a file goes by the spans
//! and the first bytes that are given here, and knows no format.

use crate::error::{Error, Result};
use crate::tensor::dtype::Dtype;
use crate::tensor::name::Name;
use crate::tensor::reference::{FileId, TensorRef};
use crate::tensor::shape::Shape;

use crate::formats::header_bytes::HeaderBytes;

/// A format of files that hold tensors behind a header.
pub(crate) trait Container: Sync {
    /// What the names of its files end with, dot included.
    fn ending(&self) -> &'static str;

    /// What its files are called.
    fn file_names(&self) -> FileNames {
        FileNames::OfLibraries
    }

    /// Reads and checks the header of a file, which with all that is read of it has this `room`.
    ///
    /// # Errors
    /// If any rule of the format is broken, the file is shorter than it says, or `room` does not suffice.
    fn read(&self, file: &FileBytes<'_>, room: Room) -> std::result::Result<FileHeader, ContainerProblem>;

    /// Builds the first bytes of a file that holds these tensors, one after the other in the order given and
    /// [aligned](Container::alignment). What `like`, the
    /// first bytes of a file that was read, says beside its tensors is kept under the keys that `is_kept` holds for.
    ///
    /// # Errors
    /// If the format cannot hold them: nothing is built that [`read`](Container::read) would refuse.
    fn build(
        &self,
        like: &HeaderBytes,
        is_kept: &dyn Fn(&str) -> bool,
        tensors: &[(&str, Dtype, &[u64])],
    ) -> std::result::Result<HeaderBytes, Broken>;

    /// What the first bytes of a file, which were read or built, say beside its tensors: pairs of keys and values in their order.
    ///
    /// # Errors
    /// As [`read`](Container::read).
    fn metadata(&self, header: &HeaderBytes) -> std::result::Result<Vec<(String, String)>, Broken>;

    /// What the first byte of each tensor is a multiple of in a file with such first bytes; zeros stand before it.
    ///
    /// # Errors
    /// As [`read`](Container::read).
    fn alignment(&self, _: &HeaderBytes) -> std::result::Result<u64, Broken> {
        Ok(1)
    }
}

/// What the files of a container are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileNames {
    /// As libraries look for them, with an index where there are several.
    OfLibraries,
    /// As libraries called theirs before: they are read, and written as the first container's.
    OfOlderLibraries,
    /// As whoever made them likes, and by number where there are several.
    Any,
    /// As trainers call adapters: no checkpoint is read of such files.
    OfAdapters,
}

/// What tensors are aligned to is at most this.
pub(crate) const MAX_ALIGNMENT: u64 = 1 << 16;

/// The container whose ending `name` has; else the first, which says best what is wrong with a file of another kind.
pub(crate) fn container_of<'t>(table: &[&'t dyn Container], name: &str) -> &'t dyn Container {
    let named = table.iter().find(|container| name.ends_with(container.ending()));
    *named.or(table.first()).expect("the table has rows")
}

/// Memory for a header and what is read of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// All of it.
    pub(crate) bytes: u64,
    /// What each tensor is counted with, beside its name.
    pub(crate) tensor_bytes: u64,
}

impl Room {
    /// Room for everything.
    pub(crate) const ENDLESS: Room = Room { bytes: u64::MAX, tensor_bytes: 0 };
}

/// A file as far as a container may know it.
pub(crate) struct FileBytes<'f> {
    /// Its length.
    pub(crate) len: u64,
    /// Fills a buffer with the bytes from an offset on; an error if they go past the end.
    pub(crate) read: &'f dyn Fn(u64, &mut [u8]) -> Result<()>,
}

/// What the header of a file says; all of it checked.
#[derive(Debug)]
pub(crate) struct FileHeader {
    /// The file's bytes before its data.
    pub(crate) bytes: HeaderBytes,
    /// A header of no tensors that says all else that it does.
    pub(crate) like: HeaderBytes,
    /// The tensors in the order of their bytes.
    pub(crate) tensors: Vec<TensorEntry>,
}

/// One tensor of a file.
#[derive(Debug, PartialEq)]
pub(crate) struct TensorEntry {
    /// Its name, unique within the file. Whoever keeps it shares it: there may be 100,000 of them.
    pub(crate) name: Name,
    /// Element type.
    pub(crate) dtype: Dtype,
    /// Shape in elements.
    pub(crate) shape: Shape,
    /// First byte, counted from the start of the file; shape and dtype say how many follow.
    pub(crate) offset: u64,
}

impl TensorEntry {
    /// Its name, and where it is if its file is `file`.
    pub(crate) fn in_file(self, file: FileId) -> (Name, TensorRef) {
        let TensorEntry { name, dtype, shape, offset } = self;
        (name, TensorRef { file, offset, dtype, shape })
    }
}

/// A rule of a format that is broken, in the format's own words.
pub(crate) type Broken = Box<dyn std::error::Error + Send + Sync>;

/// Why a header was not read.
#[derive(Debug)]
pub(crate) enum ContainerProblem {
    /// The file stands for one that git-lfs has not fetched.
    LfsPointer,
    /// The file is of another kind, which is named.
    Foreign(&'static str),
    /// The file ends before its header or its data does.
    NotWhole(Broken),
    /// The file goes on after its data.
    TooLong(Broken),
    /// A rule of the format is broken.
    Broken(Broken),
    /// The header and what it holds take so many bytes, more than there is room for.
    NoRoom(u64),
    /// The file cannot be read.
    Unreadable(Error),
}
