//! Aligned memory and the size of a block: offset, length and address of direct I/O are multiples of it.

use std::io;

use memmap2::MmapMut;

use crate::storage::os;

/// No device asks for a larger alignment, and memory maps have it.
pub(crate) const BLOCK: usize = 4096;

/// Pieces of a window at the most: while one is used, the others are on their way.
const PIECES_MOST: u64 = 8;
/// One alone would leave the disk waiting.
const PIECES_LEAST: u64 = 2;
/// A piece that is one huge page goes to the disk in one part; in pages of 4 KiB it is hundreds of parts, and many requests.
const HUGE: u64 = 2 << 20;
/// Larger requests make nothing faster.
const HUGE_PAGES_MOST: u64 = 2;

/// How a window is cut: pieces of huge pages where there is room for some, else as many as are of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PieceLayout {
    /// Number of pieces.
    pub(crate) count: usize,
    /// Bytes of each: whole blocks.
    pub(crate) bytes: usize,
}

impl PieceLayout {
    /// That of a window of so many bytes, which it does not exceed where that is a block for each piece.
    pub(crate) fn of(window: u64) -> PieceLayout {
        if window < PIECES_LEAST * HUGE {
            let bytes = (window / PIECES_MOST).max(BLOCK as u64) as usize / BLOCK * BLOCK;
            return PieceLayout { count: PIECES_MOST as usize, bytes };
        }
        let bytes = HUGE * (window / PIECES_MOST / HUGE).clamp(1, HUGE_PAGES_MOST);
        PieceLayout { count: (window / bytes).min(PIECES_MOST) as usize, bytes: bytes as usize }
    }

    /// The pieces, none of them resident before it is used.
    ///
    /// # Errors
    /// When the system refuses the memory.
    pub(crate) fn pieces(self) -> io::Result<Vec<AlignedPiece>> {
        let piece = |_| {
            let piece = MmapMut::map_anon(self.bytes)?;
            os::prefer_huge_pages(&piece);
            Ok(piece)
        };
        (0..self.count).map(piece).collect()
    }
}

/// Memory of whole blocks at an aligned address.
pub(crate) type AlignedPiece = MmapMut;

/// `offset` rounded down to a block.
pub(crate) fn block_start(offset: u64) -> u64 {
    offset / BLOCK as u64 * BLOCK as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_cut_into_huge_pages_where_it_has_room_for_two() {
        let cut = |window: u64| {
            let PieceLayout { count, bytes } = PieceLayout::of(window);
            assert!(bytes.is_multiple_of(BLOCK) && count >= 2, "{window}: {count} of {bytes}");
            assert!((count * bytes) as u64 <= window.max((8 * BLOCK) as u64), "{window}: {count} of {bytes}");
            (count, bytes)
        };
        const MIB: u64 = 1 << 20;
        assert_eq!(cut(0), (8, BLOCK));
        assert_eq!(cut(MIB), (8, 128 << 10));
        assert_eq!(cut(4 * MIB - 1), (8, (512 << 10) - BLOCK));
        assert_eq!(cut(4 * MIB), (2, 2 << 20));
        assert_eq!(cut(6 * MIB), (3, 2 << 20));
        assert_eq!(cut(9 * MIB), (4, 2 << 20));
        assert_eq!(cut(16 * MIB), (8, 2 << 20));
        assert_eq!(cut(32 * MIB), (8, 4 << 20));
        assert_eq!(cut(500 * MIB), (8, 4 << 20));
    }
}
