//! Adapters as mistral-finetune saves them: `lora.safetensors` by the names of Mistral's own models, and `params.json` beside it.
//!
//! ```text
//! params.json   lora: {enable, rank, dropout, scaling}, beside the sizes of the model
//! layers.N.attention.wq.lora_A.weight [rank, in]      layers.N.attention.wq.lora_B.weight [out, rank]      Δ = scaling · lora_B·lora_A
//! layers.N.feed_forward.experts.E.w1.lora_A.weight    layers.N.attention_norm.weight, which stands in place of the base's
//! ```
//!
//! Deltas are multiplied by `scaling`, whatever the rank; Mistral's own inference takes 2 for it unless it is told, which is not
//! guessed here. Sources: mistral-finetune (`finetune/checkpointing.py`, `model/lora.py`, `utils/merge_lora.py`), `mistral_inference`
//! 1.6 (`lora.py`), transformers' `convert_mistral_weights_to_hf.py` for the order of rows; key-mapping.md 15.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::error::adapter::AdapterError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::formats::container::TensorEntry;
use crate::formats::json::parse_json_as_written;
use crate::hub::resolved::Resolved;
use crate::storage::location::Location;
use crate::storage::store::Store;

use crate::adapters::adapter::{Adapter, name_of};
use crate::adapters::dialect::{Detection, Dialect, Opening, TrainedOn};
use crate::adapters::lone_file::{detect_by_tensor, lone_file};
use crate::adapters::own_model::own_names::OwnModel;
use crate::adapters::peft::config::{AdapterConfig, bad_field, shortened};
use crate::adapters::peft::options::options;
use crate::adapters::weight_files::{Described, WeightFiles};

/// Directories that mistral-finetune wrote, and files of them.
pub(crate) struct MistralFinetune;

/// What Mistral's models are to those of transformers.
pub(crate) static MISTRAL: OwnModel = OwnModel {
    trainer: "mistral-finetune",
    names: &[
        ("layers.#.attention.wq", "model.layers.#.self_attn.q_proj"),
        ("layers.#.attention.wk", "model.layers.#.self_attn.k_proj"),
        ("layers.#.attention.wv", "model.layers.#.self_attn.v_proj"),
        ("layers.#.attention.wo", "model.layers.#.self_attn.o_proj"),
        ("layers.#.feed_forward.w1", "model.layers.#.mlp.gate_proj"),
        ("layers.#.feed_forward.w2", "model.layers.#.mlp.down_proj"),
        ("layers.#.feed_forward.w3", "model.layers.#.mlp.up_proj"),
        ("layers.#.feed_forward.gate", "model.layers.#.block_sparse_moe.gate"),
        ("layers.#.feed_forward.experts.#.w1", "model.layers.#.block_sparse_moe.experts.#.w1"),
        ("layers.#.feed_forward.experts.#.w2", "model.layers.#.block_sparse_moe.experts.#.w2"),
        ("layers.#.feed_forward.experts.#.w3", "model.layers.#.block_sparse_moe.experts.#.w3"),
        ("layers.#.attention_norm", "model.layers.#.input_layernorm"),
        ("layers.#.ffn_norm", "model.layers.#.post_attention_layernorm"),
        ("norm", "model.norm"),
        ("output", "lm_head"),
        ("tok_embeddings", "model.embed_tokens"),
    ],
    families: &[("mistral", true), ("mixtral", true)],
};

const TENSORS: &str = "lora.safetensors";
const ENDING: &str = ".safetensors";
const PARAMS: &str = "params.json";
const LORA: &str = "lora";
/// What that holds.
const KNOWN: &[&str] = &["enable", "rank", "dropout", "scaling"];
/// What names of factors have in them, between the number of a layer and the role.
const SIGNS: [&str; 2] = [".attention.w", ".feed_forward."];
const A: &str = ".lora_A.weight";
const MOST_PARAMS_BYTES: u64 = 1 << 20;

