//! The gather buffer: stored rows that stay in memory while short runs are picked out of them for tile after tile.
//!
//! Where a row of the output is a column of what is stored, a tile takes a few bytes of each of thousands of stored rows.
//! Reading each on its own would be thousands of calls for a tile, and every page of the file would be read for every tile.
//! So whole stored rows are read, as many as there is room for, and stay until others are wanted: if all that the tiles of
//! one matrix need has room, each byte is read once.

use std::ops::Range;

use crate::encodings::encoding::Runs;
use crate::error::Result;
use crate::schedule::cut::StridedPart;
use crate::tensor::reference::TensorRef;

/// Bytes of one read, so that no more of the file is in the page cache than the budget has a line for.
const READ: usize = 1 << 20;

/// The buffer, divided again for each tensor.
pub(crate) struct GatherBuffer {
    room: Vec<u8>,
    /// The tensor for whose parts it is divided.
    of: Option<(usize, usize)>,
    parts: Vec<Held>,
}

/// What is held of one part.
#[derive(Clone, Default)]
struct Held {
    /// Where in the room.
    at: Range<usize>,
    /// Which stored rows.
    rows: Range<u64>,
}

impl GatherBuffer {
    pub(crate) fn new(bytes: usize) -> GatherBuffer {
        GatherBuffer { room: vec![0; bytes], of: None, parts: Vec::new() }
    }

    /// Divides the buffer among the parts of a tensor, unless it is already.
    pub(crate) fn turn_to<P>(&mut self, of: (usize, usize), parts: impl Fn() -> P)
    where
        P: Iterator<Item = StridedPart>,
    {
        if self.of == Some(of) {
            return;
        }
        self.of = Some(of);
        self.parts.clear();
        let (rows, all) = parts().fold((0, 0), |(rows, all), part| (rows + part.row, all + part.all));
        // A stored row of each part, and what is left by what each wants more.
        let (spare, wanted) = (self.room.len().saturating_sub(rows), all - rows);
        let mut next = 0;
        for StridedPart { row, all } in parts() {
            let more = match wanted {
                0 => 0,
                wanted => ((all - row) as u128 * spare.min(wanted) as u128 / wanted as u128) as usize,
            };
            let at = next..next + row + more;
            next = at.end;
            self.parts.push(Held { at, rows: 0..0 });
        }
    }

    /// Whether there is room for stored rows of that part.
    pub(crate) fn holds(&self, part: usize) -> bool {
        self.parts.get(part).is_some_and(|part| !part.at.is_empty())
    }

    /// Fills `buf` with the runs of a part, reading what is not held with `read`, which is given an offset in the file.
    pub(crate) fn pick(
        &mut self,
        part: (usize, &TensorRef),
        runs: Runs,
        buf: &mut [u8],
        mut read: impl FnMut(&mut [u8], u64) -> Result<()>,
    ) -> Result<()> {
        let Runs { first, len, count, stride } = runs;
        let (held, tensor) = (&mut self.parts[part.0], part.1);
        let room = &mut self.room[held.at.clone()];
        let (most, end) = (room.len() as u64 / stride, first / stride + count);
        let (mut row, skip) = (first / stride, (first % stride) as usize);
        let mut picked = buf.chunks_exact_mut(len as usize);
        while row < end {
            if !held.rows.contains(&row) {
                held.rows = 0..0;
                let rows = row..(row + most).min(end);
                let bytes = ((rows.end - rows.start) * stride) as usize;
                for (i, piece) in room[..bytes].chunks_mut(READ).enumerate() {
                    read(piece, tensor.offset + rows.start * stride + (i * READ) as u64)?;
                }
                held.rows = rows;
            }
            let until = held.rows.end.min(end);
            let from = ((row - held.rows.start) * stride) as usize;
            let rows = room[from..].chunks(stride as usize).take((until - row) as usize);
            for (stored, run) in rows.zip(picked.by_ref()) {
                run.copy_from_slice(&stored[skip..skip + len as usize]);
            }
            row = until;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::FileId;
    use crate::tensor::shape::Shape;

    #[test]
    fn runs_are_picked_whatever_the_room() {
        // 10 stored rows of 12 bytes behind 5 others, twice.
        let file: Vec<u8> = (0..=255).collect();
        let shape = Shape::new(&[20, 12]).expect("small");
        let tensor = TensorRef { file: FileId(0), offset: 5, dtype: Dtype::U8, shape };
        let whole = StridedPart { row: 12, all: 120 };
        for (room, reads) in [(12, 60), (30, 30), (119, 12), (120, 2), (500, 2)] {
            let mut gather = GatherBuffer::new(room);
            let count = Cell::new(0);
            for matrix in 0..2u64 {
                for (from, len) in [(0, 3), (3, 4), (7, 5)] {
                    gather.turn_to((0, 0), || std::iter::once(whole));
                    let first = matrix * 120 + from;
                    let runs = Runs { first, len, count: 10, stride: 12 };
                    let mut buf = vec![0; runs.bytes() as usize];
                    let read = |buf: &mut [u8], at: u64| {
                        count.set(count.get() + 1);
                        buf.copy_from_slice(&file[at as usize..at as usize + buf.len()]);
                        Ok(())
                    };
                    gather.pick((0, &tensor), runs, &mut buf, read).expect("it reads");
                    let at = |run: u64| (5 + first + run * 12) as usize;
                    let right: Vec<u8> =
                        (0..10).flat_map(|run| file[at(run)..at(run) + len as usize].to_vec()).collect();
                    assert_eq!(buf, right, "room {room}, matrix {matrix}, from {from}");
                }
            }
            assert_eq!(count.get(), reads, "reads in a room of {room}");
        }
    }

    #[test]
    fn parts_share_the_room_by_what_they_want() {
        let mut gather = GatherBuffer::new(100);
        let all =
            [StridedPart { row: 10, all: 300 }, StridedPart::default(), StridedPart { row: 2, all: 40 }];
        gather.turn_to((0, 0), || all.into_iter());
        let sizes: Vec<usize> = gather.parts.iter().map(|held| held.at.len()).collect();
        assert_eq!(sizes, [10 + 290 * 88 / 328, 0, 2 + 38 * 88 / 328]);
        assert!(gather.parts[2].at.end <= 100);
        let mut roomy = GatherBuffer::new(1000);
        roomy.turn_to((0, 0), || all.into_iter());
        assert_eq!(roomy.parts.iter().map(|held| held.at.len()).collect::<Vec<_>>(), [300, 0, 40]);
    }
}
