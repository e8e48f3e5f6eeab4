//! Adapters as mlx-lm saves them: a directory with `adapters.safetensors`, and a config that is no PEFT's of the same name.
//!
//! ```text
//! adapter_config.json   fine_tune_type: lora, dora or full;  lora_parameters: rank, scale, dropout, keys
//! PATH.lora_a [in, rank]            PATH.lora_b [rank, out]            Δ = scale · (lora_a·lora_b)ᵀ
//! PATH.lora_a [tokens, rank]        PATH.lora_b [rank, width]          of an embedding
//! PATH.m [out]                      the magnitudes of DoRA
//! PATH.switch_mlp.PROJ.lora_a [experts, rank, in], or [experts · rank, in]     PATH….lora_b [experts, out, rank]
//! PATH.weight                       of `full`: what stands in place of the base's
//! ```
//!
//! The scale is what deltas are multiplied by, whatever the rank. Paths are those of MLX's models, which for language models are
//! those of transformers but for stacks of experts. Where embedding and head are tied both are the adapted one in training.
//! Source: mlx-lm 0.32, `tuner/lora.py`, `tuner/dora.py`, `tuner/utils.py` (`fuse` of each layer); key-mapping.md 10.1.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::error::adapter::AdapterError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::formats::container::TensorEntry;
use crate::formats::json::parse_json_as_written;
use crate::hub::resolved::Resolved;
use crate::model::heads::is_embedding;
use crate::storage::location::Location;
use crate::storage::store::Store;
use crate::tensor::shape::Shape;

use crate::adapters::adapter::{Adapter, name_of};
use crate::adapters::dialect::{Detection, Dialect, Opening, TrainedOn};
use crate::adapters::peft::config::{AdapterConfig, bad_field, shortened};
use crate::adapters::peft::folder::{CONFIG, MOST_CONFIG_BYTES};
use crate::adapters::peft::options::options;
use crate::adapters::weight_files::{Described, WeightFiles};

/// Directories that mlx-lm wrote.
pub(crate) struct MlxLm;

const TENSORS: &str = "adapters.safetensors";
const KIND: &str = "fine_tune_type";
const PARAMETERS: &str = "lora_parameters";
/// Values of the former; the first where it is left out.
const KINDS: [&str; 3] = ["lora", "dora", "full"];
/// What the latter may hold. `alpha` has never had an effect.
const KNOWN: &[&str] = &["rank", "scale", "dropout", "keys", "alpha"];
const A: &str = ".lora_a";
const B: &str = ".lora_b";
const MAGNITUDE: &str = ".m";
/// What MLX calls a stack of experts, and transformers their list.
const STACK: [&str; 2] = [".switch_mlp.", ".experts."];

impl Dialect for MlxLm {
    fn name(&self) -> &'static str {
        "mlx-lm"
    }

    fn detect(&self, dir: &Location) -> Result<Detection> {
        if !dir.is_directory()? {
            return Ok(Detection::No);
        }
        if !dir.has_file(TENSORS)? {
            return Ok(Detection::No);
        }
        // That it is missing is said when it is opened.
        let Some(bytes) = dir.read_small(CONFIG, MOST_CONFIG_BYTES)? else { return Ok(Detection::Likely) };
        // What is wrong with a config is said by whoever takes it for its own.
        let fields = parse_json_as_written(&bytes).unwrap_or_default();
        let is_ours = fields.get("peft_type").is_none_or(Value::is_null)
            && [KIND, PARAMETERS].iter().any(|field| fields.get(field).is_some());
        Ok(if is_ours { Detection::Certain } else { Detection::No })
    }

    fn has(&self, file: &str) -> bool {
        file == TENSORS
    }

    fn open(&self, place: &Resolved, opening: Opening<'_>) -> Result<Adapter> {
        let location = place.location.clone();
        let (said, config_hash) = said(place)?;
        let mut files = WeightFiles::single(&location, TENSORS, opening.room)?;
        if files.tensors.is_empty() {
            return Err(AdapterError::EmptyAdapter { adapter: said.adapter }.into());
        }
        refuse_scaled_embeddings(&said, &files.tensors)?;
        split_old_stacks(&mut files.tensors);
        let config = as_peft(&said, &files.tensors)?;
        let options = options(&config);
        let described =
            Described { dialect: self.name(), kind: "LORA".to_owned(), config, config_hash, options };
        let mut adapter = files.into_adapter(location, described, &opening, |key| (path_of(key), None));
        // A stack has three axes, and those of PEFT.
        let factors = |key: &str| key.ends_with(A) || key.ends_with(B);
        adapter.tensors = adapter
            .tensors
            .into_iter()
            .map(|tensor| if factors(&tensor.key) { tensor.across() } else { tensor })
            .collect();
        Ok(adapter)
    }

    fn trained_on(&self, place: &Resolved) -> Result<TrainedOn> {
        let (said, _) = said(place)?;
        Ok(TrainedOn { base: said.text("model").map(str::to_owned), adapter: said.adapter, revision: None })
    }
}

