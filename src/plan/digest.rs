//! A plan's digest: two plans with the same digest give the same bytes.

use std::io::{self, Write};

use super::Plan;

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
    pub fn digest(&self) -> String {
        let mut sink = Hashing(blake3::Hasher::new());
        serde_json::to_writer(&mut sink, self)
            .expect("a plan holds strings and numbers, and hashing cannot fail");
        sink.0.finalize().to_hex().to_string()
    }
}
