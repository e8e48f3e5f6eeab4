//! The text of `shardfold.json`: printed as it goes, since the record of 100,000 tensors has 20 MB of it.

use std::io::{self, BufWriter, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::storage::checksummed::Sha256Writer;
use crate::storage::store::Store;
use crate::storage::stream::SinkWriter;

/// Levels that have a line for each value; what is further in, as a section of a shard, has one line.
const TALL: usize = 4;
/// JSON comes in small writes.
const STEP: usize = 1 << 16;

/// Length and SHA-256 of a record's text.
pub(crate) struct RecordSum {
    /// In bytes.
    pub(crate) bytes: u64,
    /// In hex.
    pub(crate) sha256: String,
}

impl Provenance {
    /// What there is to know of its text before it is written.
    pub(crate) fn sum(&self) -> RecordSum {
        let mut out = Sha256Writer::default();
        self.print(&mut out).expect("strings and numbers, and hashing cannot fail");
        let (bytes, sha256) = out.finish();
        RecordSum { bytes, sha256 }
    }

    /// Writes its text, which has `bytes` bytes, into `store`.
    ///
    /// # Errors
    /// As [`Store::create`], [`Sink::write`](crate::storage::sink::Sink::write) and [`Sink::commit`](crate::storage::sink::Sink::commit).
    pub(crate) fn write(&self, store: &dyn Store, bytes: u64) -> Result<()> {
        let mut sink = store.create(PROVENANCE, bytes)?;
        let mut out = SinkWriter::new(sink.as_mut());
        if let Err(error) = self.print(&mut out) {
            let path = store.path_of(PROVENANCE);
            let unknown = || Error::new(StorageError::Write { path }).because(error.to_string());
            return Err(out.failed.take().unwrap_or_else(unknown));
        }
        sink.commit()
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(STEP, out);
        let layout = Layout { depth: 0, tall: PrettyFormatter::new(), flat: CompactFormatter };
        self.serialize(&mut Serializer::with_formatter(&mut out, layout))?;
        out.write_all(b"\n")?;
        out.flush()
    }
}

/// Prints the outer levels with a line for each value, and the inner ones without.
struct Layout {
    depth: usize,
    tall: PrettyFormatter<'static>,
    flat: CompactFormatter,
}

/// Hands a call on to the formatter of the level.
macro_rules! by_level {
    ($($call:ident($($arg:ident: $kind:ty),*);)*) => {
        $(fn $call<W: ?Sized + Write>(&mut self, out: &mut W $(, $arg: $kind)*) -> io::Result<()> {
            if self.depth <= TALL { self.tall.$call(out $(, $arg)*) } else { self.flat.$call(out $(, $arg)*) }
        })*
    };
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.depth <= TALL { self.tall.begin_array(out) } else { self.flat.begin_array(out) }
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if self.depth < TALL { self.tall.end_array(out) } else { self.flat.end_array(out) }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth += 1;
        if self.depth <= TALL { self.tall.begin_object(out) } else { self.flat.begin_object(out) }
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        if self.depth < TALL { self.tall.end_object(out) } else { self.flat.end_object(out) }
    }

    by_level! {
        begin_array_value(first: bool);
        end_array_value();
        begin_object_key(first: bool);
        end_object_key();
        begin_object_value();
        end_object_value();
    }
}
