//! Many small files that are made to last by one call, and not each by its own.

use crate::error::Result;
use crate::storage::sink::Sink;
use crate::storage::source::Source;

/// A file that need not last before all others do.
pub(crate) struct Together(pub(crate) Box<dyn Sink>);

impl Sink for Together {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write(bytes)
    }

    fn keep(&mut self) -> Result<bool> {
        self.0.keep()
    }

    fn write_same(&mut self, bytes: &[u8], source: &dyn Source, offset: u64) -> Result<()> {
        self.0.write_same(bytes, source, offset)
    }

    fn skip(&mut self, bytes: u64) -> Result<()> {
        self.0.skip(bytes)
    }

    fn commit(self: Box<Self>) -> Result<()> {
        self.0.commit_unsynced()
    }

    fn abort(self: Box<Self>) {
        self.0.abort();
    }
}
