//! Through the page cache, with several reads on their way at once: for network file systems, where one read after the other
//! waits for the network each time, and the kernel reads ahead too little or not at all.
//!
//! Writes go as with [`Buffered`]: the kernel sends dirty pages in parallel anyway.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::storage::io::buffered::Buffered;
use crate::storage::io::read_ahead::ReadAhead;
use crate::storage::io::way::{FileReader, FileWriter, IoWay, Refusal, Windows};

/// Several reads at once.
pub(crate) struct Parallel;

impl IoWay for Parallel {
    fn name(&self) -> &'static str {
        "parallel"
    }

    fn reader(&self, windows: Windows, refusal: &Refusal) -> Arc<dyn FileReader> {
        let same: fn(&Arc<File>) -> io::Result<Arc<File>> = |file| Ok(file.clone());
        Arc::new(StreamReader { ahead: ReadAhead::new(windows.read, refusal, same) })
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

/// Reads what a stream has, and else as if there were none.
pub(crate) struct StreamReader {
    pub(crate) ahead: ReadAhead,
}

impl FileReader for StreamReader {
    fn read(&self, file: &Arc<File>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        // Whatever the stream cannot give is read as if there were none: that also says why it cannot.
        match self.ahead.read(file, buf, offset) {
            Some(bytes) => Ok(bytes),
            None => file.read_at(buf, offset),
        }
    }
}
