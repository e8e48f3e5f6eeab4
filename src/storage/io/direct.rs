//! Past the page cache (`O_DIRECT`), with a few requests on their way in each direction.
//!
//! A memory cgroup as small as the budget makes the kernel reclaim page cache all the while, which costs more than the
//! merge itself. Direct I/O leaves no page behind, but knows neither read-ahead nor write-behind, and every request waits
//! for the disk. So both are here: [`ReadAhead`] fills the next pieces of a file that is read in order, and
//! [`WriteBehind`] writes full pieces while the next is filled. Bytes pass through aligned pieces of memory, which takes a copy, as the
//! page cache does; tensors begin anywhere, and their tiles could not be aligned in the file and in memory at once.
//!
//! What is not read in order (a few bytes of each of many rows, a header, factors) goes through the page cache.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::storage::io::block::PieceLayout;
use crate::storage::io::buffered::Buffered;
use crate::storage::io::in_order::InOrder;
use crate::storage::io::read_ahead::{AheadReader, ReadAhead};
use crate::storage::io::way::{FileReader, FileWriter, IoWay, Refusal, Windows};
use crate::storage::io::write_behind::WriteBehind;
use crate::storage::os;

/// Past the page cache.
pub(crate) struct Direct;

static IN_ORDER: InOrder = InOrder { beneath: &Direct, open: open_direct };

impl IoWay for Direct {
    fn name(&self) -> &'static str {
        "direct"
    }

    fn reader(&self, windows: Windows, refusal: &Refusal) -> Arc<dyn FileReader> {
        Arc::new(AheadReader(ReadAhead::new(windows.read, open_direct, refusal)))
    }

    fn in_order(&self) -> Option<&'static dyn IoWay> {
        Some(&IN_ORDER)
    }

    fn writer(
        &self,
        file: &Arc<File>,
        span: Range<u64>,
        windows: Windows,
        refusal: &Refusal,
    ) -> Box<dyn FileWriter> {
        let cut = PieceLayout::of(2 * windows.write);
        // A small file is not worth the threads.
        if span.end - span.start < cut.bytes as u64 {
            return Buffered.writer(file, span, windows, refusal);
        }
        let begun = os::open_direct(file, true).and_then(|direct| {
            let mut writer = WriteBehind::begin(file, direct, cut, refusal)?;
            writer.go_on_at(span.start)?;
            Ok(writer)
        });
        match begun {
            Ok(writer) => Box::new(writer),
            Err(_) => {
                refusal.set();
                Buffered.writer(file, span, windows, refusal)
            }
        }
    }
}

fn open_direct(file: &Arc<File>) -> io::Result<Arc<File>> {
    os::open_direct(file, false).map(Arc::new)
}
