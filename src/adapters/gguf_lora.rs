//! Adapters as llama.cpp has them: LoRA in a GGUF file.
//!
//! ```text
//! general.type = adapter, adapter.type = lora, adapter.lora.alpha, general.architecture
//! blk.0.attn_q.weight.lora_a  [rank, in]      blk.0.attn_q.weight.lora_b  [out, rank]      scale = alpha / rank, or 1 for an alpha of 0
//! blk.0.ffn_up_exps.weight.lora_a  [experts, rank, in]                ..lora_b  [experts, out, rank]
//! ```
//!
//! The file's names become those of transformers, and its fields those that PEFT has for them, so that all behind is one. Rows of
//! queries and keys are in llama.cpp's order (`row_order`). What a conversion loses (alphas of single modules, the root of the rank)
//! is not to be had again. Sources: llama.cpp's `convert_lora_to_gguf.py` and `tools/export-lora`; key-mapping.md 10.6.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use crate::checkpoint::header::{metadata_of, read_header};
use crate::checkpoint::header_room::HeaderRoom;
use crate::checkpoint::llama_cpp::Architecture;
use crate::error::adapter::AdapterError;
use crate::error::{Error, Result};
use crate::formats::container::TensorEntry;
use crate::formats::header_bytes::HeaderBytes;
use crate::hub::resolved::Resolved;
use crate::storage::location::Location;
use crate::storage::store::Store;

use crate::adapters::adapter::{Adapter, name_of};
use crate::adapters::dialect::{Detection, Dialect, Opening, TrainedOn};
use crate::adapters::lone_file::lone_file;
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::options::options;
use crate::adapters::row_order::RowOrder;
use crate::adapters::weight_files::{Described, WeightFiles};

/// LoRA in a GGUF file: that file, or a directory that has no other.
pub(crate) struct GgufLora;

const ENDING: &str = ".gguf";
/// What a header says under this key for any adapter.
const TYPE: (&str, &str) = ("general.type", "adapter");
/// What it says there for models, if anything, and what it names for both.
const MODEL: &str = "model";
const ARCHITECTURE: &str = "general.architecture";
/// And under this one for LoRA.
const METHOD: (&str, &str) = ("adapter.type", "lora");
const ALPHA: &str = "adapter.lora.alpha";
/// What the names of factors end with, and what PEFT has for it.
const FACTORS: [(&str, &str); 2] =
    [(".weight.lora_a", ".lora_A.weight"), (".weight.lora_b", ".lora_B.weight")];
/// Embeddings, whose factors are stored the other way around.
const EMBEDDING: &str = "token_embd.";

type Said = HashMap<String, String>;

impl Dialect for GgufLora {
    fn name(&self) -> &'static str {
        "GGUF LoRA"
    }

    fn detect(&self, place: &Location) -> Result<Detection> {
        let Some((dir, file)) = lone_file(place, ENDING)? else { return Ok(Detection::No) };
        let source = dir.open(&file)?;
        // What is wrong with a file is said when it is opened, as whatever it is.
        let header = read_header(source.as_ref(), &dir.path_of(&file), HeaderRoom::of(None));
        let said = header.and_then(|header| said(&header.like, &dir, &file)).unwrap_or_default();
        if is_model(&said) && place.name() == Some(&file) {
            let hint = "a model is the base: `--base FILE`, and its adapter stands behind `--adapter`";
            return Err(Error::new(AdapterError::ModelGiven { path: place.path() }).hint(hint));
        }
        Ok(if is_adapter(&said) { Detection::Certain } else { Detection::No })
    }

    fn has(&self, _: &str) -> bool {
        // A file is the adapter itself.
        false
    }

    fn open(&self, place: &Resolved, opening: Opening<'_>) -> Result<Adapter> {
        let name = name_of(place);
        let (location, file) =
            lone_file(&place.location, ENDING)?.ok_or_else(|| no_longer(&place.location))?;
        let files = WeightFiles::single(&location, &file, opening.room)?;
        let said = said(&files.like, &location, &file)?;
        let architecture = Architecture::of(&said)?.ok_or_else(|| no_longer(&place.location))?;
        let method = said.get(METHOD.0).map_or("(none)", String::as_str);
        if method != METHOD.1 {
            let why = "is not read of GGUF files: `lora` is";
            return Err(field(&name, METHOD.0, method, why));
        }
        if files.tensors.is_empty() {
            return Err(AdapterError::EmptyAdapter { adapter: name }.into());
        }
        if let Some(tensor) = files.tensors.iter().find(|tensor| tensor.name.starts_with(EMBEDDING)) {
            return Err(field(
                &name,
                "adapter.type",
                &tensor.name,
                "adapts an embedding, which is not read of GGUF files",
            ));
        }
        let config = config(&name, &files.tensors, architecture, &said)?;
        let mut options = options(&config);
        options.trained_on.types.extend(architecture.model_types().map(str::to_owned));
        let (kind, config_hash) = ("LORA".to_owned(), files.header_hash.clone());
        let described = Described { dialect: self.name(), kind, config, config_hash, options };
        let path = |key: &str| (path_of(key, architecture), None);
        let adapter = files.into_adapter(location, described, &opening, path);
        Ok(Adapter { reordered: Some(RowOrder::LlamaCpp(architecture)), stands_alone: true, ..adapter })
    }

    fn trained_on(&self, place: &Resolved) -> Result<TrainedOn> {
        // The header names it by words that are no path.
        Ok(TrainedOn { adapter: name_of(place), base: None, revision: None })
    }
}

