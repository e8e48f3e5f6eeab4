//! Safetensors as a [`Container`].

use crate::tensor::dtype::Dtype;

use crate::formats::container::{
    Broken, Container, ContainerProblem, FileBytes, FileHeader, Room, TensorEntry,
};
use crate::formats::foreign::foreign;
use crate::formats::header_bytes::HeaderBytes;
use crate::formats::safetensors::build::build_header;
use crate::formats::safetensors::problem::HeaderProblem;
use crate::formats::safetensors::read::{header_len, parse_entries, parse_header_in};
use crate::formats::safetensors::{HeaderTensor, LENGTH_BYTES};

/// Safetensors files.
pub(crate) struct Safetensors;

const LENGTH: usize = LENGTH_BYTES as usize;
/// Bytes that tell a file of another kind.
const MAGIC: usize = 16;

impl Container for Safetensors {
    fn ending(&self) -> &'static str {
        ".safetensors"
    }

    fn read(&self, file: &FileBytes<'_>, room: Room) -> Result<FileHeader, ContainerProblem> {
        let mut first = [0; MAGIC];
        let known = &mut first[..(file.len.min(MAGIC as u64)) as usize];
        (file.read)(0, known).map_err(ContainerProblem::Unreadable)?;
        // A header may begin like a file of another kind, so that only what is none is looked at so.
        let other = foreign(&first).filter(|_| first[LENGTH] != b'{');
        read_header(file, first, room).map_err(|problem| match (problem, other) {
            (
                ContainerProblem::NotWhole(_) | ContainerProblem::Broken(_) | ContainerProblem::NoRoom(_),
                Some(what),
            ) => ContainerProblem::Foreign(what),
            (problem, _) => problem,
        })
    }

    fn build(
        &self,
        like: &HeaderBytes,
        is_kept: &dyn Fn(&str) -> bool,
        tensors: &[(&str, Dtype, &[u64])],
    ) -> Result<HeaderBytes, Broken> {
        let mut like = parse_entries(like.get(LENGTH..).unwrap_or_default(), Room::ENDLESS)?;
        like.metadata.retain(|(key, _)| is_kept(key));
        Ok(first_bytes(tensors, &like.metadata)?)
    }

    fn metadata(&self, header: &HeaderBytes) -> Result<Vec<(String, String)>, Broken> {
        Ok(parse_entries(header.get(LENGTH..).unwrap_or_default(), Room::ENDLESS)?.metadata)
    }
}

/// The first bytes of a file of no tensors, as torch writes them.
pub(crate) fn of_torch() -> HeaderBytes {
    let metadata = [("format".to_owned(), "pt".to_owned())];
    first_bytes(&[], &metadata).expect("a header of one key")
}

/// The bytes of a file before its data.
fn first_bytes(
    tensors: &[(&str, Dtype, &[u64])],
    metadata: &[(String, String)],
) -> Result<HeaderBytes, HeaderProblem> {
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let json = build_header(tensors, &metadata)?;
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    Ok(HeaderBytes::new(bytes))
}

/// Reads and checks the header of a file that starts so.
fn read_header(file: &FileBytes<'_>, first: [u8; MAGIC], room: Room) -> Result<FileHeader, ContainerProblem> {
    let first = first.first_chunk::<LENGTH>().expect("there are more");
    let start = LENGTH_BYTES + header_len(*first, file.len)?;
    if start > room.bytes {
        return Err(ContainerProblem::NoRoom(start));
    }
    let mut bytes = vec![0; start as usize];
    bytes[..LENGTH].copy_from_slice(first);
    (file.read)(LENGTH_BYTES, &mut bytes[LENGTH..]).map_err(ContainerProblem::Unreadable)?;
    let left = Room { bytes: room.bytes - start, ..room };
    let header = parse_header_in(&bytes[LENGTH..], file.len, left).map_err(|problem| match problem {
        HeaderProblem::NoRoom { needed } => ContainerProblem::NoRoom(start.saturating_add(needed)),
        problem => problem.into(),
    })?;
    let entry = |HeaderTensor { name, dtype, shape, start: at, .. }: HeaderTensor| TensorEntry {
        name,
        dtype,
        shape,
        offset: start + at,
    };
    let like = first_bytes(&[], &header.metadata)?;
    let tensors = header.tensors.into_iter().map(entry).collect();
    Ok(FileHeader { bytes: HeaderBytes::new(bytes), like, tensors })
}

impl From<HeaderProblem> for ContainerProblem {
    fn from(problem: HeaderProblem) -> ContainerProblem {
        match problem {
            HeaderProblem::LfsPointer => ContainerProblem::LfsPointer,
            HeaderProblem::FileLength { promised, found } if found > promised => {
                ContainerProblem::TooLong(problem.into())
            }
            HeaderProblem::Empty
            | HeaderProblem::PastEnd { .. }
            | HeaderProblem::FileLength { .. }
            | HeaderProblem::TooShort { .. } => ContainerProblem::NotWhole(problem.into()),
            problem => ContainerProblem::Broken(problem.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;

    fn read(file: &[u8], room: u64) -> std::result::Result<FileHeader, ContainerProblem> {
        let read = |offset: u64, buf: &mut [u8]| -> Result<()> {
            buf.copy_from_slice(&file[offset as usize..][..buf.len()]);
            Ok(())
        };
        let room = Room { bytes: room, tensor_bytes: 1 };
        Safetensors.read(&FileBytes { len: file.len() as u64, read: &read }, room)
    }

    #[test]
    fn what_is_built_is_read_and_keeps_the_metadata() {
        let json =
            br#"{"__metadata__":{"old":"x","format":"pt"},"old":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
        let like = HeaderBytes::new([&(json.len() as u64).to_le_bytes(), &json[..]].concat());
        let built = Safetensors
            .build(&like, &|key| key != "old", &[("a", Dtype::BF16, &[3]), ("b", Dtype::U8, &[2])])
            .unwrap();
        let file = [&built[..], &[0; 8]].concat();
        let start = built.len() as u64;
        assert!(matches!(read(&file, start - 1), Err(ContainerProblem::NoRoom(needed)) if needed == start));

        let header = read(&file, start + 1000).unwrap();
        assert_eq!(header.bytes, built);
        assert_eq!(Safetensors.metadata(&built).unwrap(), [("format".to_owned(), "pt".to_owned())]);
        let spans: Vec<_> = header.tensors.iter().map(|t| (&*t.name, t.dtype, t.offset)).collect();
        assert_eq!(spans, [("a", Dtype::BF16, start), ("b", Dtype::U8, start + 6)]);
        assert!(String::from_utf8_lossy(&built).contains(r#"{"format":"pt"}"#));
        assert!(matches!(read(&file[..file.len() - 1], start + 1000), Err(ContainerProblem::NotWhole(_))));
        assert!(Safetensors.build(&like, &|_| true, &[("a", Dtype::F4, &[3])]).is_err());
    }
}
