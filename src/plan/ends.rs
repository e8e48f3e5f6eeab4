//! Ends that are tied by the config and stored twice all the same.
//!
//! Such a base loads as tied: transformers 4 takes the embedding for both whatever the head's tensor holds, transformers 5
//! only if they are equal. Once an adapter changes one of them (or both, each in its own way) the config must no longer tie
//! them, or the change of the head is lost, and the one of the embedding reaches the head as well. What trains both ends as
//! one cannot be told from what the tensors get, and is refused.

use crate::adapters::Adapter;
use crate::error::{Error, ErrorKind, Result};
use crate::families::{inseparable_stored, stored_tie};

use super::same::open;
use super::{Outline, Target, Tied};

/// Parts ends that are stored twice if they are touched; says so if they were not equal to begin with.
///
/// `touching` are the adapters that change the tensor at a place.
///
/// # Errors
/// [`ErrorKind::Tied`] for adapters that train both ends as one; as [`crate::storage::Source::read_at`].
pub(super) fn part_stored<'a>(
    outline: &mut Outline<'_>,
    touching: impl Fn(Target) -> Vec<&'a Adapter>,
) -> Result<Option<String>> {
    let tie = stored_tie(outline.base).filter(|_| !outline.has_other_head());
    let Some((head, embedding)) = tie else { return Ok(None) };
    let (of_head, of_embedding) = (touching(Target::Base(head)), touching(Target::Base(embedding)));
    if of_head.is_empty() && of_embedding.is_empty() {
        return Ok(None);
    }
    let tensors = &outline.base.catalogue.tensors;
    let names = (tensors[head].name.clone(), tensors[embedding].name.clone());
    let shared = &tensors[embedding].tensor;
    let source = open(outline.base, shared)?;
    let is_same = outline.holds(head, (source.as_ref(), shared))?;
    if !is_same && outline.base.config.ties_embeddings().is_none() {
        return Ok(None);
    }
    // One that holds both ends trained each, or holds the same twice.
    let is_one = |adapter: &&Adapter| {
        let is_set = |field| adapter.config.active().any(|(name, _)| name == field);
        ["ensure_weight_tying", "trainable_token_indices", "token_indices"].into_iter().any(is_set)
            && !of_head.iter().any(|other| std::ptr::eq(*other, *adapter))
    };
    let folds = outline.tied == Tied::Fold;
    if folds || of_embedding.iter().any(is_one) {
        let why = format!("`{}` is stored beside it, and both would have to change as one", names.0);
        let error = Error::new(ErrorKind::Tied { tensor: names.1, why });
        return Err(
            error.hint("take the head's tensor out of the base: transformers loads it tied either way")
        );
    }
    if let Some(why) = inseparable_stored(outline.base, embedding) {
        let error = Error::new(ErrorKind::Tied { tensor: names.1, why: why.to_owned() });
        return Err(error.hint(
            "if transformers loads this base as tied, take the head's tensor out of it and merge with `--tied fold`",
        ));
    }
    outline.parted = true;
    let told = format!("`{}` is stored beside `{}`, to which the config ties it", names.0, names.1);
    Ok(Some(match is_same {
        true => {
            format!("{told}; each is what its own training made it, and `tie_word_embeddings` becomes false")
        }
        false => format!(
            "{told}, with other values: transformers 4 passes over it and transformers 5 does not. It is taken as it is \
             stored, and `tie_word_embeddings` becomes false: make sure that the adapter was trained so"
        ),
    }))
}
