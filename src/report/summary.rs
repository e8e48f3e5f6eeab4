//! The result of a merge in words and as JSON.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::memory::limit::LimitKind;
use crate::memory::limits::{Environment, find};
use crate::memory::process::{cgroup_peak, process};
use crate::note::Note;
use crate::note::run::RunNote;
use crate::pipeline::clock::ThreadTime;
use crate::pipeline::tally::{Applied, EncodedRetention, ModuleRetention};
use crate::plan::out_tensor::{Content, Counts, Plan};
use crate::schedule::budget::Schedule;
use crate::storage::io::choice::IoChoice;
use crate::tensor::size::{Size, show_rate, show_size};

use crate::report::bottleneck::{Bottleneck, threads_text};
use crate::report::groups::group;
use crate::report::words::{counted, line, peak_rss};

/// The result of a merge. Bytes and seconds; memory as the kernel counts it.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// `done` or `already done`; of a part, `part done` or `part already done`.
    pub state: &'static str,
    /// Which part of the output was made, as `0/4`, if it was not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// Where the result is.
    pub output: String,
    /// The plan's digest.
    pub digest: String,
    /// The digest of the result's files; none if nothing was written.
    pub result: Option<String>,
    /// Tensors by what was done to them.
    pub tensors: Counts,
    /// What the run counted; none if it was done already.
    pub applied: Option<Applied>,
    /// Bytes of the output's shards.
    pub output_bytes: u64,
    /// Bytes of them that an earlier run had made.
    pub kept_bytes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes of them that the result shares with the base: they were neither read nor written.
    pub shared_bytes: u64,
    /// Wall time.
    pub seconds: f64,
    /// Output bytes per second.
    pub bytes_per_second: f64,
    /// Which way files were read and written.
    pub io: IoChoice,
    /// What each thread spent its time on.
    pub threads: Vec<ThreadTime>,
    /// What made it take as long as it did.
    pub limit: Option<Bottleneck>,
    /// The budget.
    pub max_ram: Size,
    /// Peak resident set (VmHWM).
    pub peak_rss: u64,
    /// What was done.
    #[serde(skip)]
    done: SummaryKind,
    /// What merged tensors are rounded to, if it is one type.
    #[serde(skip)]
    rounded_to: Option<String>,
    /// Peak charge of the process's own memory cgroup, where one limits it.
    pub cgroup_peak: Option<u64>,
}

/// What a run does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SummaryKind {
    Merge,
    /// Without adapters.
    Convert,
    /// It takes a merge back.
    Unmerge,
}

impl SummaryKind {
    fn of(plan: &Plan) -> SummaryKind {
        if plan.is_inverse {
            SummaryKind::Unmerge
        } else if plan.adapters.is_empty() {
            SummaryKind::Convert
        } else {
            SummaryKind::Merge
        }
    }

    fn text(self) -> &'static str {
        match self {
            SummaryKind::Merge => "merged into",
            SummaryKind::Convert => "written to",
            SummaryKind::Unmerge => "unmerged into",
        }
    }
}

impl Summary {
    /// The summary of a result that is there already.
    pub(crate) fn already_done(
        (plan, digest): (&Plan, &str),
        schedule: &Schedule,
        io: &IoChoice,
        output: &Path,
    ) -> Summary {
        Summary {
            state: "already done",
            part: None,
            output: output.display().to_string(),
            digest: digest.to_owned(),
            result: None,
            tensors: plan.counts(),
            applied: None,
            output_bytes: plan.output_bytes(),
            kept_bytes: 0,
            read_bytes: 0,
            shared_bytes: 0,
            seconds: 0.0,
            bytes_per_second: 0.0,
            io: io.clone(),
            threads: Vec::new(),
            limit: None,
            max_ram: schedule.budget.total.clone(),
            done: SummaryKind::of(plan),
            rounded_to: rounded_to(plan),
            peak_rss: process().peak,
            cgroup_peak: confined_peak(),
        }
    }

    /// The same for a run that has just made it, but for `kept_bytes`. Nothing was counted where all was there.
    pub(crate) fn done(
        self,
        applied: Option<Applied>,
        [kept_bytes, read_bytes, shared_bytes]: [u64; 3],
        time: Duration,
    ) -> Summary {
        let summary = self.took([kept_bytes, read_bytes, shared_bytes], time);
        Summary { state: "done", applied, ..summary }
    }

    /// The same for one that makes a part of it, of so many bytes.
    pub(crate) fn of_part(self, state: &'static str, part: String, output_bytes: u64) -> Summary {
        Summary { state, part: Some(part), output_bytes, ..self }
    }

