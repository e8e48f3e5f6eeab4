//! The header of a file, base's and adapter's alike, whatever the format.

use std::path::Path;

use crate::checkpoint::header_room::{HeaderOf, HeaderRoom};
use crate::error::checkpoint::CheckpointError;
use crate::error::{Error, Result};
use crate::formats::CONTAINERS;
use crate::formats::container::{Container, ContainerProblem, FileBytes, FileHeader, container_of};
use crate::formats::header_bytes::HeaderBytes;
use crate::storage::source::Source;
use crate::tensor::dtype::Dtype;

/// Reads and checks the header of `source`, in the container that the name of `path` says.
///
/// # Errors
/// [`CheckpointError::Header`], [`CheckpointError::LfsPointer`], as [`HeaderRoom::refused`] (`room` does not suffice), or as
/// [`Source::read_at`].
pub(crate) fn read_header(source: &dyn Source, path: &Path, room: HeaderRoom<'_>) -> Result<FileHeader> {
    read_in(CONTAINERS, source, path, &room, HeaderOf::Base)
}

/// The same for one whose tensors are kept: what they take of `room` is taken.
///
/// # Errors
/// As [`read_header`].
pub(crate) fn keep_header(
    source: &dyn Source,
    path: &Path,
    room: &HeaderRoom<'_>,
    of: HeaderOf,
) -> Result<FileHeader> {
    let header = read_in(CONTAINERS, source, path, room, of)?;
    room.keep(&header, of);
    Ok(header)
}

/// The header of a file `path` that holds these tensors, with all else that `like` says under the keys that `is_kept` holds for.
///
/// # Errors
/// [`CheckpointError::Header`] if the container cannot hold them.
pub(crate) fn build_header(
    like: &HeaderBytes,
    is_kept: &dyn Fn(&str) -> bool,
    path: &Path,
    tensors: &[(&str, Dtype, &[u64])],
) -> Result<HeaderBytes> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let wrong = |problem| Error::new(CheckpointError::Header { path: path.to_owned() }).because(problem);
    container_of(CONTAINERS, &name).build(like, is_kept, tensors).map_err(wrong)
}

/// What the first byte of each tensor is a multiple of in a file `path` whose header says this beside its tensors.
///
/// # Errors
/// [`CheckpointError::Header`].
pub(crate) fn alignment_of(header: &HeaderBytes, path: &Path) -> Result<u64> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let wrong = |problem| Error::new(CheckpointError::Header { path: path.to_owned() }).because(problem);
    container_of(CONTAINERS, &name).alignment(header).map_err(wrong)
}

/// What the header of a file `path` says beside its tensors.
///
/// # Errors
/// [`CheckpointError::Header`].
pub(crate) fn metadata_of(header: &HeaderBytes, path: &Path) -> Result<Vec<(String, String)>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let wrong = |problem| Error::new(CheckpointError::Header { path: path.to_owned() }).because(problem);
    container_of(CONTAINERS, &name).metadata(header).map_err(wrong)
}

fn read_in(
    table: &[&dyn Container],
    source: &dyn Source,
    path: &Path,
    room: &HeaderRoom<'_>,
    of: HeaderOf,
) -> Result<FileHeader> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let read = |offset: u64, buf: &mut [u8]| source.read_at(buf, offset);
    let file = FileBytes { len: source.len(), read: &read };
    container_of(table, &name)
        .read(&file, room.for_header(of))
        .map_err(|problem| explain(problem, path, room))
}

fn explain(problem: ContainerProblem, path: &Path, room: &HeaderRoom<'_>) -> Error {
    let wrong = || Error::new(CheckpointError::Header { path: path.to_owned() });
    match problem {
        ContainerProblem::LfsPointer => lfs_pointer(path),
        ContainerProblem::NotWhole(cause) => {
            wrong().because(cause).hint("the file was not copied or downloaded whole: fetch it again")
        }
        ContainerProblem::TooLong(cause) => wrong().because(cause).hint(
            "bytes follow its last tensor: it was appended to, or written over a longer file: fetch it again",
        ),
        ContainerProblem::Foreign(what) => wrong().because(format!("it is {what}")).hint(
            "its name says otherwise: look at what was downloaded, converted or linked there, and fetch it again",
        ),
        ContainerProblem::Broken(cause) => wrong().because(cause),
        ContainerProblem::NoRoom(bytes) => room.refused(path, bytes),
        ContainerProblem::Unreadable(error) => error,
    }
}

