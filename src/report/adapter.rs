//! An adapter's report as text: modules alike in one line, with the spread of their norms.

use std::fmt::{self, Display};

use serde_json::Value;

use crate::inspect::adapter::{AdapterReport, KeyLine, Module};

use crate::report::groups::{Group, group};
use crate::report::table::{Row, Rows, tensors};
use crate::report::totals::lines;
use crate::report::words::{counted, grouped, line, short, shorter};

/// Names of one kind that are written out before the rest is counted.
const NAMES_SHOWN: usize = 12;
/// Values of settings are cut after so many characters.
const WIDEST_SETTING: usize = 60;

impl Display for AdapterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "adapter", &self.name)?;
        let version = self.peft_version.as_deref().map(|version| format!(", PEFT {version}"));
        line(f, "type", &format!("{}{}", self.peft_type, version.unwrap_or_default()))?;
        if let Some(base) = &self.base {
            line(f, "trained on", base)?;
        }
        if let Some(task) = &self.task_type {
            line(f, "task", task)?;
        }
        self.show_scale(f)?;
        for (i, (name, value)) in self.settings.iter().enumerate() {
            line(f, if i == 0 { "settings" } else { "" }, &format!("{name} {}", setting(value)))?;
        }
        for (label, text) in lines(&self.totals, &self.dtypes) {
            line(f, label, &text)?;
        }
        self.show_modules(f)?;
        show_keys(f, "replaces", ["tensor of the base", "tensors of the base"], &self.replacements)?;
        show_keys(f, "unknown", ["tensor", "tensors"], &self.unknown)?;
        self.show_findings(f)
    }
}

impl AdapterReport {
    fn show_scale(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(r), Some(alpha)) = (self.r, self.alpha) else { return Ok(()) };
        let rule = if self.rslora { "alpha/√rank (rsLoRA)" } else { "alpha/rank" };
        let dora = if self.dora { ", DoRA" } else { "" };
        line(f, "scale", &format!("{rule}, r {r}, alpha {alpha}{dora}"))
    }

    fn show_modules(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.modules.is_empty() {
            return line(f, "modules", "none");
        }
        let mut kinds: Vec<(&str, usize)> = Vec::new();
        for module in &self.modules {
            match kinds.iter_mut().find(|(kind, _)| *kind == module.kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((module.kind, 1)),
            }
        }
        let kinds: Vec<String> =
            kinds.iter().map(|(kind, count)| format!("{} {kind}", grouped(*count as u64))).collect();
        let has_norms = self.modules.iter().any(|module| module.norm.is_some());
        let spread = if has_norms { "; norms of scale·B·A as min / median / max" } else { "" };
        line(f, "modules", &format!("{}{spread}", kinds.join(", ")))?;
        if self.modules.iter().any(|module| module.depends_on_base) {
            line(f, "", "what DoRA adds depends on the base, too")?;
        }
        f.write_str("\n")?;
        let items = self.modules.iter().map(|module| (module.module.as_str(), AlikeModules::new(module)));
        let row = |group: &Group<AlikeModules>| {
            let name = group.to_string();
            let norms = group.members.iter().filter_map(|&i| self.modules[i].norm).collect();
            Row {
                name: if name.is_empty() { "(the whole model)".to_owned() } else { name },
                count: group.count(),
                cells: group.kind.cells(spread_of(norms)),
            }
        };
        Rows(group(items).iter().map(row).collect()).fmt(f)
    }

    fn show_findings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dead = self.modules.iter().filter_map(|module| Some((named(module), module.dead.clone()?)));
        show_names(f, "dead", ["module has no effect", "modules have no effect"], dead)?;
        let odd = self.modules.iter().filter(|module| !module.faults.is_empty());
        show_names(
            f,
            "odd",
            ["module", "modules"],
            odd.map(|module| (named(module), module.faults.join("; "))),
        )?;
        let keys = self.non_finite.iter().map(|key| (key.as_str(), String::new()));
        let what = ["tensor has a value that is not finite", "tensors have values that are not finite"];
        show_names(f, "not finite", what, keys)
    }
}

fn named(module: &Module) -> &str {
    &module.module
}

/// What modules of one line have in common beside their names.
#[derive(Clone, PartialEq, Eq, Hash)]
struct AlikeModules {
    kind: &'static str,
    rank: Option<u64>,
    scale_bits: Option<u64>,
    parameters: u64,
    is_dead: bool,
}

impl AlikeModules {
    fn new(module: &Module) -> AlikeModules {
        AlikeModules {
            kind: module.kind,
            rank: module.rank,
            scale_bits: module.scale.map(f64::to_bits),
            parameters: module.parameters,
            is_dead: module.dead.is_some(),
        }
    }
}

impl AlikeModules {
    fn cells(&self, norm: String) -> Vec<String> {
        let scale = self.scale_bits.map(|bits| format!("scale {}", shorter(f64::from_bits(bits))));
        vec![
            self.kind.to_owned(),
            self.rank.map(|rank| format!("rank {rank}")).unwrap_or_default(),
            scale.unwrap_or_default(),
            counted(self.parameters, ["parameter", "parameters"]),
            format!("norm {norm}"),
        ]
    }
}

/// Smallest, median and largest, or one number if they are one; `-` for none.
fn spread_of(mut norms: Vec<f64>) -> String {
    norms.sort_unstable_by(f64::total_cmp);
    let (Some(first), Some(last)) = (norms.first(), norms.last()) else { return "-".to_owned() };
    let (first, last) = (short(*first), short(*last));
    if first == last {
        return first;
    }
    let median = f64::midpoint(norms[(norms.len() - 1) / 2], norms[norms.len() / 2]);
    format!("{first} / {} / {last}", short(median))
}

/// A value as JSON, or its length if that is too long.
fn setting(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let entries = match value {
        Value::Array(values) => values.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    match text.char_indices().nth(WIDEST_SETTING) {
        None => text,
        Some(_) if entries > 0 => format!("({entries} entries)"),
        Some((cut, _)) => format!("{}…", &text[..cut]),
    }
}

/// A table of tensors under a heading, if there are any.
fn show_keys(f: &mut fmt::Formatter<'_>, label: &str, what: [&str; 2], keys: &[KeyLine]) -> fmt::Result {
    if keys.is_empty() {
        return Ok(());
    }
    f.write_str("\n")?;
    line(f, label, &counted(keys.len(), what))?;
    f.write_str("\n")?;
    let keys = keys.iter().map(|key| (key.key.as_str(), key.dtype, &key.shape));
    tensors(keys).fmt(f)
}

/// Names with what is to be said of them; those that differ in numbers only stand together.
fn show_names<'n>(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    what: [&str; 2],
    names: impl Iterator<Item = (&'n str, String)>,
) -> fmt::Result {
    let names: Vec<(&str, String)> = names.collect();
    if names.is_empty() {
        return Ok(());
    }
    f.write_str("\n")?;
    line(f, label, &counted(names.len(), what))?;
    let groups = group(names);
    for group in groups.iter().take(NAMES_SHOWN) {
        let why = if group.kind.is_empty() { String::new() } else { format!(": {}", group.kind) };
        line(f, "", &format!("`{group}`{why}"))?;
    }
    match groups.len().saturating_sub(NAMES_SHOWN) {
        0 => Ok(()),
        more => line(f, "", &format!("… and {more} more")),
    }
}
