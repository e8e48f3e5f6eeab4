//! PEFT's adapter folder: where its files are, its config, its tensors from the header, and signs of who wrote it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkpoint::discover::read_header;
use crate::checkpoint::identity::header_hash;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::formats::json::parse_json_strict;
use crate::hub::Place;
use crate::storage::folder::Folder;
use crate::storage::list::{read_small, subfolders};
use crate::storage::{Source, Store};

use crate::adapters::adapter::{Adapter, Evidence, name_of};
use crate::adapters::claim::expert_layout::ExpertLayout;
use crate::adapters::dialect::{Detected, Dialect, Opening, TrainedOn};
use crate::adapters::options::Options;
use crate::adapters::parts::Grammar;
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::keys::normalise;
use crate::adapters::peft::options::options;
use crate::adapters::peft::producers::NEMO_CONFIG;
use crate::adapters::tensors::tensors;

/// File name of the config.
const CONFIG: &str = "adapter_config.json";
/// File name of the tensors.
const TENSORS: &str = "adapter_model.safetensors";
const MOST_CONFIG_BYTES: u64 = 16 << 20;

/// Largest model card that is looked into.
const MOST_CARD_BYTES: u64 = 1 << 20;

/// Folders that PEFT's `save_pretrained` wrote, or a trainer like it.
pub(crate) struct Peft;

impl Dialect for Peft {
    fn name(&self) -> &'static str {
        "PEFT"
    }

    fn detect(&self, path: &Path) -> Result<Detected> {
        if !path.is_dir() {
            return Ok(Detected::No);
        }
        if let Some(bytes) = read_small(&path.join(CONFIG), MOST_CONFIG_BYTES)? {
            let names_method = match parse_json_strict(&bytes) {
                Ok(fields) => fields.get("peft_type").and_then(Value::as_str).is_some(),
                // What is wrong with it is said when it is opened.
                Err(_) => true,
            };
            return Ok(if names_method { Detected::Certain } else { Detected::Likely });
        }
        Ok(if homes(path)?.is_empty() { Detected::No } else { Detected::Likely })
    }

    /// Reads the adapter in `place`, or in its only sub-folder that holds one.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for what is not there, [`ErrorKind::Json`], [`ErrorKind::PeftType`], [`ErrorKind::EmptyAdapter`],
    /// or as [`read_header`].
    fn open(&self, place: &Place, opening: Opening) -> Result<Adapter> {
        let (home, bytes, config) = read_config(place)?;
        let name = config.adapter.clone();
        let kind = peft_type(&config)?;
        let source = open_tensors(&home)?;
        let (header, parsed) = read_header(source.as_ref(), &home.join(TENSORS), opening.header_room)?;
        if parsed.tensors.is_empty() {
            return Err(ErrorKind::EmptyAdapter { adapter: name }.into());
        }
        let tensors = tensors(&header, parsed.tensors, opening.file, &Grammar::of(&kind), normalise);
        Ok(Adapter {
            name,
            dialect: self.name(),
            kind,
            file: TENSORS,
            options: options(&config),
            evidence: evidence(&home, &config),
            path: home,
            config,
            config_hash: blake3::hash(&bytes).to_hex().to_string(),
            header_hash: header_hash(&header),
            tensors,
            weight: opening.weight,
            experts: ExpertLayout::default(),
            unmatched: Vec::new(),
            source,
        })
    }

    fn trained_on(&self, place: &Place) -> Result<TrainedOn> {
        let (_, _, config) = read_config(place)?;
        let Options { base, revision, .. } = options(&config);
        Ok(TrainedOn { adapter: config.adapter, base, revision })
    }
}

/// The method that the config names.
fn peft_type(config: &AdapterConfig) -> Result<String> {
    let kind = config.text("peft_type").map(str::to_owned);
    kind.ok_or_else(|| {
        let why = "names no method PEFT has: it is not a PEFT adapter".to_owned();
        let adapter = config.adapter.clone();
        Error::new(ErrorKind::PeftType { adapter, found: "(none)".to_owned(), why }).hint(
            "adapters of other trainers (mlx-lm, torchtune, Kohya) are not read yet: convert it to PEFT",
        )
    })
}

