//! Tied ends that part: the embedding and the head are one tensor, or two that the config ties, and an adapter changes one.
//!
//! Where they are one tensor, the head gets its own. A base that is tied by the config and stores both ends all the same loads as tied: transformers 4 takes the embedding for both whatever the head's tensor holds, transformers 5
//! only if they are equal. Once an adapter changes one of them (or both, each in its own way) the config must no longer tie
//! them, or the change of the head is lost, and the one of the embedding reaches the head as well. What trains both ends as
//! one cannot be told from what the tensors get, and is refused.

use crate::adapters::Adapter;
use crate::adapters::claiming::inseparable;
use crate::error::{Error, ErrorKind, Result};
use crate::families::stored_tie;

use super::gathered::Gathered;
use super::same::open;
use super::{ClaimId, Outline, Target, Tied};

impl Gathered {
    /// Gives a tied head a tensor of its own where an adapter changes the embedding and the head does not follow; a model
    /// with the head of another task has none.
    pub(super) fn part_tied_ends(&mut self, outline: &mut Outline<'_>) {
        let is_tied = outline.tied == Tied::Untie && !outline.has_other_head();
        let Some(head) = outline.head.clone().filter(|_| is_tied) else { return };
        let Some(touched) = self.touched.get(&Target::Base(head.source)) else { return };
        let by = |id: ClaimId| self.claims[id.0 as usize].adapter as usize;
        let claims =
            touched.ops.iter().map(|op| op.claim).chain(touched.replaced.iter().map(|(_, claim)| *claim));
        let (follow, part): (Vec<ClaimId>, Vec<ClaimId>) =
            claims.partition(|&claim| self.head_follows[by(claim)]);
        let is_parted = outline.find(&head.head).is_some();
        let name = outline.weight(Target::Base(head.source)).name;
        if !follow.is_empty() && (is_parted || !part.is_empty()) {
            self.errors.push(
                Error::new(ErrorKind::TiedBothWays { tensor: name })
                    .hint("merge these adapters one after the other"),
            );
        } else if !part.is_empty() && !is_parted {
            match head.inseparable {
                Some(why) => self.errors.push(inseparable(name, why)),
                None => {
                    outline.untie(&head);
                }
            }
        }
    }
}

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
