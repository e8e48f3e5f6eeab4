//! An adapter folder: where its files are, its config, and its tensors from the header.

use std::path::Path;

use regex::Regex;
use serde_json::Value;

use crate::checkpoint::header::read_header;
use crate::checkpoint::identity::header_hash;
use crate::checkpoint::side_files::is_beside;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::formats::container::TensorEntry;
use crate::formats::json::parse_json_as_python;
use crate::hub::resolved::Resolved;
use crate::model::names::lookup::Names;
use crate::model::names::name_tables::NameTables;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::{Entry, EntryKind, Store};
use crate::tensor::reference::{FileId, TensorRef};

use crate::adapters::claim::expert_layout::ExpertLayout;
use crate::adapters::foreign::foreign;
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::keys::{module_of, normalise};
use crate::adapters::peft::producers::{Traces, aside};

/// File name of the config.
const CONFIG: &str = "adapter_config.json";
/// File name of the tensors.
pub(crate) const TENSORS: &str = "adapter_model.safetensors";
const MOST_CONFIG_BYTES: u64 = 16 << 20;

/// One tensor of an adapter.
#[derive(Clone, Debug)]
pub struct AdapterTensor {
    /// Its key as the file has it.
    pub key: String,
    /// Where its bytes are.
    pub tensor: TensorRef,
}

/// A PEFT adapter folder, read as far as headers go.
pub struct Adapter {
    /// Name for messages: the folder's, or that of its repository.
    pub name: String,
    /// The folder that holds the two files.
    pub location: Location,
    /// What the other files there show of its producer.
    pub(crate) traces: Traces,
    /// Its config.
    pub config: AdapterConfig,
    /// BLAKE3 of the config file, in hex.
    pub config_hash: String,
    /// BLAKE3 of the header of its tensors' file, in hex.
    pub header_hash: String,
    /// Its tensors, in the order of their bytes.
    pub tensors: Vec<AdapterTensor>,
    /// What its deltas are multiplied by.
    pub weight: f64,
    /// What the user says of the factors of its experts.
    pub experts: ExpertLayout,
    /// What the user says of keys that may be left out where no base tensor has their names.
    pub unmatched: Vec<Regex>,
    /// The file of its tensors.
    pub source: Box<dyn Source>,
}

impl Adapter {
    /// Reads the adapter in `place`, or in its only sub-folder that holds one. Its tensors get `file` as their file;
    /// `header_room` is how many bytes of header the budget has room for.
    ///
    /// # Errors
    /// [`ErrorKind::Missing`] for what is not there, [`ErrorKind::Json`], [`ErrorKind::PeftType`], [`ErrorKind::EmptyAdapter`],
    /// or as [`read_header`].
    pub fn open(place: &Resolved, weight: f64, file: FileId, header_room: u64) -> Result<Adapter> {
        Adapter::read(place, weight, file, header_room).map_err(|error| place.explain(error))
    }

    fn read(place: &Resolved, weight: f64, file: FileId, header_room: u64) -> Result<Adapter> {
        let (home, bytes, config) = read_config(place)?;
        let name = config.adapter.clone();
        if config.text("peft_type").is_none() {
            let why = "is an unknown PEFT type".to_owned();
            let error = Error::new(ErrorKind::PeftType { adapter: name, found: "(none)".to_owned(), why });
            return Err(error.hint(
                "adapters of other trainers (mlx-lm, torchtune, Kohya) are not read yet: convert it to PEFT",
            ));
        }
        let at = home.path_of(TENSORS);
        let source = home.open(TENSORS).map_err(|error| match error.kind() {
            ErrorKind::Missing { .. } if home.has_file("adapter_model.bin").unwrap_or(false) => error.hint(
                "`adapter_model.bin` is a pickle, which is not read yet: load the adapter with PEFT and save it again",
            ),
            _ => error,
        })?;
        let header = read_header(source.as_ref(), &at, header_room)?;
        if header.tensors.is_empty() {
            return Err(ErrorKind::EmptyAdapter { adapter: name }.into());
        }
        let tensor = |entry: TensorEntry| {
            let (key, tensor) = entry.in_file(file);
            AdapterTensor { key, tensor }
        };
        Ok(Adapter {
            name,
            traces: Traces::of(&home)?,
            location: home,
            config,
            config_hash: blake3::hash(&bytes).to_hex().to_string(),
            header_hash: header_hash(&header.bytes),
            tensors: header.tensors.into_iter().map(tensor).collect(),
            weight,
            experts: ExpertLayout::default(),
            unmatched: Vec::new(),
            source,
        })
    }
}

