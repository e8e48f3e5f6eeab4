//! [`StoreIo`]: the way that the files of one directory are read and written, for all that are open.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

use crate::storage::io::settings::{IoSettings, Unchanged};
use crate::storage::io::way::{FileReader, FileWriter, Refusal, Windows};

/// The write window's step unless told otherwise, and the least it may be.
const WRITE_STEP: u64 = 8 << 20;
/// What is read ahead unless told otherwise.
const READ_BYTES: u64 = 2 << 20;

/// How files are read and written now.
pub(crate) struct StoreIo {
    now: RwLock<Now>,
}

struct Now {
    settings: IoSettings,
    reader: Arc<dyn FileReader>,
    refusal: Refusal,
}

impl Now {
    fn new(settings: IoSettings) -> Now {
        let refusal = Refusal::default();
        let reader = settings.mode.0.reader(windows(settings, false), &refusal);
        Now { settings, reader, refusal }
    }
}

impl Default for StoreIo {
    fn default() -> StoreIo {
        let settings =
            IoSettings { read_bytes: READ_BYTES, write_bytes: WRITE_STEP, ..IoSettings::default() };
        StoreIo { now: RwLock::new(Now::new(settings)) }
    }
}

impl StoreIo {
    /// Takes other settings for files that are open and for those that follow.
    pub(crate) fn set(&self, settings: IoSettings) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Now::new(settings);
    }

    /// As before, but for the bytes that may be written and not begun.
    pub(crate) fn set_write_bytes(&self, bytes: u64) {
        let settings = self.with(|now| now.settings);
        self.set(IoSettings { write_bytes: bytes, ..settings });
    }

    /// Reads some bytes of a file of the store.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn read(&self, file: &Arc<File>, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let reader = self.with(|now| now.reader.clone());
        reader.read(file, buf, offset)
    }

    /// What writes a file from the start of `span` to its end.
    pub(crate) fn writer(
        &self,
        file: &Arc<File>,
        span: Range<u64>,
        keeping_cache: bool,
    ) -> Box<dyn FileWriter> {
        self.with(|now| {
            now.settings.mode.0.writer(file, span, windows(now.settings, keeping_cache), &now.refusal)
        })
    }

    /// How much of a file may be on its way.
    pub(crate) fn windows(&self, keeping_cache: bool) -> Windows {
        self.with(|now| windows(now.settings, keeping_cache))
    }

    /// What becomes of bytes of new files that others have.
    pub(crate) fn unchanged(&self) -> Unchanged {
        self.with(|now| now.settings.unchanged)
    }

    /// The name of the way if it was refused for a file.
    pub(crate) fn refused(&self) -> Option<&'static str> {
        self.with(|now| now.refusal.is_set().then(|| now.settings.mode.name()))
    }

    fn with<T>(&self, look: impl FnOnce(&Now) -> T) -> T {
        look(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for StoreIo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.with(|now| now.settings.fmt(f))
    }
}

fn windows(settings: IoSettings, keeping_cache: bool) -> Windows {
    Windows { read: settings.read_bytes, write: settings.write_bytes, keeping_cache }
}
