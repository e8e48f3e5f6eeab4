//! The result of joining the parts of a merge, in words and as JSON.

use std::fmt;

use serde::Serialize;

use crate::pipeline::tally::Applied;
use crate::plan::out_tensor::Counts;
use crate::report::summary::show_changed;
use crate::report::words::{counted, line, peak_rss};
use crate::tensor::size::show_size;

/// The result of joining parts. Bytes and seconds; memory as the kernel counts it.
#[derive(Clone, Debug, Serialize)]
pub struct Finished {
    /// `done` or `already done`.
    pub state: &'static str,
    /// Where the result is.
    pub output: String,
    /// The plan's digest.
    pub digest: String,
    /// The digest of the result's files.
    pub result: String,
    /// How many parts were joined; none if they were joined before.
    pub parts: Option<u32>,
    /// Tensors by what was done to them; none if it was done already.
    pub tensors: Option<Counts>,
    /// What all parts counted; none if it was done already.
    pub applied: Option<Applied>,
    /// Bytes of the output's shards.
    pub output_bytes: u64,
    /// Wall time.
    pub seconds: f64,
    /// Peak resident set (VmHWM).
    pub peak_rss: u64,
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.state != "done" {
            writeln!(f, "already done: `{}` is the result of a merge, and its hashes agree", self.output)?;
            return line(f, "result", &self.result);
        }
        let parts = self.parts.map(|parts| format!(" from {}", counted(parts, ["part", "parts"])));
        line(f, "merged into", &format!(" `{}`{}", self.output, parts.unwrap_or_default()))?;
        if let Some(tensors) = &self.tensors {
            line(f, "tensors", &tensors.to_string())?;
        }
        if let Some(applied) = &self.applied {
            show_changed(f, applied)?;
        }
        let (size, seconds) = (show_size(self.output_bytes), self.seconds);
        line(f, "bytes", &format!("{size}, joined in {seconds:.1} s"))?;
        line(f, "result", &self.result)?;
        line(f, "memory", &peak_rss(self.peak_rss))
    }
}
