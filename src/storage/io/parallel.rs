//! Through the page cache, with several reads on their way at once: for network file systems, where one read after the other
//! waits for the network each time, and the kernel reads ahead too little or not at all.
//!
//! Writes go as with [`Buffered`]: the kernel sends dirty pages in parallel anyway.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use crate::storage::io::buffered::Buffered;
use crate::storage::io::in_order::InOrder;
use crate::storage::io::read_ahead::{AheadReader, Opener, ReadAhead};
use crate::storage::io::way::{FileReader, FileWriter, IoWay, Refusal, Windows};

/// Several reads at once.
pub(crate) struct Parallel;

const SAME: Opener = |file| Ok(file.clone());

static IN_ORDER: InOrder = InOrder { beneath: &Parallel, open: SAME };

impl IoWay for Parallel {
    fn name(&self) -> &'static str {
        "parallel"
    }

    fn reader(&self, windows: Windows, refusal: &Refusal) -> Arc<dyn FileReader> {
        Arc::new(AheadReader(ReadAhead::new(windows.read, SAME, refusal)))
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
        Buffered.writer(file, span, windows, refusal)
    }
}
