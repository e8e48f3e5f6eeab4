//! PEFT's adapter directory: where its files are, its config, and its tensors from the header.

use serde_json::Value;

use crate::checkpoint::config::Config;
use crate::error::adapter::AdapterError;
use crate::error::checkpoint::CheckpointError;
use crate::error::storage::StorageError;
use crate::error::{Error, Result};
use crate::formats::json::parse_json_as_written;
use crate::hub::resolved::Resolved;
use crate::storage::location::Location;
use crate::storage::store::{Entry, EntryKind, Store};

use crate::adapters::adapter::{Adapter, AdapterTensor, name_of};
use crate::adapters::dialect::{Detection, Dialect, Opening, TrainedOn};
use crate::adapters::foreign::{Foreign, foreign_file};
use crate::adapters::options::Options;
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::keys::normalise;
use crate::adapters::peft::options::options;
use crate::adapters::peft::producers::{aside, evidence};
use crate::adapters::peft::weights;
use crate::adapters::weight_files::Described;

/// File name of the config.
pub(crate) const CONFIG: &str = "adapter_config.json";
/// File name of the config of a model.
const MODEL_CONFIG: &str = "config.json";
/// What trainers call the directories of their saves, before the number of the step or the epoch.
const STEPS: &[&str] = &["checkpoint-", "checkpoint_", "epoch_", "epoch-", "step_", "step-"];
pub(crate) const MOST_CONFIG_BYTES: u64 = 8 << 20;

/// Directories that PEFT's `save_pretrained` wrote, or a trainer like it.
pub(crate) struct Peft;

impl Dialect for Peft {
    fn name(&self) -> &'static str {
        "PEFT"
    }

    fn detect(&self, dir: &Location) -> Result<Detection> {
        let home = directory_of_only(dir)?;
        let dir = home.as_ref().unwrap_or(dir);
        if !dir.is_directory()? {
            return Ok(Detection::No);
        }
        if let Some(bytes) = dir.read_small(CONFIG, MOST_CONFIG_BYTES)? {
            let names_method = match parse_json_as_written(&bytes) {
                Ok(fields) => fields.get("peft_type").and_then(Value::as_str).is_some(),
                // What is wrong with it is said when it is opened.
                Err(_) => true,
            };
            return Ok(if names_method { Detection::Certain } else { Detection::Likely });
        }
        Ok(if homes(dir)?.is_empty() { Detection::No } else { Detection::Likely })
    }

    fn has(&self, file: &str) -> bool {
        file == CONFIG || file.starts_with(weights::STEM)
    }

    /// Reads the adapter in `place`, or in its only subdirectory that holds one.
    ///
    /// # Errors
    /// [`StorageError::Missing`] for what is not there, [`CheckpointError::Json`], [`AdapterError::PeftType`], [`AdapterError::EmptyAdapter`],
    /// or as [`read_header`].
    fn open(&self, place: &Resolved, opening: Opening<'_>) -> Result<Adapter> {
        let (home, bytes, config) = read_config(place)?;
        let name = config.adapter.clone();
        let kind = peft_type(&config, &home)?;
        let files = weights::read(&home, opening.room)?;
        if files.tensors.is_empty() {
            return Err(AdapterError::EmptyAdapter { adapter: name }.into());
        }
        let mut options = options(&config);
        let model = config_beside(&home)?;
        options.trained_on.add(&model);
        // Trainers that name the labels there leave them out of the adapter's own config.
        options.labels = options.labels.or_else(|| model.get("id2label")?.as_object().cloned());
        let (evidence, config_hash) = (evidence(&home, &config)?, blake3::hash(&bytes).to_hex().to_string());
        let described = Described { dialect: self.name(), kind, config, config_hash, options };
        let is_other = !weights::is_own_name(&files.name);
        let mut adapter = files.into_adapter(home, described, &opening, normalise);
        // A model that lies beside a config is no adapter.
        if is_other && adapter.tensors.iter().all(AdapterTensor::is_value) {
            return Err(weights::not_whole(&adapter.location));
        }
        for tensor in &mut adapter.tensors {
            tensor.unneeded = aside(tensor.path(), tensor.is_value(), tensor.tensor.shape.elements());
        }
        Ok(Adapter { evidence, ..adapter })
    }

    fn trained_on(&self, place: &Resolved) -> Result<TrainedOn> {
        let (_, _, config) = read_config(place)?;
        let Options { base, revision, .. } = options(&config);
        Ok(TrainedOn { adapter: config.adapter, base, revision })
    }
}

