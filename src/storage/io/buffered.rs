//! Through the page cache, with a window of dirty pages.
//!
//! Dirty pages are charged to the writer's cgroup and pile up until the sync stalls. So after each step of some MiB its
//! write-back is started, and the step two behind is waited for and dropped from the cache: about three steps are in the
//! cache at any time, and the disk always has work. The window makes nothing durable; that is the commit's part.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::storage::behind::OVERLAP;
use crate::storage::io::in_order::InOrder;
use crate::storage::io::way::{FileReader, FileWriter, IoWay, Refusal, Windows};
use crate::storage::os;

/// The least step of the window, and what steps are a multiple of.
const LEAST_STEP: u64 = 64 << 10;
const PAGE: u64 = 4096;

/// Through the page cache.
pub(crate) struct Buffered;

static IN_ORDER: InOrder = InOrder { beneath: &Buffered, open: |file| Ok(file.clone()) };

impl IoWay for Buffered {
    fn name(&self) -> &'static str {
        "buffered"
    }

    fn reader(&self, _: Windows, _: &Refusal) -> Arc<dyn FileReader> {
        Arc::new(CachedReader)
    }

    fn in_order(&self) -> Option<&'static dyn IoWay> {
        Some(&IN_ORDER)
    }

    fn writer(
        &self,
        file: &Arc<File>,
        span: Range<u64>,
        windows: Windows,
        _: &Refusal,
    ) -> Box<dyn FileWriter> {
        let write = |file: &File, bytes: &[u8], at| file.write_all_at(bytes, at);
        Box::new(WindowedWriter::new(file, span.start, windows, write))
    }
}

struct CachedReader;

impl FileReader for CachedReader {
    fn read(&self, file: &Arc<File>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buf, offset)
    }
}

/// Writes with a window of dirty pages.
pub(crate) struct WindowedWriter<W> {
    file: Arc<File>,
    window: WriteWindow,
    /// Bytes written.
    offset: u64,
    /// Writes all of some bytes at an offset.
    write: W,
}

impl<W: FnMut(&File, &[u8], u64) -> io::Result<()> + Send> WindowedWriter<W> {
    pub(crate) fn new(file: &Arc<File>, from: u64, windows: Windows, write: W) -> WindowedWriter<W> {
        let window = WriteWindow::new(from, windows.write, windows.keeping_cache);
        WindowedWriter { file: file.clone(), window, offset: from, write }
    }
}

impl<W: FnMut(&File, &[u8], u64) -> io::Result<()> + Send> FileWriter for WindowedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(self.window.room(self.offset)));
            (self.write)(&self.file, now, self.offset)?;
            self.offset += now.len() as u64;
            self.window.wrote(&self.file, self.offset)?;
            rest = later;
        }
        Ok(())
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.offset += bytes;
        self.window.wrote(&self.file, self.offset)
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn forget(&mut self) {
        self.window.forget(&self.file);
    }
}

/// The steps of a file whose pages are dirty or on their way to disk.
struct WriteWindow {
    /// Bytes of one step.
    step: u64,
    /// Bytes whose write-back was started: a multiple of `step`.
    started: u64,
    /// Whether the system has the calls that it takes.
    is_on: bool,
    keeping_cache: bool,
}

impl WriteWindow {
    /// Of a file whose first `from` bytes are on disk.
    fn new(from: u64, step: u64, keeping_cache: bool) -> WriteWindow {
        let step = step.clamp(LEAST_STEP, 1 << 40).next_multiple_of(PAGE);
        WriteWindow { step, started: from - from % step, is_on: true, keeping_cache }
    }

    /// Bytes from `offset` to the end of its step.
    fn room(&self, offset: u64) -> usize {
        usize::try_from(self.step - offset % self.step).unwrap_or(usize::MAX)
    }

    /// Moves on to `written`, the bytes written so far.
    fn wrote(&mut self, file: &File, written: u64) -> io::Result<()> {
        while self.is_on && written - self.started >= self.step {
            self.is_on = os::start_write_back(file, self.started, self.step)?;
            self.started += self.step;
            if let Some(behind) = self.started.checked_sub(3 * self.step)
                && self.is_on
            {
                self.is_on = os::finish_write_back(file, behind, self.step)?;
                if !self.keeping_cache {
                    os::drop_cache(file, behind.saturating_sub(OVERLAP), Some(behind + self.step));
                }
            }
        }
        Ok(())
    }

    /// Drops what is left of a file that is synced.
    fn forget(&self, file: &File) {
        if !self.keeping_cache {
            os::drop_cache(file, 0, None);
        }
    }
}
