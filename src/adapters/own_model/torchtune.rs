//! Adapters as torchtune keeps them for itself: a pickle of the factors, by the names of torchtune's models.
//!
//! ```text
//! adapter_model.pt in epoch_N/, or adapter_N.pt (torchtune up to 0.4); beside it the export to PEFT, and adapter_config.json
//! layers.N.attn.q_proj.lora_a.weight [rank, in]      layers.N.attn.q_proj.lora_b.weight [out, rank]      Δ = alpha / rank · lora_b·lora_a
//! layers.N.attn.q_proj.magnitude [out]               DoRA's, which the config does not mention
//! ```
//!
//! Where the export lies beside it this is read: the export has the rows of magnitudes in a wrong order, those of `lora_B` for some
//! families, and does not say that DoRA was used. The config has `r` and `lora_alpha`; of Phi's there is none. Sources: torchtune
//! 0.6.1 (`training/checkpointing`, `models/convert_weights.py`, `modules/peft`), and its later tree for Qwen 3; key-mapping.md 10.2.

use serde_json::{Map, Value};

use crate::error::adapter::AdapterError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::formats::container::TensorEntry;
use crate::formats::json::parse_json_as_written;
use crate::hub::resolved::Resolved;
use crate::storage::location::Location;
use crate::storage::store::{EntryKind, Store};

use crate::adapters::adapter::{Adapter, name_of};
use crate::adapters::dialect::{Detection, Dialect, Opening, TrainedOn};
use crate::adapters::lone_file::{detect_by_tensor, lone_file};
use crate::adapters::own_model::own_names::OwnModel;
use crate::adapters::peft::config::{AdapterConfig, bad_field};
use crate::adapters::peft::folder::{CONFIG, MOST_CONFIG_BYTES, config_beside};
use crate::adapters::peft::keys::normalise;
use crate::adapters::peft::options::options;
use crate::adapters::peft::torchtune::{NATIVE, is_numbered, numbered};
use crate::adapters::weight_files::{Described, WeightFiles};

/// Files that torchtune wrote for itself.
pub(crate) struct Torchtune;

/// What the models of torchtune are to those of transformers. Fused projections of Phi are apart in torchtune.
pub(crate) static TORCHTUNE: OwnModel = OwnModel {
    trainer: "torchtune",
    names: &[
        ("layers.#.attn.q_proj", "model.layers.#.self_attn.q_proj"),
        ("layers.#.attn.k_proj", "model.layers.#.self_attn.k_proj"),
        ("layers.#.attn.v_proj", "model.layers.#.self_attn.v_proj"),
        ("layers.#.attn.output_proj", "model.layers.#.self_attn.o_proj"),
        ("layers.#.mlp.w1", "model.layers.#.mlp.gate_proj"),
        ("layers.#.mlp.w2", "model.layers.#.mlp.down_proj"),
        ("layers.#.mlp.w3", "model.layers.#.mlp.up_proj"),
        ("output", "lm_head"),
    ],
    families: &[
        ("llama", true),
        ("mistral", true),
        ("gemma", true),
        ("gemma2", true),
        ("qwen2", false),
        ("qwen3", false),
        ("phi3", false),
    ],
};

/// What the names of factors end with, and what PEFT has for it.
const TAILS: [(&str, &str); 3] = [
    (".lora_a.weight", ".lora_A.weight"),
    (".lora_b.weight", ".lora_B.weight"),
    (".magnitude", ".lora_magnitude_vector"),
];
/// What names of factors of a stack of experts have in them.
const EXPERTS: &str = ".experts.lora_";
/// Endings of files that may hold such tensors, whatever they are called.
const ENDINGS: [&str; 4] = [".pt", ".safetensors", ".bin", ".pth"];
const OF_PEFT: &str = "adapter_model.";

impl Dialect for Torchtune {
    fn name(&self) -> &'static str {
        "torchtune"
    }

    fn detect(&self, place: &Location) -> Result<Detection> {
        // That several are there is said when one is opened.
        let first =
            || numbered(place).map(|found| found.into_iter().next().map(|name| (place.clone(), name)));
        let Some((dir, file)) = own_file(place)?.map_or_else(first, |found| Ok(Some(found)))? else {
            return Ok(Detection::No);
        };
        detect_by_tensor(&dir, &file, is_factor)
    }

    fn has(&self, file: &str) -> bool {
        file == NATIVE
    }

    fn open(&self, place: &Resolved, opening: Opening<'_>) -> Result<Adapter> {
        let (home, file) = own_file(&place.location)?.ok_or_else(|| missing(&place.location))?;
        let (said, config_hash) = said(place, &home)?;
        let files = WeightFiles::single(&home, &file, opening.room)?;
        if let Some(tensor) = files.tensors.iter().find(|tensor| tensor.name.contains(EXPERTS)) {
            let (adapter, key) = (said.adapter, tensor.name.to_string());
            let kind = AdapterError::OwnExperts { adapter, key, trainer: TORCHTUNE.trainer };
            return Err(Error::new(kind).hint(MERGED));
        }
        let has_magnitudes = files.tensors.iter().any(|tensor| tensor.name.ends_with(TAILS[2].0));
        let config = as_peft(said, has_magnitudes)?;
        let mut options = options(&config);
        options.trained_on.add(&config_beside(&home)?);
        let described =
            Described { dialect: self.name(), kind: "LORA".to_owned(), config, config_hash, options };
        let adapter = files.into_adapter(home, described, &opening, |key| {
            let (path, wrapper) = normalise(key);
            (path_of(&path), wrapper)
        });
        // A file that is given by its name may be one of several.
        let stands_alone = place.names_file()?;
        Ok(Adapter { own_model: Some(&TORCHTUNE), stands_alone, ..adapter })
    }

    fn trained_on(&self, place: &Resolved) -> Result<TrainedOn> {
        let (home, _) = own_file(&place.location)?.ok_or_else(|| missing(&place.location))?;
        let (said, _) = said(place, &home)?;
        let base = said.text("base_model_name_or_path").filter(|base| !base.is_empty()).map(str::to_owned);
        Ok(TrainedOn { adapter: said.adapter, base, revision: None })
    }
}