fn open_tensors(home: &Path) -> Result<Box<dyn Source>> {
    Folder::open(home)?.source(TENSORS).map_err(|error| match error.kind() {
        ErrorKind::Missing { .. } if home.join("adapter_model.bin").exists() => error.hint(
            "`adapter_model.bin` is a pickle, which is not read yet: load the adapter with PEFT and save it again",
        ),
        _ => error,
    })
}

/// What the files of the folder tell of whoever wrote them.
fn evidence(home: &Path, config: &AdapterConfig) -> Evidence {
    Evidence {
        peft: config.text("peft_version").map(version),
        is_unsloth: is_unsloth(home, config),
        is_nemo: home.join(NEMO_CONFIG).exists(),
    }
}

/// `0.19.1.dev0@hash` as three numbers.
fn version(text: &str) -> [u64; 3] {
    let mut parts = text.split(['.', '@', '+']).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// Signs of Unsloth in an adapter: a mark in its config, the name of its base, a tag of its model card.
fn is_unsloth(home: &Path, config: &AdapterConfig) -> bool {
    let fixed = config.get("auto_mapping").and_then(|mapping| mapping.get("unsloth_fixed")?.as_bool());
    let base = config.text("base_model_name_or_path").unwrap_or_default().to_lowercase();
    if fixed == Some(true) || base.starts_with("unsloth/") {
        return true;
    }
    // A card that cannot be read tells nothing.
    let Ok(Some(card)) = read_small(&home.join("README.md"), MOST_CARD_BYTES) else { return false };
    String::from_utf8_lossy(&card).lines().any(|line| line.trim() == "- unsloth")
}

/// The folder with the adapter's files, its config's bytes, and what they say.
fn read_config(place: &Place) -> Result<(PathBuf, Vec<u8>, AdapterConfig)> {
    let home = find_home(&place.path)?;
    let name = name_of(place);
    let at = home.join(CONFIG);
    let bytes = read_small(&at, MOST_CONFIG_BYTES)?.unwrap_or_default();
    let not_json = || ErrorKind::Json { path: at.clone() };
    match parse_json_strict(&bytes).map_err(|problem| Error::new(not_json()).because(problem))? {
        Value::Object(fields) => Ok((home, bytes, AdapterConfig::new(name, fields))),
        _ => Err(Error::new(not_json()).because("it holds no object")),
    }
}

/// `path` if it holds an adapter, else its only sub-folder that does.
fn find_home(path: &Path) -> Result<PathBuf> {
    if path.join(CONFIG).exists() {
        return Ok(path.to_owned());
    }
    if !path.is_dir() {
        return Err(not_found(path));
    }
    match homes(path)?.as_slice() {
        [home] => Ok(path.join(home)),
        [] => Err(not_found(path)),
        homes => Err(missing(path)
            .hint(format!("it holds several adapters; name one of them: `{}`", homes.join("`, `")))),
    }
}

/// The sub-folders of `path` that hold an adapter.
fn homes(path: &Path) -> Result<Vec<String>> {
    let mut homes = subfolders(path)?;
    homes.retain(|name| path.join(name).join(CONFIG).exists());
    Ok(homes)
}

/// The refusal of what holds no adapter, of any format.
pub(crate) fn not_found(path: &Path) -> Error {
    let error = missing(path);
    if !path.is_dir() {
        return error;
    }
    error.hint("`--adapter` takes the folder that PEFT's `save_pretrained` or a trainer wrote")
}

fn missing(path: &Path) -> Error {
    Error::new(ErrorKind::Missing { what: CONFIG, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_without_what_follows() {
        assert_eq!(version("0.19.1.dev0@abc"), [0, 19, 1]);
        assert_eq!(version("0.20"), [0, 20, 0]);
        assert!(version("0.18.1") < [0, 19, 0]);
    }
}
