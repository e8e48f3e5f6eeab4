//! What lies where in an undo file, of a plan that takes a merge back: both sides know it from that.
//!
//! ```text
//! MAGIC
//! blocks of 65536 elements, tensor after tensor in the order of the plan
//! the digest of the merge's plan, 64 hexadecimal digits
//! BLAKE3 of every section of the base's shards: the header, and each tensor
//! for each tensor that is made, the place of every 16th block
//! BLAKE3 of all of this
//! ```
//!
//! Numbers are little-endian, places are bytes from the file's start. A block ends where the next begins, so that a tile is put
//! right from the place of the last block before it that has one, on.

use crate::plan::out_tensor::{Content, OutShard, OutTensor, Plan};

/// What a file begins with; its last byte is the version.
pub(crate) const MAGIC: [u8; 8] = *b"sf-undo\x01";
/// Elements of a block.
pub(crate) const BLOCK: u64 = 1 << 16;
/// Blocks of which the first has its place in the file.
pub(crate) const GROUP: u64 = 16;
/// Bytes of a hash.
pub(crate) const HASH: usize = 32;
/// Hexadecimal digits of a digest.
pub(crate) const DIGITS: usize = 64;
/// Bytes of a place.
pub(crate) const PLACE: usize = 8;

/// A tensor that is made when the merge is taken back, and its first place among all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UndoneTensor {
    /// Its shard.
    pub(crate) shard: usize,
    /// Which tensor of the shard.
    pub(crate) tensor: usize,
    /// How many places those before it have.
    pub(crate) first: u64,
}

/// What lies where.
#[derive(Clone, Debug, Default)]
pub(crate) struct UndoLayout {
    /// The tensors that have blocks, in the order of the plan.
    pub(crate) tensors: Vec<UndoneTensor>,
    /// How many sections of shards come before those of each shard, and how many there are.
    sections: Vec<u64>,
    /// How many places there are.
    pub(crate) places: u64,
}

/// Whether a tensor is made, and not only copied.
pub(crate) fn is_made(tensor: &OutTensor) -> bool {
    matches!(tensor.content, Content::Compute { .. })
}

/// Bytes of an element.
pub(crate) fn width(tensor: &OutTensor) -> usize {
    tensor.dtype.bitsize() / 8
}

/// Blocks of a tensor.
pub(crate) fn blocks(tensor: &OutTensor) -> u64 {
    tensor.shape.elements().div_ceil(BLOCK)
}

impl UndoLayout {
    /// Of the plan that takes the merge back.
    pub(crate) fn of(plan: &Plan) -> UndoLayout {
        let (mut layout, mut sections) = (UndoLayout::default(), 0);
        for (shard, OutShard { tensors, .. }) in plan.shards.iter().enumerate() {
            layout.sections.push(sections);
            sections += tensors.len() as u64 + 1;
            for (i, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| is_made(tensor)) {
                layout.tensors.push(UndoneTensor { shard, tensor: i, first: layout.places });
                layout.places += blocks(tensor).div_ceil(GROUP);
            }
        }
        layout.sections.push(sections);
        layout
    }

    /// The made tensors of a shard.
    pub(crate) fn of_shard(&self, shard: usize) -> &[UndoneTensor] {
        let first = self.tensors.partition_point(|tensor| tensor.shard < shard);
        let behind = self.tensors.partition_point(|tensor| tensor.shard <= shard);
        &self.tensors[first..behind]
    }

    /// Bytes behind the blocks.
    pub(crate) fn tail_bytes(&self) -> u64 {
        self.places_at() + self.places * PLACE as u64 + HASH as u64
    }

    /// Where among the bytes behind the blocks the hash of a section is.
    pub(crate) fn hash_at(&self, shard: usize, section: usize) -> u64 {
        DIGITS as u64 + (self.sections[shard] + section as u64) * HASH as u64
    }

    /// Where among the bytes behind the blocks the places are.
    pub(crate) fn places_at(&self) -> u64 {
        self.hash_at(self.sections.len() - 1, 0)
    }
}
