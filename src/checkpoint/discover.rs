//! From a directory to a catalogue: which files are the shards, and whether headers and index agree.

use std::path::Path;

use serde_json::Value;

use crate::checkpoint::identity::Identity;
use crate::error::checkpoint::CheckpointError;
use crate::error::kind::ErrorKind;
use crate::error::request::RequestError;
use crate::error::storage::StorageError;
use crate::error::{Error, MOST_WRONG, Result};
use crate::formats::container::{FileHeader, TensorEntry};
use crate::formats::foreign::foreign;
use crate::formats::index::{IndexProblem, parse_index};
use crate::formats::lfs::is_lfs_pointer;
use crate::hub::resolved::Resolved;
use crate::note::Note;
use crate::note::input::InputNote;
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::{EntryKind, Store};
use crate::storage::walk::Walk;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::FileId;

use crate::checkpoint::catalogue::{BaseShard, BaseTensor, Catalogue, FileLayout, StoredAs};
use crate::checkpoint::config::Config;
use crate::checkpoint::diffusers;
use crate::checkpoint::ecosystem::LIBRARIES;
use crate::checkpoint::header::{keep_header, lfs_pointer, metadata_of};
use crate::checkpoint::header_room::{HeaderOf, HeaderRoom};
use crate::checkpoint::identity::{header_hash, sampled};
use crate::checkpoint::listing;
use crate::checkpoint::listing::{IndexFile, Listing};
use crate::checkpoint::llama_cpp::LlamaCpp;
use crate::checkpoint::one_file::parts::OneFile;
use crate::checkpoint::side_files::{is_carried, is_whole_model};
use crate::checkpoint::stated;
use crate::checkpoint::stated::Stated;
use crate::checkpoint::weights_name::{
    OwnName, WeightsName, holds_tensors, is_index, is_only_shard, may_list, of_shard, stem_of_file,
    written_as,
};

/// What is missing from a directory without weights of a known name.
pub(crate) const NO_CHECKPOINT: &str = "safetensors checkpoint";
/// An index without a budget to bound it: far more than that of any checkpoint.
const MOST_INDEX_BYTES: u64 = 64 << 20;
/// A config that lists every module of a large model has a tenth of it.
const MOST_CONFIG_BYTES: u64 = 8 << 20;

/// A checkpoint directory, read as far as headers go.
pub struct Checkpoint {
    /// Where it is.
    pub location: Location,
    /// The name of its repository, if it is a snapshot.
    pub name: Option<String>,
    /// Its shards and tensors.
    pub catalogue: Catalogue,
    /// Its shards, as they were opened for their headers, in the catalogue's order: what is planned with is what is read.
    pub(crate) sources: Vec<Box<dyn Source>>,
    /// Its `config.json`.
    pub config: Config,
    /// What files of quantizers beside it say.
    pub(crate) stated: Vec<Stated>,
    /// Its index, if it has one.
    pub index: Option<Listing>,
    /// Things worth saying that are no errors.
    pub notes: Vec<Note>,
}

impl Checkpoint {
    /// What it says of its quantization: in its config, else in the file of a quantizer beside it.
    pub(crate) fn quantization(&self) -> Option<&Value> {
        let in_file = || self.stated.iter().find_map(|stated| stated.file.as_deref());
        self.config.quantization().or_else(in_file)
    }

    /// Reads the headers of the checkpoint in `place`: of its weights without a variant, or of the `variant` that is asked
    /// for, or of the only one there is. `room` is that of its headers.
    ///
    /// # Errors
    /// [`StorageError::Missing`] when there is no checkpoint, [`CheckpointError::Pipeline`] when there are several in directories,
    /// [`CheckpointError::Variants`] when it is not clear which of its weights is meant, and every way in which headers and index
    /// can be wrong, all of them together.
    pub(crate) fn open(place: &Resolved, variant: Option<&str>, room: &HeaderRoom<'_>) -> Result<Checkpoint> {
        let read = || {
            let checkpoint = Checkpoint::read(&place.location, variant, room)?;
            // Some checkpoints do without a config, but those of the hub have one: the snapshot is not whole.
            if place.snapshot.is_some() && checkpoint.config.is_absent() {
                let path = place.location.path();
                return Err(StorageError::Missing { what: "config.json", path }.into());
            }
            Ok(Checkpoint { name: place.name().map(str::to_owned), ..checkpoint })
        };
        let explain = |error| diffusers::explain(place, with_broken_links(&place.location, error));
        read().map_err(|error| place.explain(explain(error)))
    }