/// The refusal of a file that git-lfs has not fetched.
pub(crate) fn lfs_pointer(path: &Path) -> Error {
    Error::new(CheckpointError::LfsPointer { path: path.to_owned() })
        .hint("run `git lfs pull` in that directory, or download the file itself")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind::ErrorKind;
    use crate::error::request::RequestError;
    use crate::formats::container::{Broken, Room, TensorEntry};
    use crate::tensor::reference::FileId;
    use crate::tensor::shape::Shape;

    /// Four letters, then one tensor of bytes called `raw`: as little as a container can be.
    struct Raw;

    impl Container for Raw {
        fn ending(&self) -> &'static str {
            ".raw"
        }

        fn read(
            &self,
            file: &FileBytes<'_>,
            room: Room,
        ) -> std::result::Result<FileHeader, ContainerProblem> {
            let mut first = vec![0; 4];
            if room.bytes < 4 {
                return Err(ContainerProblem::NoRoom(4));
            }
            (file.read)(0, &mut first).map_err(ContainerProblem::Unreadable)?;
            if first != *b"RAW!" {
                return Err(ContainerProblem::Broken("it does not start with `RAW!`".into()));
            }
            let shape = Shape::new(&[file.len - 4]).expect("one axis");
            let tensor = TensorEntry { name: "raw".into(), dtype: Dtype::U8, shape, offset: 4 };
            Ok(FileHeader {
                like: HeaderBytes::new(first.clone()),
                bytes: HeaderBytes::new(first),
                tensors: vec![tensor],
            })
        }

        fn metadata(&self, _: &HeaderBytes) -> std::result::Result<Vec<(String, String)>, Broken> {
            Ok(Vec::new())
        }

        fn build(
            &self,
            like: &HeaderBytes,
            _: &dyn Fn(&str) -> bool,
            tensors: &[(&str, Dtype, &[u64])],
        ) -> std::result::Result<HeaderBytes, Broken> {
            match tensors {
                [("raw", Dtype::U8, [_])] => Ok(like.clone()),
                _ => Err("it holds one tensor of bytes, called `raw`".into()),
            }
        }
    }

    struct File(&'static [u8]);

    impl Source for File {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
            Ok(())
        }

        fn done_before(&self, _: u64) {}
    }

    fn read(file: &'static [u8], name: &str, room: u64) -> Result<FileHeader> {
        let table: &[&dyn Container] = &[CONTAINERS[0], &Raw];
        let budget = (1 << 22).into();
        let left = HeaderRoom::of(Some(&budget));
        left.take(left.left() - room);
        read_in(table, &File(file), Path::new(name), &left, HeaderOf::Base)
    }

    #[test]
    fn another_container_is_one_row() {
        let header = read(b"RAW!12345", "a/x.raw", 4).expect("it follows the rules");
        assert_eq!(*header.bytes, *b"RAW!");
        let (name, tensor) = header.tensors.into_iter().next().expect("one tensor").in_file(FileId(7));
        assert_eq!((&*name, tensor.file, tensor.offset, tensor.bytes()), ("raw", FileId(7), 4, 5));
        let built =
            Raw.build(&header.bytes, &|_| true, &[("raw", Dtype::U8, &[5])]).expect("one tensor of bytes");
        assert_eq!(built, header.bytes);
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_the_container() {
        let wrong = read(b"RAW?12345", "x.raw", 4).expect_err("another start");
        assert!(
            matches!(wrong.kind(), ErrorKind::Checkpoint(CheckpointError::Header { path }) if path == Path::new("x.raw"))
        );
        let tight = read(b"RAW!12345", "x.raw", 3).expect_err("no room");
        assert!(matches!(tight.kind(), ErrorKind::Request(RequestError::Budget { .. })));
        let other = read(b"RAW!12345", "x.safetensors", 4).expect_err("no safetensors");
        assert!(matches!(other.kind(), ErrorKind::Checkpoint(CheckpointError::Header { .. })));
        let pointer = read(b"version https://git-lfs", "x.safetensors", 4).expect_err("a pointer");
        assert!(matches!(pointer.kind(), ErrorKind::Checkpoint(CheckpointError::LfsPointer { .. })));
    }
}
