//! [`Extracted`]: what came of an extraction, in words and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::report::groups::group;
use crate::report::table::{Row, Rows};
use crate::report::words::{counted, line, peak_rss, shorter};
use crate::tensor::name::Name;

/// What the factors of one module keep.
#[derive(Clone, Debug)]
pub(crate) struct KeptModule {
    /// The module's path in the running model.
    pub(crate) path: String,
    /// Its rank.
    pub(crate) rank: u64,
    /// ‖Δ‖² and that of the product of its factors; none where the product is Δ.
    pub(crate) squares: Option<[f64; 2]>,
}

impl KeptModule {
    /// The share that is kept.
    fn share(&self) -> f64 {
        self.squares.map_or(1.0, |[all, kept]| kept / all)
    }
}

/// What came of an extraction.
#[derive(Clone, Debug)]
pub(crate) struct Extracted {
    /// Where the adapter is.
    pub(crate) output: String,
    /// Its modules.
    pub(crate) modules: Vec<KeptModule>,
    /// Names of tensors that it holds whole.
    pub(crate) saved: Vec<String>,
    /// Names of tensors that differ and were left out, as the flags say.
    pub(crate) skipped: Vec<Name>,
    /// How many tensors are equal.
    pub(crate) equal: usize,
    /// The most memory that the process had.
    pub(crate) peak_rss: u64,
}

/// Names of a kind that are shown before the rest is counted.
const SHOWN: usize = 6;

impl Extracted {
    /// The share that is kept of all modules together.
    fn share(&self) -> f64 {
        share(&self.modules.iter().collect::<Vec<_>>())
    }

    /// All of it as one document.
    pub(crate) fn json(&self) -> Value {
        let modules = self.modules.iter().map(|module| {
            let norm = module.squares.map(|[all, _]| all.sqrt());
            json!({"module": module.path, "rank": module.rank, "norm": norm, "kept": module.share()})
        });
        let skipped: Vec<&str> = self.skipped.iter().map(|name| &**name).collect();
        json!({
            "output": self.output,
            "kept": self.share(),
            "saved": self.saved,
            "skipped": skipped,
            "equal": self.equal,
            "peak_rss": self.peak_rss,
            "modules": modules.collect::<Vec<_>>(),
        })
    }
}

/// Σ‖product‖² / Σ‖Δ‖².
fn share(modules: &[&KeptModule]) -> f64 {
    let squares = modules.iter().filter_map(|module| module.squares);
    let [all, kept] = squares.fold([0.0; 2], |sums, [all, kept]| [sums[0] + all, sums[1] + kept]);
    if all > 0.0 { kept / all } else { 1.0 }
}

fn names<'n>(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    all: impl ExactSizeIterator<Item = &'n str>,
) -> fmt::Result {
    let count = all.len();
    for (i, name) in all.take(SHOWN).enumerate() {
        line(f, if i == 0 { label } else { "" }, &format!("`{name}`"))?;
    }
    if count > SHOWN {
        line(f, "", &format!("… and {} more (`--json` lists every name)", count - SHOWN))
    } else {
        Ok(())
    }
}

impl fmt::Display for Extracted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modules = counted(self.modules.len(), ["module", "modules"]);
        line(f, "adapter", &format!("`{}`: {modules}", self.output))?;
        line(f, "kept", &format!("{} % of ‖Δ‖²", shorter(100.0 * self.share())))?;
        if self.equal > 0 {
            line(f, "equal", &counted(self.equal, ["tensor", "tensors"]))?;
        }
        names(f, "saved", self.saved.iter().map(String::as_str))?;
        names(f, "skipped", self.skipped.iter().map(|name| &**name))?;
        line(f, "memory", &peak_rss(self.peak_rss))?;
        f.write_str("\n")?;
        let kind = |module: &KeptModule| (module.rank, module.squares.is_none());
        let items = self.modules.iter().map(|module| (module.path.as_str(), kind(module)));
        let rows = group(items).into_iter().map(|group| {
            let members: Vec<&KeptModule> = group.members.iter().map(|&i| &self.modules[i]).collect();
            let least = members.iter().map(|module| module.share()).fold(f64::INFINITY, f64::min);
            let (rank, is_exact) = group.kind;
            let mut cells = vec![format!("rank {rank}")];
            if is_exact {
                cells.push("exact".to_owned());
            } else {
                cells.push(format!("{} % kept", shorter(100.0 * share(&members))));
                cells.push(format!("least {} %", shorter(100.0 * least)));
            }
            Row { name: group.to_string(), count: group.count(), cells }
        });
        Rows(rows.collect()).fmt(f)
    }
}
