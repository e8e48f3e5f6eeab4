//! The file of an adapter of an image model, read without knowing its base: [`meet`](crate::adapters::image::meet) does the rest.

use std::collections::{BTreeMap, HashMap};

use crate::checkpoint::header::metadata_of;
use crate::error::adapter::AdapterError;
use crate::error::claim::ClaimError;
use crate::error::{Error, MOST_WRONG, Result};
use crate::formats::container::TensorEntry;
use crate::hub::resolved::Resolved;
use crate::storage::location::Location;
use crate::storage::store::Store;

use crate::adapters::adapter::{Adapter, Unneeded, name_of};
use crate::adapters::dialect::{Detection, Dialect, Opening, TrainedOn};
use crate::adapters::image::keys::{Key, ON_INPUT, component_of, unread};
use crate::adapters::image::own_tails::settle;
use crate::adapters::image::scales::{configs, scales};
use crate::adapters::lone_file::{detect_by_tensor, lone_file};
use crate::adapters::options::{Options, RankAlpha};
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::weight_files::{Described, WeightFiles};

/// One file of tensors, or a directory that has no other.
pub(crate) struct ImageFile;

const ENDING: &str = ".safetensors";
const LORA: &str = "LORA";
/// The type of adapters whose modules may be of several methods.
const MIXED: &str = "LYCORIS";
/// How tails of LoRA begin, and of its magnitudes.
const LOW_RANK: &str = ".lora_";
const MAGNITUDE: &str = ".lora_magnitude_";

impl Dialect for ImageFile {
    fn name(&self) -> &'static str {
        "image model"
    }

    fn detect(&self, place: &Location) -> Result<Detection> {
        let Some((dir, file)) = lone_file(place, ENDING)? else { return Ok(Detection::No) };
        detect_by_tensor(&dir, &file, |entry| Key::read(&entry.name).is_some_and(|key| key.tail.is_some()))
    }

    fn has(&self, _: &str) -> bool {
        // A file is the adapter itself.
        false
    }

    fn open(&self, place: &Resolved, opening: Opening<'_>) -> Result<Adapter> {
        let name = name_of(place);
        let Some((location, file)) = lone_file(&place.location, ENDING)? else {
            return Err(AdapterError::EmptyAdapter { adapter: name }.into());
        };
        let mut files = WeightFiles::single(&location, &file, opening.room)?;
        let metadata = configs(&name, &metadata_of(&files.like, &location.path_of(&file))?)?;
        let (mut keys, format) = keys(&name, &mut files)?;
        settle(&name, &mut keys, files.source.as_ref())?;
        let own = scales(&name, &keys, files.source.as_ref(), &metadata)?;
        let mut tails = keys.iter().filter_map(|(key, _)| key.tail);
        let kind = if tails.clone().all(|tail| tail.starts_with(LOW_RANK)) { LORA } else { MIXED };
        let dora = tails.any(|tail| tail.starts_with(MAGNITUDE));
        let read = |(key, entry): &(Key, TensorEntry)| {
            let is_read = key.tail.is_none_or(|tail| tail == ON_INPUT);
            (entry.name.to_string(), (key.path(), is_read.then_some(Unneeded::Alpha)))
        };
        let paths: HashMap<String, (String, Option<Unneeded>)> = keys.iter().map(read).collect();
        files.tensors = keys.into_iter().map(|(_, entry)| entry).collect();
        let config = AdapterConfig::new(name.clone(), serde_json::Map::new());
        let RankAlpha { rank, alpha } = usual(&own);
        let options = Options { own, dora, rank, alpha, ..Options::new(name) };
        let (kind, config_hash) = (kind.to_owned(), files.header_hash.clone());
        let described = Described { dialect: format, kind, config, config_hash, options };
        let path =
            |key: &str| (paths.get(key).map_or_else(|| key.to_owned(), |(path, _)| path.clone()), None);
        let mut adapter = files.into_adapter(location, described, &opening, path);
        for tensor in &mut adapter.tensors {
            tensor.unneeded = paths.get(&*tensor.key).and_then(|(_, unneeded)| *unneeded);
        }
        Ok(Adapter { stands_alone: true, components: Some(metadata), ..adapter })
    }

    fn trained_on(&self, place: &Resolved) -> Result<TrainedOn> {
        Ok(TrainedOn { adapter: name_of(place), base: None, revision: None })
    }
}

/// The tensors with their keys, and whose format the first is.
///
/// # Errors
/// [`ClaimError::Unclaimed`] for each that is of nothing that is read, as far as that many are told.
fn keys(adapter: &str, files: &mut WeightFiles) -> Result<(Vec<(Key, TensorEntry)>, &'static str)> {
    let (mut found, mut errors, mut format) = (Vec::new(), Vec::new(), "");
    for entry in std::mem::take(&mut files.tensors) {
        match Key::read(&entry.name) {
            Some(key) => {
                if format.is_empty() {
                    format = component_of(&entry.name).map_or("", |component| component.format);
                }
                found.push((key, entry));
            }
            None if errors.len() < MOST_WRONG => {
                let (adapter, key, why) = (adapter.to_owned(), entry.name.to_string(), unread(&entry.name));
                errors.push(ClaimError::Unclaimed { adapter, key, why }.into());
            }
            None => {}
        }
    }
    Error::all(errors)?;
    Ok((found, format))
}

/// Rank and alpha of most modules; of several such the least.
fn usual(own: &HashMap<String, RankAlpha>) -> RankAlpha {
    let mut counted: BTreeMap<[u64; 2], usize> = BTreeMap::new();
    for RankAlpha { rank, alpha } in own.values() {
        *counted.entry([rank.to_bits(), alpha.to_bits()]).or_default() += 1;
    }
    let most = counted.into_iter().rev().max_by_key(|(_, count)| *count);
    let [rank, alpha] = most.map_or([1.0; 2], |(bits, _)| bits.map(f64::from_bits));
    RankAlpha { rank, alpha }
}