impl Dialect for MistralFinetune {
    fn name(&self) -> &'static str {
        "mistral-finetune"
    }

    fn detect(&self, place: &Location) -> Result<Detection> {
        let Some((dir, file)) = own_file(place)? else { return Ok(Detection::No) };
        detect_by_tensor(&dir, &file, is_factor)
    }

    fn has(&self, file: &str) -> bool {
        file == TENSORS
    }

    fn open(&self, place: &Resolved, opening: Opening<'_>) -> Result<Adapter> {
        let name = name_of(place);
        let (home, file) = own_file(&place.location)?.ok_or_else(|| {
            Error::new(StorageError::Missing { what: TENSORS, path: place.location.path() })
        })?;
        let (params, config_hash) = params(&home)?;
        let (rank, scaling) = lora(&name, &params)?;
        let files = WeightFiles::single(&home, &file, opening.room)?;
        let fields = [
            ("peft_type", json!("LORA")),
            ("r", rank.into()),
            // What it is divided by again: the two roundings are far below the one to f32 that follows.
            ("lora_alpha", json!(scaling * rank as f64)),
        ];
        let fields = fields.map(|(field, value)| (field.to_owned(), value));
        let config = AdapterConfig::new(name, Map::from_iter(fields));
        let options = options(&config);
        let described =
            Described { dialect: self.name(), kind: "LORA".to_owned(), config, config_hash, options };
        let adapter = files.into_adapter(home, described, &opening, |key| (key.to_owned(), None));
        // A file that is given by its name may lie beside anything.
        let stands_alone = place.names_file()?;
        let heads = ["n_heads", "n_kv_heads"].map(|field| params.get(field).and_then(Value::as_u64));
        let heads = heads[0].zip(heads[1]).map(|(queries, keys)| [queries, keys]);
        Ok(Adapter { own_model: Some(&MISTRAL), own_heads: heads, stands_alone, ..adapter })
    }

    fn trained_on(&self, place: &Resolved) -> Result<TrainedOn> {
        Ok(TrainedOn { adapter: name_of(place), base: None, revision: None })
    }
}

/// The directory and the name of the file that mistral-finetune may have written.
fn own_file(place: &Location) -> Result<Option<(Location, String)>> {
    if place.is_directory()? && place.has_file(TENSORS)? {
        return Ok(Some((place.clone(), TENSORS.to_owned())));
    }
    lone_file(place, ENDING)
}

fn is_factor(entry: &TensorEntry) -> bool {
    entry.name.ends_with(A) && SIGNS.iter().any(|sign| entry.name.contains(sign)) && {
        let module = entry.name.strip_suffix(A).unwrap_or_default();
        MISTRAL.module(module).is_some()
    }
}

/// What `params.json` holds, and its hash.
fn params(home: &Location) -> Result<(HashMap<String, Value>, String)> {
    let bytes = home.read_small(PARAMS, MOST_PARAMS_BYTES)?.ok_or_else(|| {
        let kind = StorageError::Missing { what: "file", path: home.path_of(PARAMS) };
        Error::new(kind).hint(
            "mistral-finetune writes it beside `lora.safetensors`, which does not say by itself what its deltas are multiplied by: \
             get it, or write it, as `{\"lora\": {\"rank\": 64, \"scaling\": 2.0}}`",
        )
    })?;
    let fields = match parse_json_as_written(&bytes) {
        Ok(Value::Object(fields)) => fields.into_iter().collect(),
        _ => HashMap::new(),
    };
    Ok((fields, blake3::hash(&bytes).to_hex().to_string()))
}

/// Rank and scale of all modules.
fn lora(adapter: &str, params: &HashMap<String, Value>) -> Result<(u64, f64)> {
    let lora = params.get(LORA).cloned().unwrap_or_default();
    let Value::Object(fields) = &lora else {
        return Err(bad_field(adapter, LORA, &lora, "is no object with `rank` and `scaling`"));
    };
    if let Some(unknown) = fields.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        let (adapter, unknown, value) = (adapter.to_owned(), unknown.clone(), shortened(&lora));
        return Err(AdapterError::UnknownInField { adapter, field: LORA, value, unknown }.into());
    }
    let of = |key: &str| fields.get(key).cloned().unwrap_or_default();
    let (rank, scaling) = (of("rank"), of("scaling"));
    match (rank.as_u64().filter(|&rank| rank > 0), scaling.as_f64().filter(|scaling| scaling.is_finite())) {
        (Some(rank), Some(scaling)) => Ok((rank, scaling)),
        (None, _) => Err(bad_field(adapter, "lora.rank", &rank, "is no whole number above zero")),
        (_, None) => {
            let why = "is no number: what takes its place is for whoever trained it to say";
            Err(bad_field(adapter, "lora.scaling", &scaling, why))
        }
    }
}
