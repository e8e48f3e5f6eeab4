//! Adapters that are no PEFT directory: which format a file is in, by the names of its tensors, so that it is refused by name.

use crate::checkpoint::header::read_header;
use crate::error::Error;
use crate::error::adapter::AdapterError;
use crate::storage::location::Location;
use crate::storage::store::{EntryKind, Store};

/// A format that is known and not read.
struct Format {
    /// Whose it is.
    name: &'static str,
    /// What the names of its tensors start with.
    starts: &'static [&'static str],
    /// A file that is in this format whatever its tensors are called.
    file: Option<&'static str>,
}

/// All that are known (key-mapping.md 1); of those that fit the first is meant.
const FORMATS: &[Format] = &[
    Format {
        name: "Kohya's",
        starts: &["lora_unet_", "lora_te_", "lora_te1_", "lora_te2_", "lora_te3_", "lora_transformer_"],
        file: None,
    },
    Format { name: "ai-toolkit's", starts: &["diffusion_model."], file: None },
    Format {
        name: "diffusers'",
        starts: &["unet.", "transformer.", "text_encoder.", "text_encoder_2.", "text_encoder_3."],
        file: Some("pytorch_lora_weights.safetensors"),
    },
];

/// Endings of names that mark a tensor as a factor; a checkpoint may have modules called like a component.
const FACTORS: &[&str] = &["lora", ".hada_", ".lokr_", ".alpha"];
/// Files of a directory that are looked into: trainers keep a few states beside each other.
const MOST_FILES: usize = 8;
const MOST_HEADER_BYTES: u64 = 64 << 20;

/// The refusal of what is at `location`, a file or a directory with one, if it is in one of these formats. What cannot be read
/// is in none: this is for a message only.
pub(crate) fn foreign(location: &Location) -> Option<Error> {
    files(location).into_iter().find_map(|file| {
        let keys = keys(&file)?;
        let name = file.name()?;
        let format = FORMATS.iter().find(|format| {
            format.file == Some(name) || keys.iter().any(|key| is_factor(key) && starts(format, key))
        })?;
        let key = keys.iter().find(|key| starts(format, key)).or(keys.first())?.clone();
        let kind = AdapterError::AdapterFormat { path: file.path(), format: format.name, key };
        Some(Error::new(kind).hint(
            "shardfold reads a directory that PEFT's `save_pretrained` wrote, with `adapter_config.json` and \
             `adapter_model.safetensors`",
        ))
    })
}

fn starts(format: &Format, key: &str) -> bool {
    format.starts.iter().any(|start| key.starts_with(start))
}

fn is_factor(key: &str) -> bool {
    FACTORS.iter().any(|factor| key.contains(factor))
}

/// The safetensors files that `location` is or holds.
fn files(location: &Location) -> Vec<Location> {
    if location.stat("").is_ok_and(|stat| stat.is_some_and(|stat| stat.kind == EntryKind::File)) {
        return vec![location.clone()];
    }
    let found = location.files(&|_| true).unwrap_or_default();
    let tensors = found.iter().filter(|file| file.name.ends_with(".safetensors"));
    tensors.take(MOST_FILES).map(|file| location.join(&file.name)).collect()
}

/// The names of a file's tensors; nothing if it cannot be read, which others say better.
fn keys(file: &Location) -> Option<Vec<String>> {
    let source = file.parent()?.open(file.name()?).ok()?;
    let header = read_header(source.as_ref(), &file.path(), MOST_HEADER_BYTES).ok()?;
    Some(header.tensors.into_iter().map(|tensor| tensor.name).collect())
}
