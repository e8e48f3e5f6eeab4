//! Sources and sinks as the standard library's readers and writers, for what parses or prints as it goes.

use std::io::{self, Read, Write};

use crate::error::Error;
use crate::storage::sink::Sink;
use crate::storage::source::Source;

/// A source read from its start on.
pub(crate) struct SourceReader<'s> {
    source: &'s dyn Source,
    at: u64,
    /// Why reading failed: the parser's own error does not tell.
    pub(crate) failed: Option<Error>,
}

impl SourceReader<'_> {
    /// Of all of a source.
    pub(crate) fn new(source: &dyn Source) -> SourceReader<'_> {
        SourceReader { source, at: 0, failed: None }
    }
}

impl Read for SourceReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = (self.source.len() - self.at).min(buf.len() as u64) as usize;
        if let Err(error) = self.source.read_at(&mut buf[..len], self.at) {
            self.failed = Some(error);
            return Err(failed());
        }
        self.at += len as u64;
        Ok(len)
    }
}

/// What a reader or a writer tells of a failure that it keeps.
fn failed() -> io::Error {
    io::ErrorKind::Other.into()
}

/// A sink that is written to.
pub(crate) struct SinkWriter<'s> {
    sink: &'s mut dyn Sink,
    /// Why writing failed.
    pub(crate) failed: Option<Error>,
}

impl SinkWriter<'_> {
    /// Behind what `sink` has.
    pub(crate) fn new(sink: &mut dyn Sink) -> SinkWriter<'_> {
        SinkWriter { sink, failed: None }
    }
}

impl Write for SinkWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A buffer that is dropped writes again what failed; the first failure has the cause.
        let written = if self.failed.is_none() { self.sink.write(bytes) } else { return Err(failed()) };
        written.map(|()| bytes.len()).map_err(|error| {
            self.failed = Some(error);
            failed()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