/// The config as it is, and its hash.
fn said(place: &Resolved) -> Result<(AdapterConfig, String)> {
    let Some(bytes) = place.location.read_small(CONFIG, MOST_CONFIG_BYTES)? else {
        let missing = StorageError::Missing { what: "file", path: place.location.path_of(CONFIG) };
        return Err(Error::new(missing).hint(
            "mlx-lm writes it beside `adapters.safetensors`, which does not say by itself what its deltas are multiplied by",
        ));
    };
    let fields = match parse_json_as_written(&bytes) {
        Ok(Value::Object(fields)) => fields,
        // It was an object a moment ago.
        _ => Map::new(),
    };
    Ok((AdapterConfig::new(name_of(place), fields), blake3::hash(&bytes).to_hex().to_string()))
}

/// A key as transformers and PEFT spell it.
fn path_of(key: &str) -> String {
    let of = |ending, linear: &str, embedding: &str| {
        let module = key.strip_suffix(ending)?;
        let is_table = is_embedding(&format!("{module}.weight"));
        Some(format!("{}{}", in_list(module), if is_table { embedding } else { linear }))
    };
    of(A, ".lora_A.weight", ".lora_embedding_A")
        .or_else(|| of(B, ".lora_B.weight", ".lora_embedding_B"))
        .or_else(|| of(MAGNITUDE, ".lora_magnitude_vector", ".lora_magnitude_vector"))
        .unwrap_or_else(|| key.to_owned())
}

/// The path of a stack of experts as that of their list.
fn in_list(module: &str) -> String {
    module.replacen(STACK[0], STACK[1], 1)
}

/// The fields that PEFT would have for what the config says.
fn as_peft(said: &AdapterConfig, tensors: &[TensorEntry]) -> Result<AdapterConfig> {
    let kind = said.text(KIND).unwrap_or(KINDS[0]);
    if !KINDS.contains(&kind) || said.get(KIND).is_some_and(|value| !value.is_string()) {
        let value = said.get(KIND).cloned().unwrap_or_default();
        return Err(bad_field(&said.adapter, KIND, &value, "is none of `lora`, `dora`, `full`"));
    }
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    put("peft_type", "LORA".into());
    if let Some(base) = said.text("model") {
        put("base_model_name_or_path", base.into());
    }
    if kind != KINDS[2] {
        let (rank, scale) = parameters(said)?;
        put("r", rank.into());
        // What it is divided by again: the two roundings are far below the one to f32 that follows.
        put("lora_alpha", json!(scale * rank as f64));
        let factors = tensors.iter().filter_map(|tensor| tensor.name.strip_suffix(B));
        put("target_modules", factors.map(in_list).collect::<Vec<_>>().into());
    }
    put("use_dora", (kind == KINDS[1]).into());
    put("ensure_weight_tying", true.into());
    Ok(AdapterConfig::new(said.adapter.clone(), fields))
}