    /// The same with the bytes that it took, and the time.
    pub(crate) fn took(self, [kept_bytes, read_bytes, shared_bytes]: [u64; 3], time: Duration) -> Summary {
        let seconds = time.as_secs_f64();
        let bytes_per_second = (self.output_bytes - kept_bytes) as f64 / seconds.max(1e-6);
        Summary { kept_bytes, read_bytes, shared_bytes, seconds, bytes_per_second, ..self }
    }
}

impl Summary {
    /// The same with the digest of the result.
    pub(crate) fn of_result(self, result: String) -> Summary {
        Summary { result: Some(result), ..self }
    }

    /// The same with what its threads spent their time on.
    pub(crate) fn timed(self, threads: Vec<ThreadTime>) -> Summary {
        Summary { limit: Bottleneck::of(&threads), threads, ..self }
    }

    /// What its threads spent their time on, in words, for those who look closely.
    pub(crate) fn threads_text(&self) -> String {
        threads_text(&self.threads, self.limit)
    }
}

/// The peak charge of our own cgroup, where one limits us: elsewhere it counts every process of the machine.
fn confined_peak() -> Option<u64> {
    let is_cgroup = |kind| matches!(kind, LimitKind::CgroupV1 | LimitKind::CgroupV2 | LimitKind::CgroupHigh);
    let limits = find(&Environment::of_this_process());
    limits.iter().any(|limit| is_cgroup(limit.kind)).then(cgroup_peak).flatten()
}

/// The encoding of all merged tensors, as `BF16`; none where there are several.
fn rounded_to(plan: &Plan) -> Option<String> {
    let merged = plan
        .tensors()
        .filter(|tensor| matches!(&tensor.content, Content::Compute { ops, .. } if !ops.is_empty()));
    let mut encodings = merged.map(|tensor| &*tensor.encoding);
    let first = encodings.next()?;
    let only = encodings.all(|other| other == first).then_some(first)?;
    // Of `fp8_block` and `ct_int8` the number is what weights are rounded to.
    only.split('_').find(|word| word.ends_with(|end: char| end.is_ascii_digit())).map(str::to_uppercase)
}

/// What is worth a warning: modules that lost more than half of their delta, with the worst of each adapter.
pub(crate) fn lost(applied: &Applied) -> Vec<Note> {
    let encoded = applied.encoded_again.iter().filter(|left| left.median < MOSTLY_KEPT).map(|left| {
        let EncodedRetention { count, median, least, tensor } = left.clone();
        RunNote::LostInCodes { count, median, least, tensor }.into()
    });
    encoded.chain((0..applied.adapters.len()).filter_map(|i| lost_of(applied, i))).collect()
}

/// With less than this left in half of the weights that are encoded again, it is reported.
const MOSTLY_KEPT: f64 = 0.9;

fn lost_of(applied: &Applied, adapter: usize) -> Option<Note> {
    let modules = || applied.modules.iter().filter(|module| module.adapter as usize == adapter);
    let retained = |module: &ModuleRetention| module.retained.unwrap_or_default();
    let lost = || modules().filter(|module| module.is_lost());
    let worst = lost().min_by(|a, b| retained(a).total_cmp(&retained(b)))?;
    let note = RunNote::DeltaLost {
        adapter: applied.adapters[adapter].adapter.clone(),
        count: lost().count(),
        of: modules().count(),
        worst: worst.module.clone(),
        retained: retained(worst),
    };
    Some(note.into())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(part) = &self.part {
            writeln!(f, "{}: {part} of `{}`", self.state, self.output)?;
            return if self.state == "part done" { self.show_bytes(f) } else { Ok(()) };
        }
        if self.state != "done" {
            let output = &self.output;
            writeln!(f, "already done: `{output}` is the result of this merge, and its hashes agree")?;
            return self.show_result(f);
        }
        line(f, self.done.text(), &format!(" `{}`", self.output))?;
        line(f, "tensors", &self.tensors.to_string())?;
        // What is left of deltas that are taken out tells nobody anything.
        if let Some(applied) = self.applied.as_ref().filter(|_| self.done != SummaryKind::Unmerge) {
            self.show_applied(f, applied)?;
        }
        self.show_bytes(f)
    }
}

