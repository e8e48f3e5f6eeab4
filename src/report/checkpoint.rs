//! The text of `inspect`, for a checkpoint in full; that for an adapter is in its own file.

use std::fmt::{self, Display};

use crate::inspect::checkpoint::{CheckpointReport, Embeddings, IndexLine};
use crate::inspect::open::Inspected;
use crate::inspect::quantization::Quantization;
use crate::tensor::size::show_size;

use crate::report::groups::group;
use crate::report::table::tensors as table_of;
use crate::report::totals::lines;
use crate::report::words::{counted, line};

impl Display for CheckpointReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "checkpoint", &self.name)?;
        let class = match self.architectures.as_slice() {
            [] => String::new(),
            classes => format!(" ({})", classes.join(", ")),
        };
        let unnamed =
            || if self.architectures.is_empty() { "no model_type in config.json" } else { self.library };
        let model_type = self.model_type.as_deref().unwrap_or_else(unnamed);
        let family = self.family.as_deref().map(|family| format!("; {family}")).unwrap_or_default();
        line(f, "model", &format!("{model_type}{class}{family}"))?;
        for (label, text) in lines(&self.totals, &self.dtypes) {
            line(f, label, &text)?;
        }
        self.show_shards(f)?;
        if let Some(embeddings) = &self.embeddings {
            line(f, "embeddings", &embeddings.to_string())?;
        }
        match &self.quantization {
            None => line(f, "quantized", "no")?,
            Some(quantization) => show_quantization(quantization, f)?,
        }
        f.write_str("\n")?;
        self.show_tensors(f)
    }
}

/// Shards that are shown before the rest is counted.
const SHARDS_SHOWN: usize = 12;

impl CheckpointReport {
    fn show_shards(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = match &self.index {
            None => "no index".to_owned(),
            Some(IndexLine { total_size: Some(size), .. }) if *size != self.totals.bytes => {
                format!("an index whose total_size is {size}, expected {}", self.totals.bytes)
            }
            Some(_) => "an index".to_owned(),
        };
        line(f, "shards", &format!("{} and {index}", self.shards.len()))?;
        for shard in self.shards.iter().take(SHARDS_SHOWN) {
            let tensors = counted(shard.tensors, ["tensor", "tensors"]);
            line(f, "", &format!("{}  {tensors}, {}", shard.name, show_size(shard.bytes)))?;
        }
        match self.shards.len().saturating_sub(SHARDS_SHOWN) {
            0 => Ok(()),
            more => line(f, "", &format!("… and {more} more")),
        }
    }

    /// The table of tensors, with one line for those that differ in numbers only.
    fn show_tensors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tensors = self.tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.dtype, &tensor.shape));
        table_of(tensors).fmt(f)
    }
}

impl Display for Embeddings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tied = match self.tied {
            Some(true) => "tied",
            Some(false) => "not tied",
            None => "tying not stated in config",
        };
        match &self.head {
            Some(head) => write!(f, "{tied}; head `{head}`"),
            None => write!(f, "{tied}; no lm_head"),
        }
    }
}

/// Plain modules that are named before the rest is counted.
const PLAIN_SHOWN: usize = 6;

fn show_quantization(quantization: &Quantization, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Quantization { method, format, block, data, auxiliary, kept_plain } = quantization;
    let mut text = method.clone().unwrap_or_else(|| "yes, by an unnamed method".to_owned());
    if let Some(format) = format {
        text.push_str(&format!(", {format}"));
    }
    if let Some(block) = block {
        text.push_str(&format!(", block {block}"));
    }
    line(f, "quantized", &text)?;
    let data = counted(*data, ["quantized tensor", "quantized tensors"]);
    let auxiliary = counted(*auxiliary, ["auxiliary", "auxiliary"]);
    line(f, "", &format!("{data}, {auxiliary}"))?;
    if kept_plain.is_empty() {
        return Ok(());
    }
    let groups = group(kept_plain.iter().map(|name| (name.as_str(), ())));
    let mut named: Vec<String> = groups.iter().take(PLAIN_SHOWN).map(ToString::to_string).collect();
    if groups.len() > PLAIN_SHOWN {
        named.push(format!("… and {} more", groups.len() - PLAIN_SHOWN));
    }
    line(f, "", &format!("not quantized: {}", named.join(", ")))
}

impl fmt::Display for Inspected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Inspected::Checkpoint(report) => report.fmt(f),
            Inspected::Adapter(report) => report.fmt(f),
        }
    }
}
