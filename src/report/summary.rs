//! What a merge came to, in words and as JSON.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::job::Prepared;
use crate::memory::{Environment, LimitKind, cgroup_peak, find, process, show_rate, show_size};
use crate::pipeline::Applied;
use crate::plan::Counts;

/// What a merge came to. Bytes and seconds; memory as the kernel counts it.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// `done` or `already done`.
    pub state: &'static str,
    /// Where the result is.
    pub output: String,
    /// The plan's digest.
    pub digest: String,
    /// Tensors by what was done to them.
    pub tensors: Counts,
    /// What the run counted; none if it was done already.
    pub applied: Option<Applied>,
    /// Bytes of the output's shards.
    pub output_bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Wall time.
    pub seconds: f64,
    /// Output bytes per second.
    pub bytes_per_second: f64,
    /// The budget.
    pub max_ram: u64,
    /// Peak resident set (VmHWM).
    pub peak_rss: u64,
    /// Peak charge of the process's own memory cgroup, where one limits it.
    pub cgroup_peak: Option<u64>,
}

impl Summary {
    /// The summary of a run.
    pub(crate) fn done(
        job: &Prepared,
        output: &Path,
        applied: Applied,
        read_bytes: u64,
        time: Duration,
    ) -> Summary {
        let seconds = time.as_secs_f64();
        let bytes_per_second = job.plan.output_bytes() as f64 / seconds.max(1e-6);
        Summary {
            applied: Some(applied),
            read_bytes,
            seconds,
            bytes_per_second,
            ..Summary::already_done(job, output)
        }
        .named("done")
    }

    /// The summary of a result that is there already.
    pub(crate) fn already_done(job: &Prepared, output: &Path) -> Summary {
        Summary {
            state: "already done",
            output: output.display().to_string(),
            digest: job.digest.clone(),
            tensors: job.plan.counts(),
            applied: None,
            output_bytes: job.plan.output_bytes(),
            read_bytes: 0,
            seconds: 0.0,
            bytes_per_second: 0.0,
            max_ram: job.schedule.budget.total,
            peak_rss: process().peak,
            cgroup_peak: confined_peak(),
        }
    }

    fn named(mut self, state: &'static str) -> Summary {
        self.state = state;
        self
    }
}

/// The peak charge of our own cgroup, where one limits us: elsewhere it counts every process of the machine.
fn confined_peak() -> Option<u64> {
    let is_cgroup = |kind| matches!(kind, LimitKind::CgroupV1 | LimitKind::CgroupV2 | LimitKind::CgroupHigh);
    let limits = find(&Environment::of_this_process());
    limits.iter().any(|limit| is_cgroup(limit.kind)).then(cgroup_peak).flatten()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(applied) = &self.applied else {
            return writeln!(
                f,
                "already done: `{}` is the result of this merge, and its hashes agree",
                self.output
            );
        };
        let Counts { merged, replaced, copied } = self.tensors;
        writeln!(f, "merged into `{}`", self.output)?;
        writeln!(f, "  tensors  {merged} merged, {replaced} replaced, {copied} copied")?;
        if applied.merged_elements > 0 {
            let share = 100.0 * applied.changed_elements as f64 / applied.merged_elements as f64;
            writeln!(f, "  changed  {share:.1} % of the elements of merged tensors")?;
        }
        if let Some(first) = applied.unchanged.first() {
            let n = applied.unchanged.len();
            let tensors = if n == 1 { "tensor" } else { "tensors" };
            writeln!(
                f,
                "  note     {n} merged {tensors} did not change at all, as their deltas are zero or too small: `{first}`{}",
                if n > 1 { " …" } else { "" }
            )?;
        }
        writeln!(
            f,
            "  bytes    {} written, {} read, in {:.1} s: {}",
            show_size(self.output_bytes),
            show_size(self.read_bytes),
            self.seconds,
            show_rate(self.bytes_per_second)
        )?;
        write!(f, "  memory   peak {} of a budget of {}", show_size(self.peak_rss), show_size(self.max_ram))?;
        match self.cgroup_peak {
            Some(peak) => writeln!(f, ", cgroup peak {}", show_size(peak)),
            None => writeln!(f),
        }
    }
}