impl Adapter {
    /// Files of its folder that belong beside the merged model.
    ///
    /// # Errors
    /// As [`Location::files`].
    pub fn brought(&self) -> Result<Vec<Entry>> {
        let mut found = self.location.files(&|_| true)?;
        found.retain(|file| is_beside(&file.name));
        Ok(found)
    }

    /// Where on disk the parameters are that its keys name.
    ///
    /// # Errors
    /// [`ErrorKind::Readings`] if its paths can be read in two ways that do not mean the same tensors.
    pub fn names<'a>(&self, name_tables: &NameTables<'a>) -> Result<Names<'a>> {
        let paths = self.paths();
        Names::new(name_tables, &modules(&paths))
    }

    /// Its tensors' keys without prefix and wrappers, but for those that no merge needs.
    pub fn paths(&self) -> Vec<String> {
        let path = |AdapterTensor { key, tensor }: &AdapterTensor| {
            let (path, _) = normalise(key);
            aside(&path, tensor.shape.elements()).is_none().then_some(path)
        };
        self.tensors.iter().filter_map(path).collect()
    }
}

/// The modules that paths belong to, each once.
pub(crate) fn modules(paths: &[String]) -> Vec<&str> {
    let mut modules: Vec<&str> = paths.iter().map(|path| module_of(path)).collect();
    modules.sort_unstable();
    modules.dedup();
    modules.retain(|module| !module.is_empty());
    modules
}

/// The name of the adapter in `place`, and the base that its config names: a path or a name, and a revision.
///
/// # Errors
/// As [`Adapter::open`], as far as the config goes.
pub(crate) fn base_named(place: &Resolved) -> Result<(String, Option<String>, Option<String>)> {
    let (_, _, config) = read_config(place).map_err(|error| place.explain(error))?;
    let text = |key| config.text(key).filter(|text| !text.is_empty()).map(str::to_owned);
    let (base, revision) = (text("base_model_name_or_path"), text("revision"));
    Ok((config.adapter, base, revision))
}

/// The folder with the adapter's files, its config's bytes, and what they say.
fn read_config(place: &Resolved) -> Result<(Location, Vec<u8>, AdapterConfig)> {
    let home = find_home(&place.location)?;
    let name = place.name().map_or_else(|| name_of(&place.location.path()), str::to_owned);
    let at = home.path_of(CONFIG);
    let bytes = home.read_small(CONFIG, MOST_CONFIG_BYTES)?.unwrap_or_default();
    let not_json = || ErrorKind::Json { path: at.clone() };
    match parse_json_as_python(&bytes).map_err(|problem| Error::new(not_json()).because(problem))? {
        Value::Object(fields) => Ok((home, bytes, AdapterConfig::new(name, fields))),
        _ => Err(Error::new(not_json()).because("it holds no object")),
    }
}

/// `dir` if it holds an adapter, else its only sub-folder that does.
fn find_home(dir: &Location) -> Result<Location> {
    if dir.stat(CONFIG)?.is_some() {
        return Ok(dir.clone());
    }
    let missing = || Error::new(ErrorKind::Missing { what: CONFIG, path: dir.path() });
    if !dir.is_directory()? {
        return Err(foreign(dir).unwrap_or_else(missing));
    }
    match homes_in(dir)?.as_slice() {
        [home] => Ok(dir.join(home)),
        [] => Err(foreign(dir).unwrap_or_else(|| {
            missing().hint("`--adapter` takes the directory that PEFT's `save_pretrained` or a trainer wrote")
        })),
        homes => {
            Err(missing()
                .hint(format!("it holds several adapters; name one of them: `{}`", homes.join("`, `"))))
        }
    }
}

/// The sub-folders of `dir` that hold an adapter.
///
/// # Errors
/// As [`Store::list`] and [`Store::stat`].
pub(crate) fn homes_in(dir: &Location) -> Result<Vec<String>> {
    let mut homes = Vec::new();
    for Entry { name, kind, .. } in dir.list("")? {
        if kind == EntryKind::Dir && dir.join(&name).stat(CONFIG)?.is_some() {
            homes.push(name);
        }
    }
    Ok(homes)
}

/// The last name of a path, for messages.
fn name_of(path: &Path) -> String {
    let name = path.file_name().or_else(|| path.parent()?.file_name());
    name.map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}