/// The base's own config, which some trainers copy beside their adapter; empty if there is none that can be read.
pub(crate) fn config_beside(home: &Location) -> Result<Config> {
    let bytes = home.read_small(MODEL_CONFIG, MOST_CONFIG_BYTES)?.unwrap_or_default();
    Ok(Config::parse(&bytes).unwrap_or_default())
}

/// The method that the config names.
fn peft_type(config: &AdapterConfig, home: &Location) -> Result<String> {
    let kind = config.text("peft_type").map(str::to_owned);
    kind.ok_or_else(|| {
        if let Some(foreign) = foreign_file(home).filter(Foreign::is_of_another) {
            return foreign.refused();
        }
        let why = "is an unknown PEFT type";
        let adapter = config.adapter.clone();
        Error::new(AdapterError::PeftType { adapter, found: "(none)".to_owned(), why }).hint(
            "PEFT names its method there: of a config that was written by hand, as for a file of LoRA, set `\"peft_type\": \"LORA\"`",
        )
    })
}

/// The directory with the adapter's files, its config's bytes, and what they say.
fn read_config(place: &Resolved) -> Result<(Location, Vec<u8>, AdapterConfig)> {
    let home = find_home(&place.location)?;
    let at = home.path_of(CONFIG);
    let bytes = home.read_small(CONFIG, MOST_CONFIG_BYTES)?.unwrap_or_default();
    let not_json = || CheckpointError::Json { path: at.clone() };
    match parse_json_as_written(&bytes).map_err(|problem| Error::new(not_json()).because(problem))? {
        Value::Object(fields) => Ok((home, bytes, AdapterConfig::new(name_of(place), fields))),
        _ => Err(Error::new(not_json()).because("it holds no object")),
    }
}

/// `dir` if it holds an adapter, else its only subdirectory that does.
fn find_home(dir: &Location) -> Result<Location> {
    if let Some(home) = directory_of_only(dir)? {
        return Ok(home);
    }
    if dir.stat(CONFIG)?.is_some() {
        return Ok(dir.clone());
    }
    match homes(dir)?.as_slice() {
        [home] => Ok(dir.join(home)),
        [] => Err(not_found(dir)),
        homes => {
            let last = homes.iter().filter_map(|home| Some((step(home)?, home))).max();
            let newest =
                last.map(|(_, home)| format!(", the newest of a training by `--adapter {}`", dir.join(home)));
            Err(missing(dir).hint(format!(
                "it holds several adapters; name one of them{}: `{}`",
                newest.unwrap_or_default(),
                homes.join("`, `")
            )))
        }
    }
}

/// The directory of an adapter whose only file of tensors is given by its name, where that is none of PEFT's own.
fn directory_of_only(place: &Location) -> Result<Option<Location>> {
    let is_file = place.stat("")?.is_some_and(|stat| stat.kind == EntryKind::File);
    let Some(name) = place.name().filter(|name| is_file && !weights::is_own_name(name)) else {
        return Ok(None);
    };
    let home = Resolved::from(place.clone()).directory().location;
    if !home.is_directory()? || home.stat(CONFIG)?.is_none() {
        return Ok(None);
    }
    let is_only = weights::others(&home)? == [name];
    Ok(is_only.then_some(home))
}

/// The step at which a trainer saved a directory that is called so.
fn step(home: &str) -> Option<u64> {
    STEPS.iter().find_map(|start| home.strip_prefix(start)?.parse().ok())
}

/// The subdirectories of `dir` that hold an adapter.
fn homes(dir: &Location) -> Result<Vec<String>> {
    let mut homes = Vec::new();
    for Entry { name, kind, .. } in dir.list("")? {
        if matches!(kind, EntryKind::Dir | EntryKind::DirLink) && dir.join(&name).stat(CONFIG)?.is_some() {
            homes.push(name);
        }
    }
    Ok(homes)
}

/// The refusal of what holds no adapter, of any format.
pub(crate) fn not_found(dir: &Location) -> Error {
    let error = missing(dir);
    if !dir.is_directory().unwrap_or(false) {
        return error;
    }
    error.hint("`--adapter` takes the directory that PEFT's `save_pretrained` or a trainer wrote")
}

fn missing(dir: &Location) -> Error {
    Error::new(StorageError::Missing { what: CONFIG, path: dir.path() })
}
