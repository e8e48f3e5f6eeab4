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

/// The lengths of a shard's sections, in order. The zeros that stand behind a tensor where the next is aligned belong to it.
pub(crate) fn section_lens(shard: &OutShard) -> Vec<u64> {
    let header = std::iter::once(shard.header.bytes());
    header.chain((0..shard.tensors.len()).map(|i| shard.next_start(i) - shard.tensors[i].offset)).collect()
}

/// How many zeros stand at byte `at` of a shard, before which a section's own bytes end; none inside one.
pub(crate) fn zeros_at(shard: &OutShard, at: u64) -> u64 {
    let next = shard.tensors.partition_point(|tensor| tensor.offset < at);
    match next.checked_sub(1).map(|last| (last, &shard.tensors[last])) {
        Some((last, tensor)) if tensor.offset + tensor.bytes <= at => shard.next_start(last) - at,
        _ => 0,
    }
}

/// The sections that the `bytes` bytes of a shard from `at` on are of.
pub(crate) fn spans(shard: &OutShard, at: u64, bytes: u64) -> impl Iterator<Item = SectionSpan> + '_ {
    let end = at + bytes;
    let first = shard.tensors.partition_point(|tensor| tensor.offset + tensor.bytes <= at);
    let first = first.saturating_sub(usize::from(zeros_at(shard, at) > 0));
    let header = (0, 0, shard.header.bytes());
    let tensors = shard.tensors[first..].iter().zip(first..);
    let tensors = tensors.map(|(tensor, i)| (i + 1, tensor.offset, shard.next_start(i) - tensor.offset));
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
    fn zeros_belong_to_the_tensor_before_them() {
        let mut shard = shard(8, &[5, 3, 0, 9]);
        shard.tensors.iter_mut().zip([8, 16, 24, 24]).for_each(|(tensor, offset)| tensor.offset = offset);
        shard.bytes = 40;
        assert_eq!(section_lens(&shard), [8, 8, 8, 0, 16]);
        let zeros: Vec<u64> =
            [0, 7, 8, 12, 13, 14, 15, 16, 19, 20, 24, 32, 33, 39, 40].map(|at| zeros_at(&shard, at)).into();
        assert_eq!(zeros, [0, 0, 0, 0, 3, 2, 1, 0, 5, 4, 0, 0, 7, 1, 0]);
        let found = |at, bytes| -> Vec<[u64; 3]> {
            spans(&shard, at, bytes).map(|span| [span.section as u64, span.at, span.bytes]).collect()
        };
        assert_eq!(found(0, 40), [[0, 0, 8], [1, 0, 8], [2, 0, 8], [4, 0, 16]]);
        assert_eq!(found(13, 4), [[1, 5, 3], [2, 0, 1]]);
        assert_eq!(found(35, 5), [[4, 11, 5]]);
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
