//! What a merge came to, in words and as JSON.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::memory::limit::LimitKind;
use crate::memory::limits::{Environment, find};
use crate::memory::process::{cgroup_peak, process};
use crate::memory::size::{show_rate, show_size};
use crate::pipeline::tally::Applied;
use crate::plan::out_tensor::{Counts, Plan};
use crate::schedule::budget::Schedule;

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
    /// The summary of a result that is there already.
    pub(crate) fn already_done(plan: &Plan, digest: &str, schedule: &Schedule, output: &Path) -> Summary {
        Summary {
            state: "already done",
            output: output.display().to_string(),
            digest: digest.to_owned(),
            tensors: plan.counts(),
            applied: None,
            output_bytes: plan.output_bytes(),
            read_bytes: 0,
            seconds: 0.0,
            bytes_per_second: 0.0,
            max_ram: schedule.budget.total,
            peak_rss: process().peak,
            cgroup_peak: confined_peak(),
        }
    }

    /// The same for a run that has just made it.
    pub(crate) fn done(self, applied: Applied, read_bytes: u64, time: Duration) -> Summary {
        let seconds = time.as_secs_f64();
        let bytes_per_second = self.output_bytes as f64 / seconds.max(1e-6);
        Summary { state: "done", applied: Some(applied), read_bytes, seconds, bytes_per_second, ..self }
    }
}

/// The peak charge of our own cgroup, where one limits us: elsewhere it counts every process of the machine.
fn confined_peak() -> Option<u64> {
    let is_cgroup = |kind| matches!(kind, LimitKind::CgroupV1 | LimitKind::CgroupV2 | LimitKind::CgroupHigh);
    let limits = find(&Environment::of_this_process());
    limits.iter().any(|limit| is_cgroup(limit.kind)).then(cgroup_peak).flatten()
}

/// What is worth a warning: modules that lost more than half of their delta, with the worst of each adapter.
pub(crate) fn lost(applied: &Applied) -> Vec<String> {
    let of = |i: usize| {
        let mut modules: Vec<_> = applied
            .modules
            .iter()
            .filter(|module| module.adapter as usize == i && module.is_lost())
            .collect();
        modules.sort_by(|a, b| a.survival.unwrap_or(0.0).total_cmp(&b.survival.unwrap_or(0.0)));
        let worst = modules.first()?;
        Some(format!(
            "{} of the modules of `{}` lost more than half of their delta to rounding, the worst is `{}` with {:.1} % left: \
             a base of more precision keeps it",
            modules.len(),
            applied.adapters[i].adapter,
            worst.module,
            100.0 * worst.survival.unwrap_or_default()
        ))
    };
    (0..applied.adapters.len()).filter_map(of).collect()
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
        writeln!(f, "merged into `{}`", self.output)?;
        writeln!(f, "  tensors  {}", self.tensors)?;
        if applied.merged_elements > 0 {
            let share = 100.0 * applied.changed_elements as f64 / applied.merged_elements as f64;
            writeln!(f, "  changed  {share:.1} % of the elements of merged tensors")?;
        }
        for adapter in &applied.adapters {
            let Some(survival) = adapter.survival else { continue };
            writeln!(
                f,
                "  survival {:.1} % of the deltas of `{}`; {:.1} % of their elements moved nothing",
                100.0 * survival,
                adapter.adapter,
                100.0 * adapter.unmoved.unwrap_or_default()
            )?;
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
