//! What the delta of each module of a file is multiplied by.
//!
//! ```text
//! MODULE.alpha                          a number: alpha / rank; where it is left out, or 0, the scale is 1
//! lora_adapter_metadata of the header   PEFT's config of each component, its fields behind `unet.`, of diffusers
//! LoKr with both factors whole          1, whatever alpha says
//! ```
//!
//! Sources: sd-scripts `networks/lora.py` (`alpha == 0 or None` is the rank), lycoris-lora `modules/lokr.py` (`use_w1 and use_w2`), diffusers
//! `loaders/lora_base.py` (`_pack_dict_with_prefix`) and `utils/peft_utils.py`.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::error::adapter::AdapterError;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::formats::container::TensorEntry;
use crate::formats::json::parse_json_as_written;
use crate::storage::source::Source;
use crate::tensor::dtype::Dtype;

use crate::adapters::image::keys::{COMPONENTS, Key};
use crate::adapters::options::RankAlpha;
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::options::options;

/// The key of the header under which diffusers keeps PEFT's configs.
pub(crate) const METADATA: &str = "lora_adapter_metadata";
/// Where the rank of a module's factors is: behind which tails, and on which axis.
const RANKS: &[(&str, usize)] = &[
    (".lora_A.weight", 0),
    (".tucker_down", 0),
    (".hada_w1_b", 0),
    (".lokr_w1_b", 0),
    (".lokr_w2_b", 0),
    (".glora_a2", 0),
];
/// What shows that a module is one of OFT, whose alpha is no scale.
const ROTATIONS: &str = ".oft_blocks";
/// What shows that a module is one of LoKr.
const KRONECKER: &str = ".lokr_w";

/// Rank and alpha of every module that has a rank of its own, by its name under that of its component.
pub(crate) fn scales(
    adapter: &str,
    keys: &[(Key, TensorEntry)],
    source: &dyn Source,
    metadata: &HashMap<&'static str, AdapterConfig>,
) -> Result<HashMap<String, RankAlpha>> {
    let (mut ranks, mut alphas) = (HashMap::new(), HashMap::new());
    for (key, entry) in keys {
        match key.tail {
            None => {
                let alpha = number(adapter, source, entry)?;
                alphas.insert(key.whole_module(), alpha);
            }
            Some(tail) => {
                if let Some((_, axis)) = RANKS.iter().find(|(of, _)| *of == tail)
                    && let Some(&rank) = entry.shape.axes().get(*axis)
                {
                    ranks.insert(key.whole_module(), (rank, key));
                } else if tail.starts_with(KRONECKER) || tail == ROTATIONS {
                    ranks.entry(key.whole_module()).or_insert((0, key));
                }
            }
        }
    }
    if let Some(module) = alphas.keys().next()
        && !metadata.is_empty()
    {
        let why = "both it and the header's `lora_adapter_metadata` say what a delta is multiplied by";
        return Err(unclaimed(adapter, format!("{module}.alpha"), why));
    }
    if let Some(module) = alphas.keys().find(|module| !ranks.contains_key(*module)) {
        let (adapter, key) = (adapter.to_owned(), format!("{module}.alpha"));
        return Err(
            ClaimError::NoPartner { adapter, key, partner: format!("{module}.lora_down.weight") }.into()
        );
    }
    let mut found = HashMap::new();
    for (module, (rank, key)) in ranks {
        let rank = rank as f64;
        let alpha = match (metadata.get(key.prefix), alphas.get(&module)) {
            // How long a rotation may be; nothing without an alpha.
            (_, alpha) if key.tail == Some(ROTATIONS) => {
                let alpha = alpha.copied().unwrap_or_default();
                found.insert(module, RankAlpha { rank: 1.0, alpha });
                continue;
            }
            _ if rank == 0.0 => 0.0,
            (Some(config), _) => planned(config, &key.module, rank)?,
            (None, Some(&alpha)) if alpha != 0.0 => alpha,
            (None, _) => rank,
        };
        // Without a rank the scale is 1.
        let own = if rank == 0.0 { RankAlpha { rank: 1.0, alpha: 1.0 } } else { RankAlpha { rank, alpha } };
        found.insert(module, own);
    }
    Ok(found)
}

