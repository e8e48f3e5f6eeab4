//! Where the parts of a tile buffer and of a factor buffer stand.

use crate::encodings;
use crate::encodings::encoding::Encoding;
use crate::encodings::logical::Logical;
use crate::ops::factor::{Factor, FactorRuns};
use crate::plan::out_tensor::OutTensor;
use crate::tensor::reference::FileId;
use std::ops::Range;

/// Pieces in a buffer start at multiples of this, so that they can be seen as `f32`.
pub(crate) const ALIGN: usize = 64;

/// Bytes of an f32.
pub(crate) const F32: usize = size_of::<f32>();

/// Rounded up to where the next piece may start.
pub(crate) fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGN)
}

/// The part of one factor that a tile or a band needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FactorBlock {
    /// Which of the tile's ops.
    pub op: usize,
    /// Which factor of the op.
    pub factor: usize,
    /// Positions on the factor's axis; empty if it has none.
    pub positions: Range<u64>,
    /// Where its values go, in bytes from the start of the region; as many as its method makes of it.
    pub at: Range<usize>,
    /// The file it is read from: an adapter's, or the scratch file of repacked factors.
    pub file: FileId,
    /// First byte there of the tensor that it is of.
    pub offset: u64,
    /// Which elements of that tensor.
    pub runs: FactorRuns,
}

/// Which factors are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// Those that all tiles of a band share.
    Band,
    /// Those that only the tile needs.
    Own,
}

/// Bytes of a factor's values for so many positions; of all of it, if it runs along no axis.
pub(crate) fn factor_bytes(factor: &Factor, positions: u64) -> usize {
    let count = if factor.index().is_some() { positions } else { 1 };
    (count * factor.values()) as usize * F32
}

/// The encoding a tensor starts from.
pub(crate) fn start_encoding(start: &Logical) -> &'static dyn Encoding {
    encodings::find(start.encoding()).expect("a plan names encodings of the table")
}

/// The encoding a tensor is written in.
pub(crate) fn out_encoding(tensor: &OutTensor) -> &'static dyn Encoding {
    encodings::find(&tensor.encoding).expect("a plan names encodings of the table")
}
