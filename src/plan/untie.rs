//! Untying of heads once all adapters are claimed: who changes the embedding, and who the head.
//!
//! What is done about it is decided in [`model::untie`](crate::model::untie). What trains both as one cannot be told from what the
//! tensors get; claims say so of an adapter.

use crate::error::Result;

use crate::model::outline::{Outline, Target};
use crate::model::untie::TiedChanges;
use crate::note::Note;
use crate::plan::claim_set::ClaimSet;

impl ClaimSet {
    /// Gives a tied head a tensor of its own where an adapter changes the embedding and the head does not follow.
    pub(crate) fn untie_head(&mut self, outline: &mut Outline<'_>) {
        let Some(embedding) = outline.head.as_ref().map(|head| Target::Base(head.source)) else { return };
        let claims = self.claims_on(embedding);
        let own = outline.additions.iter().position(|addition| addition.copy_of.is_some());
        let of_head: Vec<usize> = own
            .map(Target::New)
            .into_iter()
            .flat_map(|head| self.claims_on(head))
            .map(|claim| self.by(claim))
            .collect();
        let follows = |claim: &_| {
            let adapter = self.by(*claim);
            self.head_follows[adapter] || self.trains_as_one[adapter] && !of_head.contains(&adapter)
        };
        let follow = claims.iter().any(follows);
        let part = !claims.iter().all(follows);
        self.errors.extend(outline.settle_tied_head(follow, part).err());
    }

    /// Unties a head that is stored beside its embedding if one of the two is changed; what is to be reported of it.
    ///
    /// # Errors
    /// As [`Outline::settle_stored_tie`].
    pub(crate) fn untie_stored_head(&self, outline: &mut Outline<'_>) -> Result<Option<Note>> {
        let Some(tie) = outline.stored_tie() else { return Ok(None) };
        let adapters = |place| -> Vec<usize> {
            self.claims_on(Target::Base(place)).into_iter().map(|claim| self.by(claim)).collect()
        };
        let of_head = adapters(tie.head);
        let of_embedding = adapters(tie.embedding);
        // One that holds both trained each, or holds the same twice.
        let is_one = |adapter: &usize| self.trains_as_one[*adapter] && !of_head.contains(adapter);
        let changes = TiedChanges {
            any: !of_head.is_empty() || !of_embedding.is_empty(),
            as_one: of_embedding.iter().any(is_one),
        };
        outline.settle_stored_tie(tie, &changes)
    }
}
