//! [`InOrder`]: a way for a store whose files are read in order and only so. What follows is read before it is asked for,
//! by as many threads as the disk takes, however small the pieces are that are asked for.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use crate::storage::io::read_ahead::{AheadReader, Opener, ReadAhead};
use crate::storage::io::way::{FileReader, FileWriter, IoWay, Refusal, Windows};

/// Another way, but for reading.
pub(crate) struct InOrder {
    /// The other way.
    pub(crate) beneath: &'static dyn IoWay,
    /// How its files are opened for reading.
    pub(crate) open: Opener,
}

impl IoWay for InOrder {
    fn name(&self) -> &'static str {
        self.beneath.name()
    }

    fn reader(&self, windows: Windows, refusal: &Refusal) -> Arc<dyn FileReader> {
        let ahead = ReadAhead::new(windows.read, self.open, refusal).following_every_read();
        Arc::new(AheadReader(ahead))
    }

    fn writer(
        &self,
        file: &Arc<File>,
        span: Range<u64>,
        windows: Windows,
        refusal: &Refusal,
    ) -> Box<dyn FileWriter> {
        self.beneath.writer(file, span, windows, refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::io::ways::IO_WAYS;

    #[test]
    fn small_pieces_in_order_come_from_the_stream_whatever_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let content: Vec<u8> = (0..500_000usize).map(|i| (i / 256 * 7 + i) as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let file = Arc::new(File::open(path).unwrap());
        for way in IO_WAYS.iter().filter_map(|way| way.in_order()) {
            let windows = Windows { read: 256 << 10, write: 1 << 20, keeping_cache: false };
            let reader = way.reader(windows, &Refusal::default());
            // In order, then elsewhere, and on from there.
            for start in [0, 400_003, 7] {
                let mut at = start;
                while at < (start + 90_000).min(content.len()) {
                    let mut buf = [0; 1_111];
                    let some = reader.read(&file, &mut buf, at as u64).unwrap();
                    assert!(some > 0 && buf[..some] == content[at..at + some], "{} at {at}", way.name());
                    at += some;
                }
            }
        }
    }
}