const MERGED: &str = "torchtune writes the merged model with `save_adapter_weights_only: False`";

/// The directory and the name of the file that torchtune may have written: of several epochs none is meant more than another.
fn own_file(place: &Location) -> Result<Option<(Location, String)>> {
    if !place.is_directory()? {
        for ending in ENDINGS {
            if let Some(found) = lone_file(place, ending)? {
                return Ok(Some(found));
            }
        }
        return Ok(None);
    }
    if place.has_file(NATIVE)? {
        return Ok(Some((place.clone(), NATIVE.to_owned())));
    }
    let files = place.list("")?.into_iter().filter(|entry| entry.kind == EntryKind::File);
    let names: Vec<String> = files.map(|entry| entry.name).collect();
    if names.iter().any(|name| is_numbered(name)) {
        let found = numbered(place)?;
        return Ok((found.len() == 1).then(|| (place.clone(), found[0].clone())));
    }
    let is_one =
        |name: &&String| ENDINGS.iter().any(|ending| name.ends_with(ending)) && !name.starts_with(OF_PEFT);
    let mut own = names.iter().filter(is_one);
    let first = own.next().filter(|_| own.next().is_none());
    Ok(first.map(|name| (place.clone(), name.clone())))
}

fn is_factor(entry: &TensorEntry) -> bool {
    TAILS[..2].iter().any(|(own, _)| entry.name.ends_with(own)) || entry.name.contains(EXPERTS)
}

/// The refusal of a directory of several, or of one that had one a moment ago.
fn missing(place: &Location) -> Error {
    let error = Error::new(StorageError::Missing { what: NATIVE, path: place.path() });
    match numbered(place).unwrap_or_default().last() {
        Some(last) => error.hint(format!(
            "it holds the adapters of several epochs: give the one that is meant, as `--adapter {}`",
            place.join(last)
        )),
        None => error,
    }
}

/// The config beside it as it is, and its hash.
fn said(place: &Resolved, home: &Location) -> Result<(AdapterConfig, String)> {
    let bytes = home.read_small(CONFIG, MOST_CONFIG_BYTES)?.ok_or_else(|| {
        let kind = StorageError::Missing { what: "file", path: home.path_of(CONFIG) };
        Error::new(kind).hint(
            "torchtune's file does not say what its deltas are multiplied by: write `adapter_config.json` beside it, with the \
             `lora_rank` and the `lora_alpha` of the recipe, as `{\"r\": 8, \"lora_alpha\": 16}`",
        )
    })?;
    let fields = match parse_json_as_written(&bytes) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    Ok((AdapterConfig::new(name_of(place), fields), blake3::hash(&bytes).to_hex().to_string()))
}

/// The fields that PEFT would have for what the config and the file say.
fn as_peft(said: AdapterConfig, has_magnitudes: bool) -> Result<AdapterConfig> {
    for field in ["r", "lora_alpha"] {
        if said.get(field).is_none() {
            let value = said.stated(field).cloned().unwrap_or_default();
            let why = "is no number: torchtune's own file does not say what its deltas are multiplied by";
            return Err(bad_field(&said.adapter, field, &value, why));
        }
    }
    let mut fields: Map<String, Value> =
        said.fields().map(|(field, value)| (field.to_owned(), value.clone())).collect();
    fields.entry("peft_type").or_insert_with(|| "LORA".into());
    if has_magnitudes {
        fields.insert("use_dora".to_owned(), true.into());
    }
    Ok(AdapterConfig::new(said.adapter, fields))
}

/// A key as PEFT spells its role.
fn path_of(key: &str) -> String {
    let of = |(own, theirs): &(&str, &str)| Some(format!("{}{theirs}", key.strip_suffix(own)?));
    TAILS.iter().find_map(of).unwrap_or_else(|| key.to_owned())
}