impl Summary {
    /// What it took, and the digest of the result.
    fn show_bytes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kept_bytes > 0 {
            line(f, "kept", &format!("{} that an interrupted run had made", show_size(self.kept_bytes)))?;
        }
        let written = self.output_bytes - self.kept_bytes - self.shared_bytes;
        let [written, read, shared] = [written, self.read_bytes, self.shared_bytes].map(show_size);
        let shared =
            if self.shared_bytes > 0 { format!(", {shared} shared with the base") } else { String::new() };
        let (rate, seconds) = (show_rate(self.bytes_per_second), self.seconds);
        line(f, "bytes", &format!("{written} written, {read} read{shared}, in {seconds:.1} s: {rate}"))?;
        self.show_result(f)?;
        let cgroup = self.cgroup_peak.map(|peak| format!(", cgroup peak {}", show_size(peak)));
        let peak = peak_rss(self.peak_rss);
        line(f, "memory", &format!("{peak}, budget {}{}", self.max_ram, cgroup.unwrap_or_default()))
    }

    fn show_result(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.result.as_ref().map_or(Ok(()), |result| line(f, "result", result))
    }

    /// What the run counted.
    fn show_applied(&self, f: &mut fmt::Formatter<'_>, applied: &Applied) -> fmt::Result {
        show_changed(f, applied)?;
        self.show_retained(f, applied)?;
        show_unchanged(f, applied)
    }

    /// How much of each delta is left: the share of its size along itself, and of its weights that did not move.
    fn show_retained(&self, f: &mut fmt::Formatter<'_>, applied: &Applied) -> fmt::Result {
        let to = self.rounded_to.as_deref().map(|to| format!("{to} ")).unwrap_or_default();
        for adapter in &applied.adapters {
            let Some(retained) = adapter.retained else { continue };
            let of = if applied.adapters.len() == 1 {
                String::new()
            } else {
                format!(" of `{}`", adapter.adapter)
            };
            let [kept, unchanged] =
                [retained, adapter.unchanged.unwrap_or_default()].map(|share| 100.0 * share);
            let sample = sample(adapter.measured);
            let text = format!(
                "{kept:.1} %{of} kept after {to}rounding ({unchanged:.1} % of weights unchanged{sample})"
            );
            line(f, "delta", &text)?;
        }
        Ok(())
    }
}

/// How much of the weights changed.
pub(crate) fn show_changed(f: &mut fmt::Formatter<'_>, applied: &Applied) -> fmt::Result {
    if applied.merged_elements == 0 {
        return Ok(());
    }
    let share = 100.0 * applied.changed_elements as f64 / applied.merged_elements as f64;
    line(f, "changed", &format!("{share:.1} % of the weights in merged tensors"))
}

/// On how much of a delta it was measured what is left, if not on all of it.
fn sample(measured: f64) -> String {
    if measured < 1.0 { format!("; measured on {:.1} % of them", 100.0 * measured) } else { String::new() }
}

/// Merged tensors that are as they were, those alike together.
fn show_unchanged(f: &mut fmt::Formatter<'_>, applied: &Applied) -> fmt::Result {
    let groups = group(applied.unchanged.iter().map(|name| (name.as_str(), ())));
    let Some(first) = groups.first() else { return Ok(()) };
    let tensors = counted(applied.unchanged.len(), ["merged tensor is", "merged tensors are"]);
    let more = if groups.len() > 1 { " …" } else { "" };
    line(
        f,
        "unchanged",
        &format!("{tensors} as before, since the delta is zero or too small: `{first}`{more}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::tally::AdapterRetention;

    #[test]
    fn a_sample_is_told() {
        assert_eq!([sample(1.0), sample(0.0156)], ["", "; measured on 1.6 % of them"]);
    }

    #[test]
    fn modules_that_lost_most_are_counted_and_the_worst_is_named() {
        let module = |adapter, module: &str, retained| ModuleRetention {
            adapter,
            module: module.to_owned(),
            tensor: String::new(),
            norm: 1.0,
            weight_norm: 2.0,
            retained: Some(retained),
            unchanged: None,
        };
        let adapter = |name: &str| AdapterRetention {
            adapter: name.to_owned(),
            norm: 1.0,
            retained: None,
            unchanged: None,
            measured: 1.0,
            lost: 0,
        };
        let applied = Applied {
            changed_elements: 0,
            merged_elements: 0,
            unchanged: Vec::new(),
            adapters: vec![adapter("style"), adapter("fine")],
            modules: vec![
                module(0, "q", 0.49),
                module(0, "k", 0.436),
                module(0, "v", 0.9),
                module(1, "q", 0.8),
            ],
            encoded_again: None,
        };
        assert_eq!(
            lost(&applied).iter().map(Note::to_string).collect::<Vec<_>>(),
            [
                "2 of 3 modules of `style` lost more than half of their delta to rounding (worst: `k`, 43.6 % kept). Merge \
              into a higher-precision base to keep it"
            ]
        );
    }
}
