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
    /// The factors of a module, `lora_A` and `lora_B`, as F32.
    pub(crate) fn factors(path: &str, [input, out]: [u64; 2], rank: u64) -> [FileTensor; 2] {
        let factor = |name: &str, axes: [u64; 2]| FileTensor {
            name: format!("{path}.{name}.weight"),
            dtype: Dtype::F32,
            axes: axes.to_vec(),
        };
        [factor("lora_A", [rank, input]), factor("lora_B", [out, rank])]
    }
}

/// What the config says beside what all plain LoRAs say.
pub(crate) struct LoraConfig {
    /// What the base is called.
    pub(crate) base: String,
    /// The rank, which is alpha too, so that the scale is 1.
    pub(crate) rank: usize,
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
        let saved = (!self.saved.is_empty()).then_some(&self.saved);
        json!({
            "alpha_pattern": {},
            "base_model_name_or_path": self.base,
            "bias": "none",
            "fan_in_fan_out": self.is_turned,
            "inference_mode": true,
            "init_lora_weights": true,
            "lora_alpha": self.rank,
            "lora_dropout": 0.0,
            "modules_to_save": saved,
            "peft_type": "LORA",
            "r": self.rank,
            "rank_pattern": {},
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
