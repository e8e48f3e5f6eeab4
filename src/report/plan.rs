//! The text and the JSON of `plan`: what would be done, for people and for scripts.

use std::fmt::{self, Write};

use serde_json::{Value, json};

use crate::plan::explain::{ClaimLine, Explained};
use crate::schedule::budget::Schedule;
use crate::storage::io::choice::IoChoice;
use crate::tensor::size::{flag_size, show_size};

use crate::report::groups::{Group, group, natural};
use crate::report::lines::{budget, buffers};
use crate::report::probe::SpeedProbe;
use crate::report::style::Style;
use crate::report::table::{Row, Rows};
use crate::report::words::{counted, line, shorter};

/// Shards that are shown before the rest is counted.
const SHOWN: usize = 12;

/// How a plan would be run here.
pub(crate) struct RunShape<'p> {
    /// The budget, and what it is split into.
    pub(crate) schedule: &'p Schedule,
    /// Why it is what it is.
    pub(crate) reason: &'p str,
    /// Which way files are read and written.
    pub(crate) io: &'p IoChoice,
    /// Bytes of factors that are written to a scratch file first.
    pub(crate) scratch_bytes: u64,
    /// How fast it will be, if that was measured.
    pub(crate) probe: Option<SpeedProbe>,
}

/// The plan as one JSON document, claims in the order in which people count.
pub(crate) fn document(mut plan: Explained<'_>, run: &RunShape<'_>, is_done: bool) -> Value {
    let RunShape { schedule, reason, io, scratch_bytes, probe } = run;
    plan.claims.sort_by(|a, b| a.adapter.cmp(&b.adapter).then_with(|| natural(a.tensor, b.tensor)));
    json!({
        "plan": plan,
        "budget": schedule.budget,
        "reason": reason,
        "io": io,
        "probe": probe,
        "seconds": probe.map(|probe| probe.seconds()),
        "workers": schedule.workers,
        "scratch_bytes": scratch_bytes,
        "already_done": is_done,
    })
}

/// The plan in words, and the budget under which it would run.
pub(crate) fn plan_text(plan: &Explained<'_>, run: &RunShape<'_>, style: Style) -> String {
    let mut text = String::new();
    show_plan(&mut text, plan)
        .and_then(|()| show_budget(&mut text, run, style))
        .expect("a string takes all text");
    text
}

fn show_plan(f: &mut String, plan: &Explained<'_>) -> fmt::Result {
    for (i, adapter) in plan.adapters.iter().enumerate() {
        let claims: Vec<String> = adapter.claims.iter().map(|(method, n)| format!("{n} {method}")).collect();
        let weight = if adapter.weight.is_one() { String::new() } else { format!(" × {}", adapter.weight) };
        let label =
            if plan.adapters.len() == 1 { "adapter".to_owned() } else { format!("adapter {}", i + 1) };
        line(f, &label, &format!("{}{weight} ({}): {}", adapter.name, adapter.peft_type, claims.join(", ")))?;
    }
    for choice in &plan.choices {
        line(f, "choice", choice)?;
    }
    line(f, "tensors", &plan.tensors.to_string())?;
    show_shards(f, plan)?;
    if plan.claims.is_empty() {
        return Ok(());
    }
    f.write_str("\n")?;
    write!(f, "{}", claims(plan))
}

fn show_shards(f: &mut String, plan: &Explained<'_>) -> fmt::Result {
    let shards = counted(plan.shards.len(), ["shard", "shards"]);
    line(f, "output", &format!("{} in {shards}", show_size(plan.output_bytes)))?;
    for shard in plan.shards.iter().take(SHOWN) {
        let size = show_size(shard.bytes);
        line(
            f,
            "",
            &format!("{}  {size}, {} of {} tensors change", shard.name, shard.changed, shard.tensors),
        )?;
    }
    match plan.shards.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => line(f, "", &format!("… and {more} more")),
    }
}

/// What claims of one row have in common: adapter, method, rank, the scale's bits, and what they need.
type AlikeClaims<'p> = (u32, &'p str, Option<u64>, Option<u32>, Option<&'static str>);

fn alike<'p>(claim: &ClaimLine<'p>) -> AlikeClaims<'p> {
    (claim.adapter, claim.method, claim.rank, claim.scale.map(f32::to_bits), claim.needs)
}

/// Every changed tensor with what changes it.
fn claims(plan: &Explained<'_>) -> Rows {
    let items = plan.claims.iter().map(|claim| (claim.tensor, alike(claim)));
    let with_adapter = plan.adapters.len() > 1;
    Rows(group(items).iter().map(|group| row(group, with_adapter)).collect())
}

fn row(group: &Group<AlikeClaims<'_>>, with_adapter: bool) -> Row {
    let (adapter, method, rank, scale, needs) = group.kind;
    // Methods without a rank have a scale only if the adapter has a weight.
    let scale = scale.map(f32::from_bits).filter(|&scale| rank.is_some() || scale != 1.0);
    let scale = scale.map(|scale| format!("scale {}", shorter(scale.into())));
    let mut cells = vec![method.to_owned()];
    cells.push(rank.map(|rank| format!("rank {rank}")).unwrap_or_default());
    cells.push(scale.unwrap_or_default());
    if with_adapter {
        cells.push(format!("adapter {}", adapter + 1));
    }
    cells.extend(needs.map(|needs| format!("needs {needs}")));
    Row { name: group.to_string(), count: group.count(), cells }
}

fn show_budget(f: &mut String, run: &RunShape<'_>, style: Style) -> fmt::Result {
    let RunShape { schedule, reason, io, scratch_bytes, probe } = run;
    f.write_str("\n")?;
    line(f, "budget", &budget(schedule, reason, io, style))?;
    if style == Style::Verbose {
        f.write_str(&buffers(schedule))?;
    }
    if *scratch_bytes > 0 {
        line(
            f,
            "scratch",
            &format!("{} of factors, written beside the output and removed", show_size(*scratch_bytes)),
        )?;
    }
    let once = |what: &str, bytes| format!("{what}; `--max-ram {}` reads them once", flag_size(bytes));
    if let Some(bytes) = schedule.budget.factors_once_at {
        line(f, "", &once("some factors are read again for each row", bytes))?;
    }
    if let Some(bytes) = schedule.budget.codes_once_at {
        line(f, "", &once("some quantized data is read again for each tile", bytes))?;
    }
    line(f, "minimum", &format!("{} (1 worker)", flag_size(schedule.budget.smallest)))?;
    probe.map_or(Ok(()), |probe| line(f, "probe", &probe.text()))
}
