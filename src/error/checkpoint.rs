//! Checkpoints: headers, indices, names of weight files.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::tensor::shape::Shape;

/// Checkpoints: headers, indices, names of weight files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum CheckpointError {
    #[error("`{}` is not a readable {} file", path.display(), ending(path))]
    Header { path: PathBuf },
    #[error("`{}` is not a usable index", path.display())]
    Index { path: PathBuf },
    #[error("`{}` is not usable JSON", path.display())]
    Json { path: PathBuf },
    #[error("`{}` is a git-lfs pointer, not the file itself", path.display())]
    LfsPointer { path: PathBuf },
    #[error("`{}` holds {found} shards but no `{index}`", path.display())]
    NoIndex { path: PathBuf, found: usize, index: String },
    #[error("`{}` holds no weights {}, but {}", path.display(), variant(wanted.as_deref()), quoted(found))]
    Variants { path: PathBuf, wanted: Option<String>, found: Vec<String> },
    #[error("`{}` is a pipeline, whose weights are in {}", path.display(), components.join(", "))]
    Pipeline { path: PathBuf, components: Vec<String> },
    #[error("`{}` is a single file, and no file that a checkpoint has", path.display())]
    SingleFile { path: PathBuf },
    #[error("tensor `{tensor}` is in two shards, `{first}` and `{second}`")]
    TensorTwice { tensor: String, first: String, second: String },
    #[error("the index puts `{tensor}` into `{shard}`, which does not hold it")]
    IndexDisagrees { tensor: String, shard: String },
    #[error("the index puts `{tensor}` into `{file}`, which is not called as a file of tensors is")]
    NoShard { tensor: String, file: String },
    #[error("{stated} says {means}, but `{tensor}`{} {found}", stored_as(*count))]
    Quantization { stated: String, means: String, tensor: String, count: usize, found: String },
    #[error("{stated} has plain weights rounded each time they are used, which no merge into them can keep")]
    Online { stated: String },
    #[error("the base is of llama.cpp's architecture `{found}`, whose tensors are not read yet")]
    Architecture { found: String },
    #[error("tensor `{tensor}` has {rows} rows, which {heads} heads of pairs cannot share")]
    Heads { tensor: String, rows: u64, heads: u64 },
    #[error(
        "tensor `{tensor}` has shape {found}, expected a stack of {experts} matrices, one of each expert"
    )]
    Experts { tensor: String, found: Shape, experts: u64 },
    #[error("the header of the base has {found} experts, more than the {most} that llama.cpp reads")]
    ManyExperts { found: u64, most: u64 },
    #[error("the base is a GGUF file of type `{found}`, and not of a model")]
    NoModel { found: String },
    #[error("the header of the base has no `{key}` above zero")]
    NoSuchKey { key: String },
    #[error("`{}` holds `{found}`, which is no commit", path.display())]
    Ref { path: PathBuf, found: String },
}

/// What a file is by its name.
fn ending(path: &Path) -> Cow<'_, str> {
    path.extension().map_or("safetensors".into(), |ending| ending.to_string_lossy())
}

/// Which variant of weights is meant.
fn variant(name: Option<&str>) -> String {
    name.map_or_else(|| "without a variant".to_owned(), |name| format!("of the variant `{name}`"))
}

/// How many tensors are stored otherwise than said.
fn stored_as(count: usize) -> String {
    match count {
        0 | 1 => " is stored as".to_owned(),
        count => format!(" and {} more are stored as", count - 1),
    }
}

fn quoted(names: &[String]) -> String {
    format!("`{}`", names.join("`, `"))
}
