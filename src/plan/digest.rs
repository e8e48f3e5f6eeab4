//! A plan's digest: two plans with the same digest give the same bytes.

use std::io::{self, BufWriter, Write};

use crate::plan::out_tensor::Plan;

struct Hashing(blake3::Hasher);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Plan {
    /// BLAKE3 of the plan's JSON, in hex. Nothing in a plan depends on the host, the budget or the time, so neither does
    /// this.
    pub(crate) fn digest(&self) -> String {
        // JSON comes in small writes, which cost more to hash than a bufferful.
        let mut sink = BufWriter::with_capacity(1 << 16, Hashing(blake3::Hasher::new()));
        serde_json::to_writer(&mut sink, self)
            .expect("a plan holds strings and numbers, and hashing cannot fail");
        let Ok(Hashing(hasher)) = sink.into_inner() else { unreachable!("hashing cannot fail") };
        hasher.finalize().to_hex().to_string()
    }
}
