//! What a checkpoint is, from its headers and its config.

use serde::Serialize;

use crate::checkpoint::catalogue::{BaseTensor, Catalogue};
use crate::checkpoint::discover::Checkpoint;
use crate::model;
use crate::note::Note;
use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

use crate::inspect::quantization::{Quantization, quantization};
use crate::inspect::totals::{DtypeTotals, Totals, sum};

/// What a checkpoint is.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointReport {
    /// The directory's name.
    pub name: String,
    /// The library that wrote it.
    pub library: &'static str,
    /// `model_type` of the config.
    pub model_type: Option<String>,
    /// The classes that the config names.
    pub architectures: Vec<String>,
    /// What is special about its names and storage.
    pub family: Option<String>,
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
    pub notes: Vec<Note>,
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
    /// Shape, slowest axis first; of blocks of ggml in values.
    pub shape: Shape,
    /// The shard that holds it.
    pub shard: String,
}

impl CheckpointReport {
    /// What `checkpoint` is; `name` is its directory's.
    pub fn new(checkpoint: Checkpoint, name: String) -> CheckpointReport {
        let quantization = quantization(&checkpoint.catalogue, checkpoint.quantization());
        let Checkpoint { catalogue, config, index, notes, .. } = checkpoint;
        let (totals, dtypes) = sum(catalogue.tensors.iter().map(|tensor| &tensor.tensor));
        let mut counts = vec![0_usize; catalogue.shards.len()];
        catalogue.tensors.iter().for_each(|tensor| counts[tensor.tensor.file.0 as usize] += 1);
        let shards = catalogue.shards.iter().zip(counts);
        let shards = shards.map(|(shard, tensors)| ShardLine {
            name: shard.name.clone(),
            tensors,
            bytes: shard.bytes,
        });
        let library = config.library();
        let head =
            catalogue.tensors.iter().find(|tensor| is_head(tensor)).map(|tensor| tensor.name.to_string());
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
            quantization,
            embeddings: library.predicts_tokens.then(|| Embeddings { tied: config.ties_embeddings(), head }),
            tensors: table(&catalogue),
            notes,
        }
    }
}

/// Every tensor with the name of its shard.
fn table(catalogue: &Catalogue) -> Vec<TensorLine> {
    let line = |BaseTensor { name, tensor }: &BaseTensor| TensorLine {
        name: name.to_string(),
        dtype: tensor.dtype,
        shape: tensor.value_shape(),
        shard: catalogue.shards[tensor.file.0 as usize].name.clone(),
    };
    catalogue.tensors.iter().map(line).collect()
}

/// Whether a tensor is the weight of a head, by its name and because it is a matrix.
fn is_head(tensor: &BaseTensor) -> bool {
    crate::model::heads::is_head(&tensor.name) && tensor.tensor.shape.axes().len() == 2
}
