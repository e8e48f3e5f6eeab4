//! [`RemoteSource`]: a file of a store that is read over a network.

use std::sync::Arc;

use crate::error::Result;
use crate::storage::remote::fetch::Fetch;
use crate::storage::remote::in_order_sum::InOrderSum;
use crate::storage::remote::reads::RemoteReads;
use crate::storage::rules;
use crate::storage::source::Source;
use crate::storage::times::FileTimes;

/// A file that is open for reading. Nothing is held open for it.
pub(crate) struct RemoteSource {
    file: Arc<dyn Fetch>,
    /// Its number in the store.
    number: usize,
    /// How the files of its store are read.
    reads: Arc<RemoteReads>,
    /// What checks its bytes, if they have a hash that is known.
    sum: Option<InOrderSum>,
}

impl RemoteSource {
    /// The file with that number in its store, whose files are read by `reads`.
    pub(crate) fn new(file: Arc<dyn Fetch>, number: usize, reads: Arc<RemoteReads>) -> RemoteSource {
        let sum = InOrderSum::of(file.as_ref());
        RemoteSource { file, number, reads, sum }
    }
}

impl Source for RemoteSource {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = offset.saturating_add(buf.len() as u64);
        if end > self.len() {
            return Err(rules::past_the_end(self.file.path(), end, self.len()));
        }
        self.reads.read((&self.file, self.number), buf, offset)?;
        self.sum.iter().try_for_each(|sum| sum.see(self.file.as_ref(), buf, offset))
    }

    fn done_before(&self, _offset: u64) {}

    fn check_unchanged(&self) -> Result<()> {
        self.file.check_unchanged()
    }

    fn times(&self) -> Option<FileTimes> {
        self.file.times()
    }

    fn content_id(&self) -> Option<String> {
        self.file.content_id().map(str::to_owned)
    }
}
