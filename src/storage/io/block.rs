//! Aligned memory and the size of a block: offset, length and address of direct I/O are multiples of it.

use std::io;

use memmap2::MmapMut;

/// No device asks for a larger alignment, and memory maps have it.
pub(crate) const BLOCK: usize = 4096;

/// Pieces of a window: while one is used, the others are on their way.
pub(crate) const PIECES: usize = 8;
/// Larger requests make nothing faster.
const PIECE_MOST: u64 = 4 << 20;

/// Bytes of one piece of a window of `bytes`: whole blocks.
pub(crate) fn piece_bytes(bytes: u64) -> usize {
    let piece = (bytes / PIECES as u64).clamp(BLOCK as u64, PIECE_MOST) as usize;
    piece / BLOCK * BLOCK
}

/// Memory of whole blocks at an aligned address.
pub(crate) type AlignedPiece = MmapMut;

/// The pieces of a window, none of them resident before it is used.
///
/// # Errors
/// When the system refuses the memory.
pub(crate) fn pieces(count: usize, bytes: usize) -> io::Result<Vec<AlignedPiece>> {
    (0..count).map(|_| MmapMut::map_anon(bytes)).collect()
}

/// `offset` rounded down to a block.
pub(crate) fn block_start(offset: u64) -> u64 {
    offset / BLOCK as u64 * BLOCK as u64
}
