//! Weights beside an adapter that are not its own: modules trained whole, which no merge would take along.
//!
//! LLaVA and those who follow it save what they train whole (projectors, embeddings, vision towers) in files of their own:
//! `non_lora_trainables.bin`, `vit.safetensors`, `new_embeddings.safetensors`. A merge without them gives half of what was
//! trained and looks whole, so that any such file is refused until the user names it.

use crate::checkpoint::catalogue::Catalogue;
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::side_files::{is_beside, is_training_state, is_weights};
use crate::checkpoint::weights_name::stem_of_index;
use crate::error::adapter::AdapterError;
use crate::error::{Error, Result};
use crate::storage::location::Location;
use crate::storage::store::{Entry, EntryKind, Store};

use crate::adapters::adapter::Adapter;

/// What an adapter's own file is called in whichever format it is saved: by PEFT, and by what converts to GGML.
const OWN: &[&str] = &["adapter_model.", "ggml-adapter-model."];
/// What names of adapters in GGUF have in them; a GGUF beside an adapter is made from it.
const GGUF: &str = ".gguf";
const IN_GGUF: &[&str] = &["lora", "adapter"];

/// Bytes that are compared at a time.
const COMPARED: usize = 1 << 16;

/// Files with weights beside an adapter, sorted by what the user says of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Beside {
    /// Named by the user.
    pub allowed: Vec<String>,
    /// Not named.
    pub open: Vec<String>,
}

/// Finds the weights beside `adapter` that are neither its own nor the base's; `allowed` are the names that the user lists.
/// Without a base to compare them with, modules in sub-directories are not looked at.
///
/// # Errors
/// As [`Store::list`].
pub(crate) fn beside(adapter: &Adapter, base: Option<&Checkpoint>, allowed: &[String]) -> Result<Beside> {
    if adapter.stands_alone {
        return Ok(Beside::default());
    }
    let base_here = base.filter(|base| adapter.location.path() == base.location.path());
    let (dirs, files): (Vec<Entry>, Vec<Entry>) =
        adapter.location.list("")?.into_iter().partition(|entry| entry.kind == EntryKind::Dir);
    let names: Vec<String> = files.into_iter().map(|entry| entry.name).collect();
    let is_foreign = |name: &&String| {
        is_weights(name)
            && !is_own(adapter, name)
            && !base_here.is_some_and(|base| is_part(&base.catalogue, name))
    };
    let mut found: Vec<String> = names.iter().filter(is_foreign).cloned().collect();
    // Shards are known by their index.
    let stems: Vec<String> = found.iter().filter_map(|name| stem_of_index(name)).collect();
    let is_shard = |name: &str| {
        stems.iter().any(|stem| name.strip_prefix(stem.as_str()).is_some_and(|rest| rest.starts_with('-')))
    };
    found.retain(|name| !is_shard(name));
    if let Some(base) = base {
        for dir in dirs.iter().filter(|dir| is_module(&dir.name)) {
            found.extend(trained_in(adapter, base, &dir.name)?);
        }
    }
    found.sort_unstable();
    let (allowed, open) = found.into_iter().partition(|name| allowed.contains(name));
    Ok(Beside { allowed, open })
}

/// Whether a directory is one of sentence-transformers' modules behind the model, by its name: `2_Dense`.
fn is_module(name: &str) -> bool {
    let parts = name.split_once('_');
    parts
        .is_some_and(|(number, class)| number.parse::<u32>().is_ok() && class.starts_with(char::is_uppercase))
}

/// The files with weights of such a module that are others than the base has.
fn trained_in(adapter: &Adapter, base: &Checkpoint, dir: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for Entry { name, kind, .. } in adapter.location.list(dir)? {
        let whole = format!("{dir}/{name}");
        let is_weights = kind == EntryKind::File && is_weights(&name) && !is_training_state(&name);
        if is_weights && !has_same(&adapter.location, &base.location, &whole)? {
            found.push(whole);
        }
    }
    Ok(found)
}

/// Whether both directories have a file of that name, and the two are equal.
fn has_same(one: &Location, other: &Location, name: &str) -> Result<bool> {
    if !other.has_file(name)? {
        return Ok(false);
    }
    let (one, other) = (one.open(name)?, other.open(name)?);
    let (mut left, mut right) = (vec![0; COMPARED], vec![0; COMPARED]);
    if one.len() != other.len() {
        return Ok(false);
    }
    for at in (0..one.len()).step_by(COMPARED) {
        let n = COMPARED.min((one.len() - at) as usize);
        one.read_at(&mut left[..n], at)?;
        other.read_at(&mut right[..n], at)?;
        if left[..n] != right[..n] {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The refusal of weights that the user has not named.
pub(crate) fn refused(adapter: &str, open: Vec<String>) -> Option<Error> {
    if open.is_empty() {
        return None;
    }
    let flags: Vec<String> = open.iter().map(|name| format!("--allow-unmerged-file {name}")).collect();
    let hint = format!(
        "modules that were trained whole are saved like this, and the result would lack them: put them into the base first, \
         or merge without them by `{}`",
        flags.join(" ")
    );
    Some(Error::new(AdapterError::Unmerged { adapter: adapter.to_owned(), files: open }).hint(hint))
}

fn is_own(adapter: &Adapter, name: &str) -> bool {
    let is_gguf = || {
        let lower = name.to_lowercase();
        lower.ends_with(GGUF) && IN_GGUF.iter().any(|word| lower.contains(word))
    };
    adapter.files.iter().any(|file| file == name)
        || OWN.iter().any(|start| name.starts_with(start))
        || is_training_state(name)
        || is_beside(name)
        || is_gguf()
}

/// Whether a file is a shard of the base, or its index.
fn is_part(base: &Catalogue, name: &str) -> bool {
    base.shards.iter().any(|shard| shard.name == name) || stem_of_index(name).is_some()
}
