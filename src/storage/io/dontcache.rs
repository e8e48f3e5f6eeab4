//! Through the page cache, which keeps nothing of it (`RWF_DONTCACHE`, Linux 6.14): the kernel writes back at once, and
//! drops what was read or is on disk.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::storage::io::buffered::WindowedWriter;
use crate::storage::io::way::{FileReader, FileWriter, IoWay, Refusal, Windows};
use crate::storage::os;

/// Through a cache that keeps nothing.
pub(crate) struct DontCache;

impl IoWay for DontCache {
    fn name(&self) -> &'static str {
        "dontcache"
    }

    fn reader(&self, _: Windows, refusal: &Refusal) -> Arc<dyn FileReader> {
        Arc::new(UncachedReader { is_on: AtomicBool::new(true), refusal: refusal.clone() })
    }

    fn writer(
        &self,
        file: &Arc<File>,
        span: Range<u64>,
        windows: Windows,
        refusal: &Refusal,
    ) -> Box<dyn FileWriter> {
        let (mut is_on, refusal) = (true, refusal.clone());
        let write = move |file: &File, bytes: &[u8], at: u64| {
            let mut done = 0;
            while is_on && done < bytes.len() {
                match os::write_uncached(file, &bytes[done..], at + done as u64)? {
                    Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Some(some) => done += some,
                    None => {
                        is_on = false;
                        refusal.set();
                    }
                }
            }
            file.write_all_at(&bytes[done..], at + done as u64)
        };
        // The kernel starts to write back at once; the window waits for it, as nothing else does.
        Box::new(WindowedWriter::new(file, span.start, windows, write))
    }
}

struct UncachedReader {
    /// Whether the kernel and the file system have it.
    is_on: AtomicBool,
    refusal: Refusal,
}

impl FileReader for UncachedReader {
    fn read(&self, file: &Arc<File>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.is_on.load(Relaxed) {
            if let Some(some) = os::read_uncached(file, buf, offset)? {
                return Ok(some);
            }
            self.is_on.store(false, Relaxed);
            self.refusal.set();
        }
        file.read_at(buf, offset)
    }
}