/// Rank and scale of all modules.
fn parameters(said: &AdapterConfig) -> Result<(u64, f64)> {
    let wrong = |field: &str, value: &Value, why| Err(bad_field(&said.adapter, field, value, why));
    let Some(Value::Object(parameters)) = said.get(PARAMETERS) else {
        let value = said.get(PARAMETERS).cloned().unwrap_or_default();
        return wrong(PARAMETERS, &value, "is no object with `rank` and `scale`");
    };
    if let Some(unknown) = parameters.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        let (adapter, unknown) = (said.adapter.clone(), unknown.clone());
        let value = shortened(&Value::Object(parameters.clone()));
        return Err(AdapterError::UnknownInField { adapter, field: PARAMETERS, value, unknown }.into());
    }
    let of = |key: &str| parameters.get(key).cloned().unwrap_or_default();
    let (rank, scale) = (of("rank"), of("scale"));
    match (rank.as_u64().filter(|&rank| rank > 0), scale.as_f64().filter(|scale| scale.is_finite())) {
        (Some(rank), Some(scale)) => Ok((rank, scale)),
        (None, _) => wrong("lora_parameters.rank", &rank, "is no whole number above zero"),
        (_, None) => {
            let why = "is no number: mlx-lm has no default for it, and `alpha` is not what it multiplies by";
            wrong("lora_parameters.scale", &scale, why)
        }
    }
}

/// Refuses magnitudes of embeddings: MLX has one for each token, where PEFT has one for each of its values.
fn refuse_scaled_embeddings(said: &AdapterConfig, tensors: &[TensorEntry]) -> Result<()> {
    let is_one = |tensor: &&TensorEntry| {
        let module = tensor.name.strip_suffix(MAGNITUDE);
        module.is_some_and(|module| is_embedding(&format!("{module}.weight")))
    };
    let Some(tensor) = tensors.iter().find(is_one) else { return Ok(()) };
    let why = "adapts an embedding by DoRA, whose magnitudes of tokens are not merged yet";
    Err(bad_field(&said.adapter, KIND, &Value::from(&*tensor.name), why))
}

/// Gives stacks of older versions, which have all experts' rows behind one another, an axis of experts.
fn split_old_stacks(tensors: &mut [TensorEntry]) {
    let experts = |tensor: &TensorEntry| match *tensor.shape.axes() {
        [experts, _, _] => Some((tensor.name.strip_suffix(B)?.to_owned(), experts)),
        _ => None,
    };
    let stacks: HashMap<String, u64> =
        tensors.iter().filter(|tensor| tensor.name.contains(STACK[0])).filter_map(experts).collect();
    for tensor in tensors {
        let experts = tensor.name.strip_suffix(A).and_then(|module| stacks.get(module));
        if let (&[rows, inputs], Some(&experts)) = (tensor.shape.axes(), experts)
            && experts > 0
            && rows.is_multiple_of(experts)
            && let Some(shape) = Shape::new(&[experts, rows / experts, inputs])
        {
            tensor.shape = shape;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_peft() {
        for (key, path) in [
            ("model.layers.0.self_attn.q_proj.lora_a", "model.layers.0.self_attn.q_proj.lora_A.weight"),
            ("model.layers.0.self_attn.q_proj.lora_b", "model.layers.0.self_attn.q_proj.lora_B.weight"),
            ("model.layers.0.self_attn.q_proj.m", "model.layers.0.self_attn.q_proj.lora_magnitude_vector"),
            ("model.embed_tokens.lora_a", "model.embed_tokens.lora_embedding_A"),
            (
                "model.layers.0.mlp.switch_mlp.up_proj.lora_b",
                "model.layers.0.mlp.experts.up_proj.lora_B.weight",
            ),
            ("model.norm.weight", "model.norm.weight"),
        ] {
            assert_eq!(path_of(key), path);
        }
    }
}