/// The alpha that PEFT's config gives a module, as one that the rank divides.
fn planned(config: &AdapterConfig, module: &str, rank: f64) -> Result<f64> {
    let options = options(config);
    Error::all(options.refused())?;
    let planned = options.planned(module)?;
    if planned.rank != rank {
        let (adapter, module) = (config.adapter.clone(), module.to_owned());
        return Err(
            ClaimError::Rank { adapter, module, found: rank as u64, expected: planned.rank as u64 }.into()
        );
    }
    Ok(if options.rslora { planned.alpha * rank.sqrt() } else { planned.alpha })
}

/// PEFT's config of each component, by what its keys begin with; none for files without.
pub(crate) fn configs(
    adapter: &str,
    metadata: &[(String, String)],
) -> Result<HashMap<&'static str, AdapterConfig>> {
    let Some((_, text)) = metadata.iter().find(|(key, _)| key == METADATA) else { return Ok(HashMap::new()) };
    let Ok(Value::Object(fields)) = parse_json_as_written(text.as_bytes()) else {
        let (adapter, field, value) =
            (adapter.to_owned(), METADATA.to_owned(), text.chars().take(60).collect());
        return Err(AdapterError::Field { adapter, field, value, why: "is no JSON object" }.into());
    };
    let mut by_prefix: HashMap<&'static str, Map<String, Value>> = HashMap::new();
    for (field, value) in fields {
        let component = COMPONENTS.iter().find(|component| field.starts_with(component.prefix));
        let Some(component) = component.filter(|component| !component.is_joined()) else {
            let (adapter, value) = (adapter.to_owned(), text.chars().take(60).collect());
            return Err(
                AdapterError::UnknownInField { adapter, field: METADATA, value, unknown: field }.into()
            );
        };
        let own = by_prefix.entry(component.prefix).or_default();
        own.entry("peft_type").or_insert_with(|| "LORA".into());
        own.insert(field[component.prefix.len()..].to_owned(), value);
    }
    let config = |(prefix, fields)| (prefix, AdapterConfig::new(adapter.to_owned(), fields));
    Ok(by_prefix.into_iter().map(config).collect())
}

/// The number that a tensor of one element holds.
pub(crate) fn number(adapter: &str, source: &dyn Source, entry: &TensorEntry) -> Result<f64> {
    let mut bytes = [0; 8];
    let size = entry.dtype.bitsize() / 8;
    if entry.shape.elements() == 1 && (1..=bytes.len()).contains(&size) {
        let bytes = &mut bytes[..size];
        source.read_at(bytes, entry.offset)?;
        let found = match (entry.dtype, &*bytes) {
            (Dtype::F64, bytes) => bytes.try_into().ok().map(f64::from_le_bytes),
            (Dtype::F32, bytes) => bytes.try_into().ok().map(f32::from_le_bytes).map(f64::from),
            (Dtype::F16, &[low, high]) => Some(half::f16::from_le_bytes([low, high]).to_f64()),
            (Dtype::BF16, &[low, high]) => Some(half::bf16::from_le_bytes([low, high]).to_f64()),
            (Dtype::I64, bytes) => bytes.try_into().ok().map(|bytes| i64::from_le_bytes(bytes) as f64),
            (Dtype::I32, bytes) => bytes.try_into().ok().map(|bytes| f64::from(i32::from_le_bytes(bytes))),
            _ => None,
        };
        if let Some(found) = found.filter(|found| found.is_finite()) {
            return Ok(found);
        }
    }
    Err(unclaimed(adapter, entry.name.to_string(), "an alpha is one finite number"))
}

fn unclaimed(adapter: &str, key: String, why: &'static str) -> Error {
    ClaimError::Unclaimed { adapter: adapter.to_owned(), key, why }.into()
}
