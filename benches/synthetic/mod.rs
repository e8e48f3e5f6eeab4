//! Checkpoints and adapters with the shapes of real models and made-up values.
//!
//! `request.rs` says what is wanted, `llama.rs`, `gpt2.rs`, `moe.rs`, `moe_wide.rs` and `single.rs` turn it into a [`Model`] (a config
//! and a list of tensors; `fp8.rs` has those of a coded weight), `base.rs` cuts that into shards and `adapter.rs` makes
//! the factors; `file.rs` and `values.rs` write the bytes. Nothing here uses shardfold: a generator that shared its code
//! would share its mistakes.

mod adapter;
mod base;
mod file;
mod fp8;
mod gpt2;
mod llama;
mod moe;
mod moe_wide;
mod request;
mod single;
mod values;

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use safetensors::Dtype;
use serde_json::Value;

pub(crate) use request::Request;
use request::Shape;

/// Everything here fails with a message for the developer who called it.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The usual spread of weights.
const WEIGHT_STD: f32 = 0.02;

/// A checkpoint to be written: what goes into its JSON files, and its tensors in the order the modules have.
struct Model {
    /// Content of `config.json`.
    config: Value,
    /// Content of `generation_config.json`, for models that have one.
    generation_config: Option<Value>,
    /// PEFT's `task_type` for adapters of this model.
    task_type: Option<&'static str>,
    /// All tensors, in module order: transformers fills its shards in this order.
    tensors: Vec<Tensor>,
}

/// One tensor to be written.
struct Tensor {
    /// Full name in the checkpoint.
    name: String,
    /// Element type on disk.
    dtype: Dtype,
    /// Row-major shape.
    shape: Vec<usize>,
    /// Distribution its values are drawn from.
    values: Normal,
    /// How it is stored, if this is the weight of a linear module that PEFT could adapt.
    linear: Option<Linear>,
}

/// Which axis of a linear module's weight comes first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Linear {
    /// `[out, in]`, as nearly everywhere.
    OutIn,
    /// `[in, out]`: transformers' `Conv1D`.
    InOut,
}

/// A bell-shaped distribution; bounded, so that every value is finite in every dtype used here.
#[derive(Clone, Copy)]
struct Normal {
    mean: f32,
    std: f32,
}

impl Tensor {
    /// A weight matrix `[rows, cols]` of a linear module, values around 0 with the usual spread.
    fn linear(module: &str, dtype: Dtype, rows: usize, cols: usize) -> Self {
        Self { linear: Some(Linear::OutIn), ..Self::plain(&format!("{module}.weight"), dtype, &[rows, cols]) }
    }

    /// The same of a `Conv1D` module, whose rows are its inputs.
    fn conv1d(module: &str, dtype: Dtype, inner: usize, out: usize) -> Self {
        Self { linear: Some(Linear::InOut), ..Self::linear(module, dtype, inner, out) }
    }

    /// Any other tensor with values around 0: embeddings, biases.
    fn plain(name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        let values = Normal { mean: 0.0, std: WEIGHT_STD };
        Self { name: name.to_owned(), dtype, shape: shape.to_vec(), values, linear: None }
    }

    /// The weight of a norm: one value per channel, near 1.
    fn norm(module: &str, dtype: Dtype, channels: usize) -> Self {
        let values = Normal { mean: 1.0, std: 0.05 };
        Self { values, ..Self::plain(&format!("{module}.weight"), dtype, &[channels]) }
    }

    /// Length of its data in bytes.
    fn bytes(&self) -> u64 {
        let elements: u64 = self.shape.iter().map(|&n| n as u64).product();
        elements * self.dtype.bitsize() as u64 / 8
    }
}

/// What was made, or found there already.
pub(crate) struct Made {
    /// The checkpoint's folder.
    pub(crate) base: PathBuf,
    /// The adapter's folder.
    pub(crate) adapter: PathBuf,
    /// Size and speed of either, in words.
    said: [String; 2],
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [base, adapter] = &self.said;
        write!(f, "{}: {base}\n{}: {adapter}", self.base.display(), self.adapter.display())
    }
}

/// Writes the base (unless the same one is there already) and the adapter.
pub(crate) fn write(request: &Request) -> Result<Made> {
    request.check()?;
    let model = match request.shape {
        Shape::Moe | Shape::MoeTiny => moe::model(request),
        Shape::MoeWide => moe_wide::model(request),
        Shape::OneTensor => single::model(request),
        Shape::Gpt2 | Shape::Gpt2Tiny => gpt2::model(request),
        _ => llama::model(request),
    };
    let start = Instant::now();
    let base = base::write(&model, request)?;
    let seconds = start.elapsed().as_secs_f64();
    let adapter = adapter::write(&model, request)?;
    let gb = base.bytes as f64 / 1e9;
    let how = match (base.kept, request.sparse) {
        (true, _) => "kept".to_owned(),
        (false, true) => "sparse".to_owned(),
        (false, false) => format!("{seconds:.1} s, {:.2} GB/s", gb / seconds),
    };
    let (tensors, shards, modules) = (model.tensors.len(), base.shards, adapter.modules);
    let (method, rank, mb) = (request.method.name(), request.rank, adapter.bytes as f64 / 1e6);
    let said = [
        format!("tensors {tensors}, shards {shards}, {gb:.3} GB ({how})"),
        format!("{method}, modules {modules}, rank {rank}, {mb:.1} MB"),
    ];
    Ok(Made { base: base.folder, adapter: adapter.folder, said })
}
