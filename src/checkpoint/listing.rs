//! The index of a checkpoint, held against its headers.
//!
//! The index decides. Of two copies of a tensor the one that it names counts, and the other is left out of the catalogue as
//! loaders leave it out. Tensors that it does not list pass through with the shard that holds them. What it lists must be
//! where it says.

use std::collections::{HashMap, HashSet};

use crate::checkpoint::catalogue::{BaseShard, BaseTensor, Catalogue};
use crate::error::checkpoint::CheckpointError;
use crate::error::{Error, MOST_WRONG, Result};
use crate::formats::index::{About, Index};
use crate::note::Note;
use crate::note::input::InputNote;

/// A checkpoint's index, which agrees with its headers.
pub struct Listing {
    /// Its file name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Places of the tensors in the order in which it lists them.
    pub order: Vec<u32>,
    /// Places of tensors that it does not list.
    pub unlisted: Vec<u32>,
    /// What it holds beside the list.
    pub about: About,
}

/// An index as it was read.
pub(crate) struct IndexFile {
    /// Its file name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What it says.
    pub index: Index,
}

/// The catalogue of all tensors but for copies that the index does not mean, which are noted.
///
/// # Errors
/// [`CheckpointError::TensorTwice`] where nothing says which of two copies counts.
pub(crate) fn catalogue(
    shards: Vec<BaseShard>,
    tensors: Vec<BaseTensor>,
    index: Option<&IndexFile>,
    notes: &mut Vec<Note>,
) -> Result<Catalogue> {
    let (all, twice) = Catalogue::new(shards, tensors);
    if twice.is_empty() {
        return Ok(all);
    }
    let stale = stale_copies(&all, &twice, index)?;
    let Catalogue { mut shards, tensors, .. } = all;
    let (mut kept, mut names, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for (i, tensor) in tensors.into_iter().enumerate() {
        if stale.contains(&i) {
            let shard = &mut shards[tensor.tensor.file.0 as usize];
            shard.has_stale = true;
            files.push(shard.name.clone());
            names.push(tensor.name.to_string());
        } else {
            kept.push(tensor);
        }
    }
    files.dedup();
    notes.push(InputNote::StaleCopies { tensors: names, shards: files }.into());
    Ok(Catalogue::new(shards, kept).0)
}

/// Places of copies that the index does not mean.
fn stale_copies(
    all: &Catalogue,
    twice: &[(usize, usize)],
    index: Option<&IndexFile>,
) -> Result<HashSet<usize>> {
    let named = index.map(|file| file.index.weight_map.iter()).into_iter().flatten();
    let named: HashMap<&str, &str> = named.map(|(tensor, shard)| (tensor.as_str(), &**shard)).collect();
    let is_meant = |place: usize| named.get(&*all.tensors[place].name) == Some(&shard_of(all, place));
    let copies = twice.iter().flat_map(|&(i, j)| [i, j]);
    let meant: HashSet<&str> =
        copies.clone().filter(|&place| is_meant(place)).map(|place| &*all.tensors[place].name).collect();
    let open = twice.iter().filter(|(i, _)| !meant.contains(&*all.tensors[*i].name));
    let error = |&(i, j): &(usize, usize)| {
        let [first, second] = [i, j].map(|place| shard_of(all, place).to_owned());
        CheckpointError::TensorTwice { tensor: all.tensors[i].name.to_string(), first, second }.into()
    };
    Error::all(open.map(error).collect())?;
    Ok(copies.filter(|&place| !is_meant(place)).collect())
}

/// The index as the catalogue has it; tensors that it does not list are noted.
///
/// # Errors
/// [`CheckpointError::IndexDisagrees`] for every tensor that is not where it says.
pub(crate) fn listing(catalogue: &Catalogue, file: IndexFile, notes: &mut Vec<Note>) -> Result<Listing> {
    let IndexFile { name, bytes, index } = file;
    let (mut order, mut errors) = (Vec::with_capacity(index.weight_map.len()), Vec::new());
    let mut is_listed = vec![false; catalogue.tensors.len()];
    for (tensor, shard) in &index.weight_map {
        match catalogue.position(tensor).filter(|&i| *shard_of(catalogue, i) == **shard) {
            Some(i) => {
                is_listed[i] = true;
                order.push(i as u32);
            }
            None if errors.len() == MOST_WRONG => break,
            None => errors.push(
                CheckpointError::IndexDisagrees { tensor: tensor.clone(), shard: shard.to_string() }.into(),
            ),
        }
    }
    Error::all(errors)?;
    let unlisted = (0..is_listed.len()).filter(|&i| !is_listed[i]);
    let unlisted: Vec<u32> = unlisted.map(|i| i as u32).collect();
    if !unlisted.is_empty() {
        let tensors = unlisted.iter().map(|&i| catalogue.tensors[i as usize].name.to_string()).collect();
        notes.push(InputNote::Unlisted { tensors }.into());
    }
    Ok(Listing { name, bytes, order, unlisted, about: index.about })
}

fn shard_of(catalogue: &Catalogue, place: usize) -> &str {
    &catalogue.shards[catalogue.tensors[place].tensor.file.0 as usize].name
}