    fn read(dir: &Location, variant: Option<&str>, room: &HeaderRoom<'_>) -> Result<Checkpoint> {
        dir.check_dir()?;
        // A file that is asked for by its name may lie among those of other models.
        let lone = variant.filter(|file| stem_of_file(file).is_some());
        let config = if lone.is_some() { Config::default() } else { read_config(dir)? };
        let (names, index, mut notes) = match lone {
            Some(file) => (vec![file.to_owned()], None, Vec::new()),
            None => shard_names(dir, (&config, variant), room)?,
        };
        let (mut shards, mut tensors, mut errors) = (Vec::new(), Vec::new(), Vec::new());
        let mut sources = Vec::new();
        for (i, name) in names.iter().enumerate() {
            if errors.len() == MOST_WRONG {
                break;
            }
            match read_shard(dir, name, room) {
                Ok((shard, source, entries)) => {
                    sources.push(source);
                    tensors.extend(entries.into_iter().map(|entry| {
                        let (name, tensor) = entry.in_file(FileId(i as u32));
                        BaseTensor { name, tensor }
                    }));
                    shards.push(shard);
                }
                Err(error) if matches!(error.kind(), ErrorKind::Storage(StorageError::Missing { .. })) => {
                    errors.push(
                        error.hint(
                            "the index names it, or the names of the others count it, so the checkpoint is not whole: fetch what is missing",
                        ),
                    );
                }
                // Those behind it have no room either.
                Err(error) if matches!(error.kind(), ErrorKind::Request(RequestError::Budget { .. })) => {
                    errors.push(error);
                    break;
                }
                Err(error) => errors.push(error),
            }
        }
        Error::all(errors)?;
        if let Some(shard) = shards.iter().find(|shard: &&BaseShard| shard.written_as != shard.name) {
            let (from, to) = (shard.name.clone(), shard.written_as.clone());
            notes.push(InputNote::OlderFormat { from, to }.into());
        }
        // A plan holds them to its end.
        tensors.shrink_to_fit();
        let Named { config, stored, layout } = named(config, lone, &shards, &mut tensors)?;
        let catalogue = listing::catalogue(shards, tensors, index.as_ref(), &mut notes)?;
        let catalogue = catalogue.stored_as(stored, layout);
        let index = index.map(|file| listing::listing(&catalogue, file, &mut notes)).transpose()?;
        let stated = if lone.is_some() { Vec::new() } else { stated::beside(dir)? };
        Ok(Checkpoint { location: dir.clone(), name: None, catalogue, sources, config, stated, index, notes })
    }
}

/// What a checkpoint's files say of the model, once its tensors have the names that the model has for them.
struct Named {
    config: Config,
    stored: Vec<StoredAs>,
    layout: FileLayout,
}

/// Gives tensors the names that the model has for them, whoever named them in the files.
///
/// # Errors
/// As [`rename`]; [`CheckpointError::SingleFile`] for a lone file that is of no model that lies in one.
fn named(
    config: Config,
    lone: Option<&str>,
    shards: &[BaseShard],
    tensors: &mut [BaseTensor],
) -> Result<Named> {
    if let Some(model) = shards.first().map(model_of).transpose()?.flatten() {
        let stored = rename(&model, tensors)?;
        let has_bf16 = tensors.iter().any(|tensor| tensor.tensor.dtype == Dtype::BF16);
        return Ok(Named { config: model.config(&stored, has_bf16), stored, layout: FileLayout::LlamaCpp });
    }
    let Some(file) = lone else {
        return Ok(Named { config, stored: Vec::new(), layout: FileLayout::Library });
    };
    let model = OneFile::of(tensors.iter().map(|tensor| (&*tensor.name, &tensor.tensor.shape)));
    let model = model.ok_or_else(|| CheckpointError::SingleFile { path: file.into() })?;
    let stored = tensors.iter_mut().map(|tensor| {
        let (name, stored) = model.read(tensor);
        tensor.name = name.unwrap_or_else(|| tensor.name.clone());
        stored
    });
    let stored = stored.collect();
    Ok(Named { config: model.config(), stored, layout: FileLayout::OneFile })
}

