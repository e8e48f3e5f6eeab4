//! Tied ends that part: the embedding and the head are one tensor, or two that the config ties, and an adapter changes one.
//!
//! Where they are one tensor, the head gets its own. A base that stores both ends all the same loads as tied: transformers 4
//! takes the embedding for both whatever the head's tensor holds, transformers 5 only if they are equal. Once an adapter
//! changes one of them (or both, each in its own way) the config must no longer tie them, or the change of the head is lost,
//! and the one of the embedding reaches the head as well. What trains both ends as one cannot be told from what the tensors
//! get; methods say so of an adapter, and it is refused.

use crate::adapters::claim::refusals::inseparable;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::model::tied::{inseparable_stored, stored_tie};

use crate::checkpoint::compare::open;
use crate::model::outline::{Outline, Target, Tied};
use crate::ops::op::ClaimId;
use crate::plan::claim_set::Gathered;

impl Gathered {
    /// Gives a tied head a tensor of its own where an adapter changes the embedding and the head does not follow; a model
    /// with the head of another task has none.
    pub(crate) fn part_tied_ends(&mut self, outline: &mut Outline<'_>) {
        let is_tied = outline.tied == Tied::Untie && !outline.has_other_head();
        let Some(head) = outline.head.clone().filter(|_| is_tied) else { return };
        let claims = self.claims_on(Target::Base(head.source)).into_iter();
        let (follow, part): (Vec<ClaimId>, Vec<ClaimId>) =
            claims.partition(|&claim| self.head_follows[self.by(claim)]);
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

    /// Parts ends that are stored twice if they are touched; says so if they were not equal to begin with.
    ///
    /// # Errors
    /// [`ErrorKind::Tied`] for adapters that train both ends as one; as [`crate::storage::source::Source::read_at`].
    pub(crate) fn part_stored_ends(&self, outline: &mut Outline<'_>) -> Result<Option<String>> {
        let tie = stored_tie(outline.base).filter(|_| !outline.has_other_head());
        let Some((head, embedding)) = tie else { return Ok(None) };
        let adapters = |place| -> Vec<usize> {
            self.claims_on(Target::Base(place)).into_iter().map(|claim| self.by(claim)).collect()
        };
        let (of_head, of_embedding) = (adapters(head), adapters(embedding));
        if of_head.is_empty() && of_embedding.is_empty() {
            return Ok(None);
        }
        let is_same = holds_the_same(outline, head, embedding)?;
        if !is_same && outline.base.config.ties_embeddings().is_none() {
            return Ok(None);
        }
        let why_one = inseparable_stored(outline.base, embedding);
        let name = |place: usize| outline.base.catalogue.tensors[place].name.clone();
        let (head, embedding) = (name(head), name(embedding));
        // One that holds both ends trained each, or holds the same twice.
        let is_one = |adapter: &usize| self.trains_as_one[*adapter] && !of_head.contains(adapter);
        if outline.tied == Tied::Fold || of_embedding.iter().any(is_one) {
            let why = format!("`{head}` is stored beside it, and both would have to change as one");
            return Err(Error::new(ErrorKind::Tied { tensor: embedding, why })
                .hint("take the head's tensor out of the base: transformers loads it tied either way"));
        }
        if let Some(why) = why_one {
            return Err(Error::new(ErrorKind::Tied { tensor: embedding, why: why.to_owned() }).hint(
                "if transformers loads this base as tied, take the head's tensor out of it and merge with `--tied fold`",
            ));
        }
        outline.parted = true;
        Ok(Some(parted(&head, &embedding, is_same)))
    }
}

/// Whether two tensors of the base hold the same values.
fn holds_the_same(outline: &Outline<'_>, first: usize, second: usize) -> Result<bool> {
    let second = &outline.base.catalogue.tensors[second].tensor;
    let source = open(outline.base, second)?;
    outline.holds(first, (source.as_ref(), second))
}

/// What is said of ends that were stored twice and are parted.
fn parted(head: &str, embedding: &str, is_same: bool) -> String {
    let told = format!("`{head}` is stored beside `{embedding}`, to which the config ties it");
    match is_same {
        true => {
            format!("{told}; both are written as trained, and `tie_word_embeddings` becomes false")
        }
        false => format!(
            "{told}, with other values: transformers 4 ignores it and transformers 5 does not. It is used as it is \
             stored, and `tie_word_embeddings` becomes false: make sure that the adapter was trained so"
        ),
    }
}
