//! Rows of an adapter's tensors in another order than its file has them.
//!
//! llama.cpp reorders the rows of queries and keys, and so do adapters that were converted for it, and trainers whose models are
//! made as Meta's are: row 2·j + i of a head there is row
//! i·(d/2) + j of the model. Whoever reads the file through [`InModelOrder`] sees the model's rows.

use std::fs::File;
use std::sync::Arc;

use crate::checkpoint::llama_cpp::Architecture;
use crate::error::Result;
use crate::storage::source::Source;
use crate::storage::times::FileTimes;

/// Whose order of rows a file has.
#[derive(Clone, Copy)]
pub(crate) enum RowOrder {
    /// That of an architecture of llama.cpp.
    LlamaCpp(&'static Architecture),
    /// That of models in which rotary positions turn neighboring rows.
    Interleaved,
}

impl RowOrder {
    /// The heads whose rows are reordered at that path, of these many of queries and of keys; 0 if its rows are the model's.
    pub(crate) fn heads(self, path: &str, [queries, keys]: [u64; 2]) -> u64 {
        match self {
            RowOrder::LlamaCpp(architecture) => architecture.reordered_heads(path, [queries, keys]),
            RowOrder::Interleaved if path.contains(".q_proj.") => queries,
            RowOrder::Interleaved if path.contains(".k_proj.") => keys,
            RowOrder::Interleaved => 0,
        }
    }

    /// The type of most models that have it, where it is one's.
    pub(crate) fn model_type(self) -> Option<&'static str> {
        match self {
            RowOrder::LlamaCpp(architecture) => Some(architecture.model_type()),
            RowOrder::Interleaved => None,
        }
    }

    /// What messages call it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            RowOrder::LlamaCpp(_) => "llama.cpp's order",
            RowOrder::Interleaved => "the order of interleaved rotary positions",
        }
    }
}

/// A matrix whose rows are those of heads, each with its halves one between the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReorderedRows {
    /// First byte in the file.
    pub start: u64,
    /// Rows of a head: an even number.
    pub head: u64,
    /// Rows in all, of whole heads.
    pub rows: u64,
    /// Bytes of a row.
    pub row_bytes: u64,
}

impl ReorderedRows {
    fn end(&self) -> u64 {
        self.start + self.rows * self.row_bytes
    }

    /// Which row of the file a row of the model is.
    fn in_file(&self, row: u64) -> u64 {
        let (head, within, half) = (row / self.head, row % self.head, self.head / 2);
        head * self.head + 2 * (within % half) + within / half
    }
}

/// A file with some of its matrices in the model's order.
pub(crate) struct InModelOrder {
    file: Box<dyn Source>,
    /// In the order of their bytes.
    matrices: Vec<ReorderedRows>,
}

impl InModelOrder {
    /// A file that holds these matrices, which do not overlap.
    pub(crate) fn new(file: Box<dyn Source>, mut matrices: Vec<ReorderedRows>) -> InModelOrder {
        matrices.sort_unstable_by_key(|matrix| matrix.start);
        InModelOrder { file, matrices }
    }
}

impl Source for InModelOrder {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let (mut rest, mut at) = (buf, offset);
        while !rest.is_empty() {
            let next = self.matrices.partition_point(|matrix| matrix.end() <= at);
            let matrix = self.matrices.get(next);
            // Where the stretch that is read at once begins in the file, and where it ends here.
            let (from, end) = match matrix.filter(|matrix| matrix.start <= at) {
                Some(matrix) => {
                    let (row, into) =
                        ((at - matrix.start) / matrix.row_bytes, (at - matrix.start) % matrix.row_bytes);
                    let from = matrix.start + matrix.in_file(row) * matrix.row_bytes + into;
                    (from, matrix.start + (row + 1) * matrix.row_bytes)
                }
                None => (at, matrix.map_or(u64::MAX, |matrix| matrix.start)),
            };
            let (now, later) = rest.split_at_mut((end - at).min(rest.len() as u64) as usize);
            self.file.read_at(now, from)?;
            at += now.len() as u64;
            rest = later;
        }
        Ok(())
    }

    fn done_before(&self, offset: u64) {
        // Rows of a matrix that is not read to its end may still be wanted.
        let inside = self.matrices.iter().find(|matrix| matrix.start < offset && offset < matrix.end());
        self.file.done_before(inside.map_or(offset, |matrix| matrix.start));
    }

    fn as_file(&self) -> Option<Arc<File>> {
        None
    }

    fn check_unchanged(&self) -> Result<()> {
        self.file.check_unchanged()
    }

    fn access(&self) -> Option<u32> {
        self.file.access()
    }

    fn times(&self) -> Option<FileTimes> {
        self.file.times()
    }

    fn content_id(&self) -> Option<String> {
        self.file.content_id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bytes(Vec<u8>);

    impl Source for Bytes {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            buf.copy_from_slice(&self.0[offset as usize..][..buf.len()]);
            Ok(())
        }

        fn done_before(&self, _: u64) {}
    }

    #[test]
    fn rows_come_in_the_models_order_wherever_one_reads() {
        // Three bytes, two heads of four rows of two bytes, a byte, a head of two rows of one byte.
        let file: Vec<u8> = (0..22).collect();
        let matrices = vec![
            ReorderedRows { start: 20, head: 2, rows: 2, row_bytes: 1 },
            ReorderedRows { start: 3, head: 4, rows: 8, row_bytes: 2 },
        ];
        let source = InModelOrder::new(Box::new(Bytes(file)), matrices);
        let right = [0, 1, 2, 3, 4, 7, 8, 5, 6, 9, 10, 11, 12, 15, 16, 13, 14, 17, 18, 19, 20, 21];
        for start in 0..right.len() {
            for end in start..=right.len() {
                let mut found = vec![0xff; end - start];
                source.read_at(&mut found, start as u64).expect("it is there");
                assert_eq!(found, right[start..end], "{start}..{end}");
            }
        }
    }
}