/// The model that the header of a checkpoint's first shard describes, if it does.
fn model_of(shard: &BaseShard) -> Result<Option<LlamaCpp>> {
    LlamaCpp::of(metadata_of(&shard.like, Path::new(&shard.name))?)
}

/// Gives tensors the names that the model has for them, and returns what they are in their files.
///
/// # Errors
/// As [`LlamaCpp::read`].
fn rename(model: &LlamaCpp, tensors: &mut [BaseTensor]) -> Result<Vec<StoredAs>> {
    let rename = |tensor: &mut BaseTensor| {
        let (name, stored) = model.read(tensor)?;
        tensor.name = name.unwrap_or_else(|| tensor.name.clone());
        Ok(stored)
    };
    tensors.iter_mut().map(rename).collect()
}

/// If `error` is that of a broken link, those of all links of the checkpoint that are broken, else `error` as it is.
fn with_broken_links(dir: &Location, error: Error) -> Error {
    let is_link = |error: &Error| matches!(error.kind(), ErrorKind::Storage(StorageError::BrokenLink { .. }));
    if !error.each().iter().any(is_link) {
        return error;
    }
    let Ok(walk) = Walk::of(dir, &|_, _| true) else { return error };
    let indices = walk.files.iter().filter(|file| is_index(&file.name));
    let indices: Vec<IndexFile> = indices
        .filter_map(|file| read_index(dir, &file.name, &HeaderRoom::of(None)).ok().flatten())
        .collect();
    let is_listed = |name: &str| indices.iter().any(|file| file.index.shards().any(|shard| shard == name));
    let is_needed = |name: &str| is_carried(name) || is_listed(name) || WeightsName::of(name).is_some();
    Error::all(walk.broken_links(dir, is_needed)).err().unwrap_or(error)
}

type ShardNames = (Vec<String>, Option<IndexFile>, Vec<Note>);

/// The shards' file names in order, the index if there is one, and notes of files that are left out.
fn shard_names(
    dir: &Location,
    (config, variant): (&Config, Option<&str>),
    room: &HeaderRoom<'_>,
) -> Result<ShardNames> {
    let found = Walk::of(dir, &|_, _| true)?;
    let files: Vec<&str> = found.files.iter().map(|file| file.name.as_str()).collect();
    let mut weights: Vec<WeightsName> = files.iter().filter_map(|file| WeightsName::of(file)).collect();
    weights.sort_unstable();
    weights.dedup();
    let is_asked = variant.is_some_and(|variant| OwnName::of(variant).is_some());
    if (is_asked || weights.is_empty() && only_shard(&files).is_none())
        && let Some(names) = own_names(dir, &files, variant)?
    {
        return Ok((names, None, Vec::new()));
    }
    let Some(name) = chosen(dir, &weights, config, variant)? else {
        if let Some(only) = only_shard(&files).filter(|_| variant.is_none()) {
            return Ok((vec![only.to_owned()], None, Vec::new()));
        }
        Error::all(found.broken_links(dir, |name| WeightsName::of(name).is_some()))?;
        // Opening says what it is, if no file.
        for index in LIBRARIES.iter().map(|library| WeightsName::plain(library.stem).index()) {
            if dir.stat(&index)?.is_some_and(|stat| stat.kind != EntryKind::File) {
                dir.open(&index)?;
            }
        }
        return Err(nothing(&dir.path(), &files));
    };
    let mut notes = Vec::new();
    if let Some(variant) = &name.variant {
        notes.push(InputNote::Variant { variant: variant.clone() }.into());
    }
    let is_copy = |file: &&str| holds_tensors(file) && is_whole_model(file);
    let on_disk: Vec<&str> = files.iter().copied().filter(is_copy).collect();
    let index = read_index(dir, &name.index(), room)?;
    let shards = match &index {
        None => vec![name.single()],
        Some(file) => {
            let mut names: Vec<String> = file.index.shards().map(str::to_owned).collect();
            names.sort_unstable();
            names
        }
    };
    let left_out =
        on_disk.iter().filter(|file| shards.binary_search_by(|shard| shard.as_str().cmp(file)).is_err());
    let files: Vec<String> = left_out.map(|file| (*file).to_owned()).collect();
    if !files.is_empty() {
        notes.push(match &index {
            None => InputNote::OtherWeightFiles { used: name.single() }.into(),
            Some(_) => InputNote::NotInIndex { files }.into(),
        });
    }
    Ok((shards, index, notes))
}

