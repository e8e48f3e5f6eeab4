//! A LoRA of PEFT as files: factors and whole tensors in the order in which they are made, and the config.

use serde_json::{Value, json};

use crate::error::checkpoint::CheckpointError;
use crate::error::{Error, Result};
use crate::formats::safetensors::build::build_header;
use crate::storage::files::write_small;
use crate::storage::location::Location;
use crate::storage::sink::Sink;
use crate::storage::store::Store;
use crate::tensor::dtype::{Dtype, bytes_of};

/// The files, as PEFT calls them.
const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";
/// What PEFT puts in front of a module's path.
const PREFIX: &str = "base_model.model.";

/// A tensor of the file, by what follows PEFT's prefix.
pub(crate) struct FileTensor {
    /// Its name.
    pub(crate) name: String,
    /// Its type.
    pub(crate) dtype: Dtype,
    /// Its shape.
    pub(crate) axes: Vec<u64>,
}

impl FileTensor {
    /// The factors of a module, `lora_A` and `lora_B`, as F32. A convolution has several axes of inputs.
    pub(crate) fn factors(path: &str, (inputs, out): (Vec<u64>, u64), rank: u64) -> [FileTensor; 2] {
        let factor = |name: &str, axes: Vec<u64>| FileTensor {
            name: format!("{path}.{name}.weight"),
            dtype: Dtype::F32,
            axes,
        };
        let ones = vec![1; inputs.len() - 1];
        [factor("lora_A", [vec![rank], inputs].concat()), factor("lora_B", [vec![out, rank], ones].concat())]
    }
}

/// The rank and the alpha of a module.
#[derive(Clone, Debug)]
pub(crate) struct RankedModule {
    /// Its path.
    pub(crate) path: String,
    /// Its rank.
    pub(crate) rank: u64,
    /// Its alpha: the scale times the rank.
    pub(crate) alpha: f64,
}

/// What the config says beside what all plain LoRAs say.
pub(crate) struct LoraConfig {
    /// What the base is called.
    pub(crate) base: String,
    /// Ranks and alphas of modules.
    pub(crate) modules: Vec<RankedModule>,
    /// Paths or last segments of modules with factors.
    pub(crate) targets: Vec<String>,
    /// Modules that are saved whole.
    pub(crate) saved: Vec<String>,
    /// Whether linear layers are stored as `[in, out]`.
    pub(crate) is_turned: bool,
    /// PEFT's `task_type`, if it is known.
    pub(crate) task: Option<&'static str>,
}

impl LoraConfig {
    /// It as JSON.
    fn json(&self) -> Value {
        let (rank, alpha) = self.modules.first().map_or((1, 1.0), |first| (first.rank, first.alpha));
        let ranks = self.modules.iter().filter(|module| module.rank != rank);
        let ranks = ranks.map(|module| (module.path.clone(), Value::from(module.rank)));
        let alphas = self.modules.iter().filter(|module| module.alpha != alpha);
        let alphas = alphas.map(|module| (module.path.clone(), number(module.alpha)));
        let saved = (!self.saved.is_empty()).then_some(&self.saved);
        json!({
            "alpha_pattern": Value::Object(alphas.collect()),
            "base_model_name_or_path": self.base,
            "bias": "none",
            "fan_in_fan_out": self.is_turned,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": number(alpha),
            "lora_dropout": 0.0,
            "modules_to_save": saved,
            "peft_type": "LORA",
            "r": rank,
            "rank_pattern": Value::Object(ranks.collect()),
            "target_modules": self.targets,
            "task_type": self.task,
            "use_dora": false,
            "use_rslora": false,
        })
    }

    /// Writes it into a directory.
    ///
    /// # Errors
    /// As [`write_small`].
    pub(crate) fn write(&self, dir: &Location) -> Result<()> {
        write_small(dir, CONFIG, format!("{:#}\n", self.json()).as_bytes())
    }
}

/// A number as people write it: without a point where it is whole.
fn number(value: f64) -> Value {
    let is_whole = value.fract() == 0.0 && (0.0..1e9).contains(&value);
    if is_whole { Value::from(value as u64) } else { Value::from(value) }
}

/// Begins the file of these tensors in a directory: their bytes come one behind the other.
///
/// # Errors
/// As [`Store::create`]; [`CheckpointError::Header`] for more tensors than a header holds.
pub(crate) fn begin(dir: &Location, tensors: &[FileTensor]) -> Result<Box<dyn Sink>> {
    let names: Vec<String> = tensors.iter().map(|tensor| format!("{PREFIX}{}", tensor.name)).collect();
    let entries: Vec<(&str, Dtype, &[u64])> = names
        .iter()
        .zip(tensors)
        .map(|(name, tensor)| (name.as_str(), tensor.dtype, &tensor.axes[..]))
        .collect();
    let header = build_header(&entries, &[("format", "pt")]).map_err(|problem| {
        Error::new(CheckpointError::Header { path: dir.path_of(WEIGHTS) }).because(problem)
    })?;
    let bytes = |tensor: &FileTensor| bytes_of(tensor.dtype, tensor.axes.iter().product()).unwrap_or(0);
    let data: u64 = tensors.iter().map(bytes).sum();
    let mut sink = dir.create(WEIGHTS, 8 + header.len() as u64 + data)?;
    sink.write(&(header.len() as u64).to_le_bytes())?;
    sink.write(header.as_bytes())?;
    Ok(sink)
}

/// Appends values as F32.
///
/// # Errors
/// As [`Sink::write`].
pub(crate) fn write_values(sink: &mut dyn Sink, values: &[f32]) -> Result<()> {
    let mut bytes = Vec::with_capacity(4 * STEP);
    for values in values.chunks(STEP) {
        bytes.clear();
        values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        sink.write(&bytes)?;
    }
    Ok(())
}

/// Values that are written at a time.
const STEP: usize = 1 << 14;
