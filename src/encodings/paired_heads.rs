//! Plain rows of heads in the order in which llama.cpp has those of queries and keys, made of rows as transformers has them.
//!
//! ```text
//! row 2·j + i of a head of d rows is row i·(d/2) + j on disk
//! ```
//!
//! Rotary positions turn two values of a head together: neighbors in llama.cpp, one of each half in transformers. So a tile of some
//! rows of a head takes as many of both halves (`convert_hf_to_gguf.py`, `permute`; key-mapping.md 10.6).

use std::borrow::Cow;
use std::ops::Range;

use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs};
use crate::encodings::logical::{Logical, LogicalFields};
use crate::encodings::plain::decode;
use crate::kernels::dispatch::Kernels;
use crate::tensor::reference::TensorRef;

/// Rows of heads in pairs.
pub(crate) struct PairedHeads;

const NAME: &str = "paired_heads";
/// The most rows of a head: a constant is a float, which holds all whole numbers up to this.
const MOST_ROWS: u64 = 1 << 24;

/// The rows of a matrix of plain numbers, in pairs; none for what is no such matrix of so many heads.
pub(crate) fn paired(tensor: &TensorRef, heads: u64) -> Option<Logical> {
    Logical::plain(tensor)?;
    let &[rows, _] = tensor.shape.axes() else { return None };
    let of_head = rows.checked_div(heads).filter(|of_head| of_head * heads == rows)?;
    if of_head % 2 != 0 || of_head == 0 || of_head > MOST_ROWS {
        return None;
    }
    Some(Logical::from(LogicalFields {
        encoding: Cow::Borrowed(NAME),
        shape: tensor.shape.clone(),
        block: (1, 1),
        parts: vec![tensor.clone()],
        constants: vec![of_head as f32],
    }))
}

/// What a tile takes of the rows of its head.
struct HeadTile {
    /// Rows of a head.
    head: u64,
    /// The tile's rows, from the first of its head.
    rows: Range<u64>,
    /// Bytes of a row on disk, and those of a row that the tile takes.
    row_bytes: u64,
    width: u64,
    /// Bytes of an element.
    size: u64,
}

impl HeadTile {
    fn of(place: Place<'_>) -> HeadTile {
        let (logical, rect) = (place.logical, place.rect);
        let head = logical.constants().first().map_or(2, |rows| *rows as u64).max(2);
        let size = logical.parts()[0].dtype.bitsize() as u64 / 8;
        let first = rect.rows.start % head;
        HeadTile {
            head,
            rows: first..first + rect.height(),
            row_bytes: place.view.cols * size,
            width: rect.width() * size,
            size,
        }
    }

    /// Whether it takes one row, which is in one half.
    fn is_one(&self) -> bool {
        self.rows.end - self.rows.start == 1
    }

    /// The pairs that its rows are of.
    fn pairs(&self) -> Range<u64> {
        self.rows.start / 2..self.rows.end.div_ceil(2)
    }

    /// Bytes from the first of some rows to the end of the last.
    fn span(&self, rows: u64) -> u64 {
        rows.checked_sub(1).map_or(0, |behind| behind * self.row_bytes + self.width)
    }
}