/// The files of the model whose files have any name: of the one that `variant` is a file of, or the only one there is.
fn own_names(dir: &Location, files: &[&str], variant: Option<&str>) -> Result<Option<Vec<String>>> {
    let mut all: Vec<OwnName> = files.iter().filter_map(|file| OwnName::of(file)).collect();
    all.sort_unstable();
    all.dedup();
    let models = || all.iter().filter(|name| name.is_model());
    match variant {
        Some(file) => Ok(OwnName::of(file).filter(|name| all.contains(name)).map(|name| name.files())),
        None if models().count() > 1 => {
            let found: Vec<String> = models().map(|name| name.files().swap_remove(0)).collect();
            let hint = format!("name the file: `--base {}`", dir.path_of(&found[0]).display());
            let (path, wanted) = (dir.path(), None);
            Err(Error::new(CheckpointError::Variants { path, wanted, found }).hint(hint))
        }
        None => Ok(models().next().map(OwnName::files)),
    }
}

/// The one shard of a checkpoint that says that it has no other: it needs no index.
fn only_shard<'f>(files: &[&'f str]) -> Option<&'f str> {
    let mut shards = files.iter().filter(|file| of_shard(file).is_some());
    let first = *shards.next()?;
    (shards.next().is_none() && is_only_shard(first)).then_some(first)
}

/// Which of the weights in a directory are meant: those of the variant that is asked for, else those without, else the only
/// ones. Of two libraries' the config's comes first.
fn chosen(
    dir: &Location,
    weights: &[WeightsName],
    config: &Config,
    variant: Option<&str>,
) -> Result<Option<WeightsName>> {
    let own = weights.iter().find(|name| name.is(config.library().stem, variant));
    let of_variant = || weights.iter().find(|name| name.variant.as_deref() == variant);
    if let Some(name) = own.or_else(of_variant) {
        return Ok(Some(name.clone()));
    }
    match (weights, variant) {
        ([], _) => Ok(None),
        ([name], None) => Ok(Some(name.clone())),
        (weights, wanted) => {
            let found = files_of(weights, dir)?;
            let cure = match weights.iter().find_map(|name| name.variant.as_deref()) {
                Some(variant) => format!("`--variant {variant}` takes those of that name"),
                None => "they are taken without `--variant`".to_owned(),
            };
            let (path, wanted) = (dir.path(), wanted.map(str::to_owned));
            Err(Error::new(CheckpointError::Variants { path, wanted, found }).hint(cure))
        }
    }
}

/// The files of `dir` that weights are known by: an index, else the file itself.
fn files_of(weights: &[WeightsName], dir: &Location) -> Result<Vec<String>> {
    let file = |name: &WeightsName| {
        let has_index = dir.stat(&name.index())?.is_some();
        Ok(if has_index { name.index() } else { name.single() })
    };
    weights.iter().map(file).collect()
}

