//! What a checkpoint is, from its headers and its config.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::checkpoint::catalogue::{BaseTensor, Catalogue};
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::ecosystem::Library;
use crate::memory::size::show_size;
use crate::model;
use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

use crate::inspect::group::group;
use crate::inspect::quantized::{Quantization, quantization};
use crate::inspect::text::{counted, line, tensors as table_of};
use crate::inspect::totals::{DtypeTotals, Totals, lines, sum};

/// What a checkpoint is.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointReport {
    /// The folder's name.
    pub name: String,
    /// The library that wrote it.
    pub library: &'static str,
    /// `model_type` of the config.
    pub model_type: Option<String>,
    /// The classes that the config names.
    pub architectures: Vec<String>,
    /// What is known of its names and storage.
    pub family: String,
    /// All tensors together.
    pub totals: Totals,
    /// The same by dtype, most bytes first.
    pub dtypes: Vec<DtypeTotals>,
    /// Its shards.
    pub shards: Vec<ShardLine>,
    /// Its index, if it has one.
    pub index: Option<IndexLine>,
    /// How it is quantized, if it is.
    pub quantization: Option<Quantization>,
    /// Whether head and embeddings share a tensor; none for a library whose models predict no tokens.
    pub embeddings: Option<Embeddings>,
    /// Every tensor, shard by shard, in the order of bytes.
    pub tensors: Vec<TensorLine>,
    /// Things worth saying.
    #[serde(skip)]
    pub notices: Vec<String>,
}

/// One shard.
#[derive(Clone, Debug, Serialize)]
pub struct ShardLine {
    /// File name.
    pub name: String,
    /// Number of its tensors.
    pub tensors: usize,
    /// Length of the file.
    pub bytes: u64,
}

/// What an index says of the whole.
#[derive(Clone, Debug, Serialize)]
pub struct IndexLine {
    /// Tensors it lists.
    pub tensors: usize,
    /// Bytes of all tensors, as it claims.
    pub total_size: Option<u64>,
}

/// Whether head and embeddings share a tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Embeddings {
    /// What `tie_word_embeddings` says; none if it leaves that to the model's class.
    pub tied: Option<bool>,
    /// The head's tensor, if there is one.
    pub head: Option<String>,
}

/// One tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorLine {
    /// Name on disk.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, slowest axis first.
    pub shape: Shape,
    /// The shard that holds it.
    pub shard: String,
}

impl CheckpointReport {
    /// What `checkpoint` is; `name` is its folder's.
    pub fn new(checkpoint: Checkpoint, name: String) -> CheckpointReport {
        let Checkpoint { catalogue, config, index, notices, .. } = checkpoint;
        let (totals, dtypes) = sum(catalogue.tensors.iter().map(|tensor| &tensor.tensor));
        let mut counts = vec![0_usize; catalogue.shards.len()];
        catalogue.tensors.iter().for_each(|tensor| counts[tensor.tensor.file.0 as usize] += 1);
        let shards = catalogue.shards.iter().zip(counts);
        let shards = shards.map(|(shard, tensors)| ShardLine {
            name: shard.name.clone(),
            tensors,
            bytes: shard.bytes,
        });
        let library = Library::of(&config);
        let head = catalogue.tensors.iter().find(|tensor| is_head(tensor)).map(|tensor| tensor.name.clone());
        CheckpointReport {
            name,
            library: library.name,
            model_type: config.model_type().map(str::to_owned),
            architectures: config.classes().into_iter().map(str::to_owned).collect(),
            family: model::known(&config),
            totals,
            dtypes,
            shards: shards.collect(),
            index: index
                .map(|index| IndexLine { tensors: index.order.len(), total_size: index.about.total_size }),
            quantization: quantization(&catalogue, &config),
            embeddings: library.predicts_tokens.then(|| Embeddings { tied: config.ties_embeddings(), head }),
            tensors: table(&catalogue),
            notices,
        }
    }
}

/// Every tensor with the name of its shard.
fn table(catalogue: &Catalogue) -> Vec<TensorLine> {
    let line = |BaseTensor { name, tensor }: &BaseTensor| TensorLine {
        name: name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        shard: catalogue.shards[tensor.file.0 as usize].name.clone(),
    };
    catalogue.tensors.iter().map(line).collect()
}

/// Whether a tensor is the weight of a head, by its name and because it is a matrix.
fn is_head(tensor: &BaseTensor) -> bool {
    crate::model::tied::is_head(&tensor.name) && tensor.tensor.shape.axes().len() == 2
}

impl Display for CheckpointReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        line(f, "checkpoint", &self.name)?;
        let class = match self.architectures.as_slice() {
            [] => String::new(),
            classes => format!(" ({})", classes.join(", ")),
        };
        let is_nameless = self.architectures.is_empty();
        let unnamed = || if is_nameless { "no model_type in config.json" } else { self.library };
        let model_type = self.model_type.as_deref().unwrap_or_else(unnamed);
        line(f, "model", &format!("{model_type}{class}; {}", self.family))?;
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
                format!("an index whose total_size is {size}, not {}", self.totals.bytes)
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
            Some(true) => "tied by the config",
            Some(false) => "not tied by the config",
            None => "the config does not say whether they are tied",
        };
        match &self.head {
            Some(head) => write!(f, "{tied}; head `{head}`"),
            None => write!(f, "{tied}; no head of its own"),
        }
    }
}

/// Plain modules that are named before the rest is counted.
const PLAIN_SHOWN: usize = 6;

fn show_quantization(quantization: &Quantization, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Quantization { method, format, block, quantized, auxiliary, kept_plain } = quantization;
    let mut text = method.clone().unwrap_or_else(|| "yes, by an unnamed method".to_owned());
    if let Some(format) = format {
        text.push_str(&format!(", {format}"));
    }
    if let Some(block) = block {
        text.push_str(&format!(", block {block}"));
    }
    line(f, "quantized", &text)?;
    let quantized = counted(*quantized, ["quantized tensor", "quantized tensors"]);
    let auxiliary = counted(*auxiliary, ["auxiliary tensor", "auxiliary tensors"]);
    line(f, "", &format!("{quantized}, {auxiliary}"))?;
    if kept_plain.is_empty() {
        return Ok(());
    }
    let groups = group(kept_plain.iter().map(|name| (name.as_str(), ())));
    let mut named: Vec<String> = groups.iter().take(PLAIN_SHOWN).map(ToString::to_string).collect();
    if groups.len() > PLAIN_SHOWN {
        named.push(format!("… and {} more", groups.len() - PLAIN_SHOWN));
    }
    line(f, "", &format!("kept plain: {}", named.join(", ")))
}