fn said(like: &HeaderBytes, dir: &Location, file: &str) -> Result<Said> {
    Ok(metadata_of(like, &dir.path_of(file))?.into_iter().collect())
}

fn is_adapter(said: &Said) -> bool {
    said.get(TYPE.0).is_some_and(|found| found == TYPE.1)
}

fn is_model(said: &Said) -> bool {
    said.contains_key(ARCHITECTURE) && said.get(TYPE.0).is_none_or(|found| found == MODEL)
}

/// The refusal of a file that was an adapter a moment ago.
fn no_longer(place: &Location) -> Error {
    let (path, key) = (place.path(), TYPE.0.to_owned());
    AdapterError::AdapterFormat { path, format: "an unknown", key }.into()
}

fn field(adapter: &str, field: &str, value: &str, why: &'static str) -> Error {
    let (adapter, field, value) = (adapter.to_owned(), field.to_owned(), value.to_owned());
    AdapterError::Field { adapter, field, value, why }.into()
}

/// A key as transformers and PEFT spell it; what they have no name for as it is, so that no tensor of a base has it.
fn path_of(key: &str, architecture: &Architecture) -> String {
    let of = |(ending, theirs): &(&str, &str)| {
        let module = architecture.module(&format!("{}.weight", key.strip_suffix(ending)?))?;
        Some(format!("{module}{theirs}"))
    };
    FACTORS.iter().find_map(of).unwrap_or_else(|| key.to_owned())
}

/// The fields that PEFT would have for what the header says.
fn config(
    name: &str,
    tensors: &[TensorEntry],
    architecture: &Architecture,
    said: &Said,
) -> Result<AdapterConfig> {
    let stated = said.get(ALPHA).map_or("0", String::as_str);
    let alpha = stated.parse::<f64>().ok().filter(|alpha| alpha.is_finite());
    let alpha = alpha.ok_or_else(|| field(name, ALPHA, stated, "is not a finite number"))?;
    let mut ranks: BTreeMap<String, u64> = BTreeMap::new();
    for tensor in tensors.iter().filter(|tensor| tensor.name.ends_with(FACTORS[1].0)) {
        let path = path_of(&tensor.name, architecture);
        let module = path.strip_suffix(FACTORS[1].1).unwrap_or(&path).to_owned();
        ranks.insert(module, tensor.shape.axes().last().copied().unwrap_or(0));
    }
    let most = ranks.values().copied().max().unwrap_or(0);
    let own: Map<String, Value> = ranks
        .iter()
        .filter(|(_, rank)| **rank != most)
        .map(|(module, rank)| (format!("^{}$", module.replace('.', "\\.")), (*rank).into()))
        .collect();
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    put("peft_type", "LORA".into());
    put("r", most.into());
    put("rank_pattern", own.clone().into());
    // An alpha of 0 stands for a scale of 1.
    put("lora_alpha", if alpha == 0.0 { most.into() } else { json!(alpha) });
    if alpha == 0.0 {
        put("alpha_pattern", own.into());
    }
    put("target_modules", ranks.into_keys().collect::<Vec<_>>().into());
    Ok(AdapterConfig::new(name.to_owned(), fields))
}