impl Encoding for PairedHeads {
    fn name(&self) -> &'static str {
        NAME
    }

    fn row_group(&self, logical: &Logical) -> u64 {
        logical.constants().first().map_or(u64::MAX, |rows| *rows as u64)
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    fn runs(&self, _: usize, place: Place<'_>) -> Runs {
        let (tile, rect) = (HeadTile::of(place), place.rect);
        let (half, pairs) = (tile.head / 2 * tile.row_bytes, tile.pairs());
        let head = rect.rows.start / tile.head * tile.head * tile.row_bytes;
        let first = head + pairs.start * tile.row_bytes + rect.cols.start * tile.size;
        let len = tile.span(pairs.end - pairs.start);
        if tile.is_one() {
            return Runs { first: first + tile.rows.start % 2 * half, len, count: 1, stride: len };
        }
        Runs { first, len, count: 2, stride: half }.joined()
    }

    fn max_bytes(&self, _: usize, place: Place<'_>) -> u64 {
        let tile = HeadTile::of(place);
        if tile.is_one() {
            return tile.width;
        }
        2 * tile.span((place.rect.height() / 2 + 1).min(tile.head / 2))
    }

    fn decode_row(
        &self,
        kernels: Kernels,
        parts: &[u8],
        place: Place<'_>,
        at: RowPiece,
        out: &mut [f32],
    ) -> bool {
        let (tile, dtype) = (HeadTile::of(place), place.logical.parts()[0].dtype);
        let (row, pairs) = (tile.rows.start + at.row as u64, tile.pairs());
        let half = if tile.is_one() { 0 } else { row % 2 * tile.span(pairs.end - pairs.start) };
        let first = half + (row / 2 - pairs.start) * tile.row_bytes;
        let first = (first + at.cols.start as u64 * tile.size) as usize;
        decode(kernels, dtype, &parts[first..first + out.len() * tile.size as usize], out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::rect::{Rect, View};
    use crate::tensor::reference::FileId;
    use crate::tensor::shape::Shape;

    fn matrix(rows: u64, cols: u64) -> TensorRef {
        let shape = Shape::new(&[rows, cols]).expect("it fits");
        TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F32, shape }
    }

    /// Every tile inside a head, of every size, decoded from the bytes that it asks for.
    #[test]
    fn rows_of_both_halves_alternate_whatever_the_tile() {
        let (heads, of_head, cols) = (3, 6, 5);
        let logical = paired(&matrix(heads * of_head, cols), heads).expect("rows of heads");
        assert_eq!(PairedHeads.row_group(&logical), of_head);
        let view = View { rows: heads * of_head, cols };
        let disk: Vec<u8> = (0..view.rows * cols).flat_map(|at| (at as f32).to_le_bytes()).collect();
        let mut tiles = 0;
        for (head, start, end) in (0..heads)
            .flat_map(|head| (0..of_head).map(move |start| (head, start)))
            .flat_map(|(head, start)| (start + 1..=of_head).map(move |end| (head, start, end)))
        {
            for piece in [0..cols, 1..4, 4..5] {
                let rect = Rect { rows: head * of_head + start..head * of_head + end, cols: piece.clone() };
                let place = Place::new(&logical, view, &rect);
                let runs = PairedHeads.runs(0, place);
                let first = Rect { rows: 0..end - start, cols: 0..rect.width() };
                assert!(runs.bytes() <= PairedHeads.max_bytes(0, Place::new(&logical, view, &first)));
                let parts: Vec<u8> = (0..runs.count)
                    .flat_map(|run| &disk[(runs.first + run * runs.stride) as usize..][..runs.len as usize])
                    .copied()
                    .collect();
                for row in 0..rect.height() {
                    let mut out = vec![0.0; rect.width() as usize];
                    let at = RowPiece { row: row as usize, cols: 0..out.len() };
                    assert!(PairedHeads.decode_row(Kernels::scalar(), &parts, place, at, &mut out));
                    let (pair, half) = ((start + row) / 2, (start + row) % 2);
                    let stored = head * of_head + half * (of_head / 2) + pair;
                    let right: Vec<f32> = piece.clone().map(|col| (stored * cols + col) as f32).collect();
                    assert_eq!(out, right, "{rect:?}, row {row}");
                }
                tiles += 1;
            }
        }
        assert_eq!(tiles, 3 * 21 * 3);
    }

    #[test]
    fn what_is_not_so_many_heads_is_none() {
        assert!(paired(&matrix(12, 2), 3).is_some());
        for (tensor, heads) in [
            (matrix(12, 2), 0),
            (matrix(12, 2), 5),
            (matrix(12, 2), 4),
            (matrix(0, 2), 3),
            (TensorRef { shape: Shape::new(&[12]).expect("it fits"), ..matrix(1, 1) }, 3),
            (TensorRef { dtype: Dtype::I32, ..matrix(12, 2) }, 3),
        ] {
            assert!(paired(&tensor, heads).is_none(), "{tensor:?} {heads}");
        }
    }
}
