//! The sections of a shard, each of which has a hash of its own: its header, and every tensor behind it.

use crate::plan::out_tensor::OutShard;

/// Bytes of one section that are next to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SectionSpan {
    /// Which section of the file.
    pub(crate) section: usize,
    /// Length of the section.
    pub(crate) len: u64,
    /// Where in the file they begin.
    pub(crate) start: u64,
    /// Where in the section they begin.
    pub(crate) at: u64,
    /// How many they are.
    pub(crate) bytes: u64,
}

/// The lengths of a shard's sections, in order.
pub(crate) fn section_lens(shard: &OutShard) -> Vec<u64> {
    let header = std::iter::once(shard.header.bytes());
    header.chain(shard.tensors.iter().map(|tensor| tensor.bytes)).collect()
}

/// The sections that the `bytes` bytes of a shard from `at` on are of.
pub(crate) fn spans(shard: &OutShard, at: u64, bytes: u64) -> impl Iterator<Item = SectionSpan> + '_ {
    let end = at + bytes;
    let first = shard.tensors.partition_point(|tensor| tensor.offset + tensor.bytes <= at);
    let header = (0, 0, shard.header.bytes());
    let tensors = shard.tensors[first..].iter().zip(first + 1..);
    let tensors = tensors.map(|(tensor, section)| (section, tensor.offset, tensor.bytes));
    let sections = std::iter::once(header).chain(tensors);
    sections.take_while(move |(_, offset, _)| *offset < end).filter_map(move |(section, offset, len)| {
        let (from, to) = (at.max(offset), end.min(offset + len));
        (from < to).then(|| SectionSpan { section, len, start: from, at: from - offset, bytes: to - from })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::header_bytes::HeaderBytes;
    use crate::plan::out_tensor::{Content, OutHeader, OutTensor};
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    fn shard(header: usize, lens: &[u64]) -> OutShard {
        let mut offset = header as u64;
        let tensors = lens.iter().map(|&bytes| {
            let shape = Shape::new(&[bytes]).expect("one axis");
            let from = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::U8, shape: shape.clone() };
            let content = Content::Copy { from, claim: None };
            let (name, dtype, encoding) = ("".into(), Dtype::U8, "".into());
            let tensor = OutTensor { name, shape, dtype, encoding, part: 0, offset, bytes, content };
            offset += bytes;
            tensor
        });
        let tensors = tensors.collect();
        let header = OutHeader::Made(HeaderBytes::new(vec![0; header]));
        OutShard { name: String::new(), header, tensors, bytes: offset }
    }

    #[test]
    fn bytes_are_told_to_their_sections() {
        let shard = shard(8, &[0, 5, 0, 3, 9]);
        assert_eq!(section_lens(&shard), [8, 0, 5, 0, 3, 9]);
        let found = |at, bytes| -> Vec<[u64; 3]> {
            spans(&shard, at, bytes).map(|span| [span.section as u64, span.at, span.bytes]).collect()
        };
        assert_eq!(found(0, 25), [[0, 0, 8], [2, 0, 5], [4, 0, 3], [5, 0, 9]]);
        assert_eq!(found(10, 4), [[2, 2, 3], [4, 0, 1]]);
        assert_eq!(found(7, 1), [[0, 7, 1]]);
        assert_eq!(found(8, 0), [[0_u64; 3]; 0]);
        assert_eq!(found(20, 5), [[5, 4, 5]]);
    }
}