/// The index of that name, if it is there and `room` has its bytes.
///
/// # Errors
/// As [`HeaderRoom::refused`];
/// [`CheckpointError::Index`], [`CheckpointError::LfsPointer`], [`StorageError::LeadsOut`] for a shard that is no file of the
/// directory, or as [`Location::read_small`].
pub(crate) fn read_index(dir: &Location, name: &str, room: &HeaderRoom<'_>) -> Result<Option<IndexFile>> {
    let at = dir.path_of(name);
    let bytes = dir.stat(name)?.map_or(0, |stat| stat.bytes);
    if bytes <= MOST_INDEX_BYTES && bytes > room.left() {
        return Err(room.refused(&at, bytes));
    }
    let Some(bytes) = dir.read_small(name, MOST_INDEX_BYTES)? else { return Ok(None) };
    if is_lfs_pointer(&bytes) {
        return Err(lfs_pointer(&at));
    }
    let left = room.left().saturating_sub(bytes.len() as u64);
    let index = parse_index(&bytes, left).map_err(|problem| match problem {
        IndexProblem::NoRoom { needed } => room.refused(&at, needed.saturating_add(bytes.len() as u64)),
        IndexProblem::LeadsOut { ref shard, .. } => {
            Error::new(StorageError::LeadsOut { path: dir.path().join(shard) }).because(problem)
        }
        problem => Error::new(CheckpointError::Index { path: at.clone() }).because(problem),
    })?;
    // A shard of another name might be a file of the result that is no shard: `config.json`, the model card.
    if let Some((tensor, file)) = index.weight_map.iter().find(|(_, file)| !may_list(name, file)) {
        return Err(CheckpointError::NoShard { tensor: tensor.clone(), file: file.to_string() }.into());
    }
    Ok(Some(IndexFile { name: name.to_owned(), bytes: bytes.len() as u64, index }))
}

/// Why a directory without weights of a known name is no checkpoint.
fn nothing(path: &Path, files: &[&str]) -> Error {
    let shards: Vec<WeightsName> = files.iter().filter_map(|file| of_shard(file)).collect();
    if let Some(name) = shards.first() {
        let index = name.index();
        let error =
            Error::new(CheckpointError::NoIndex { path: path.to_owned(), found: shards.len(), index });
        return error.hint(
            "copy the index from where the checkpoint came from: it says which shards belong together",
        );
    }
    let error = Error::new(StorageError::Missing { what: NO_CHECKPOINT, path: path.to_owned() });
    let is_other = |file: &&&str| [".bin", ".flashpack"].iter().any(|ending| file.ends_with(ending));
    match files.iter().find(is_other) {
        Some(file) => error.hint(format!(
            "`{file}` is not read yet: save the model with `save_pretrained(..., safe_serialization=True)` first"
        )),
        None => {
            let known = LIBRARIES.iter().map(|library| {
                let name = WeightsName::plain(library.stem);
                format!("`{}`, or shards and `{}`", name.single(), name.index())
            });
            error.hint(format!("a checkpoint is a directory that holds {}", known.collect::<Vec<_>>().join("; or ")))
        }
    }
}

/// A shard, open, and the tensors of its header.
type ShardRead = (BaseShard, Box<dyn Source>, Vec<TensorEntry>);

fn read_shard(dir: &Location, name: &str, room: &HeaderRoom<'_>) -> Result<ShardRead> {
    let source = dir.open(name)?;
    let path = dir.path_of(name);
    let FileHeader { bytes: header, like, tensors } =
        keep_header(source.as_ref(), &path, room, HeaderOf::Base)?;
    let identity = Identity {
        bytes: source.len(),
        header: header_hash(&header),
        content: match source.content_id() {
            Some(id) => id,
            None => sampled(source.as_ref(), header.len() as u64)?,
        },
    };
    let (name, header_bytes) = (name.to_owned(), header.len() as u64);
    let written_as = written_as(&name);
    let shard =
        BaseShard { name, written_as, header_bytes, like, bytes: source.len(), identity, has_stale: false };
    Ok((shard, source, tensors))
}

fn read_config(dir: &Location) -> Result<Config> {
    let at = dir.path_of("config.json");
    match dir.read_small("config.json", MOST_CONFIG_BYTES)? {
        None => Ok(Config::default()),
        Some(bytes) => Config::parse(&bytes).map_err(|problem| {
            let error = Error::new(CheckpointError::Json { path: at }).because(problem);
            match foreign(&bytes).filter(|_| !bytes.starts_with(b"{")) {
                Some(what) => error.hint(format!("it is {what}: fetch the file again")),
                None => error,
            }
        }),
    }
}
