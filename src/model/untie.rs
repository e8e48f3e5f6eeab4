//! Untying: every decision about an embedding and a head that are tied, while adapters are claimed and after.
//!
//! What an adapter trained of one of the two is not what the other was trained to be. In order of use:
//!
//! 1. **Where changes go** while adapters are claimed: [`Outline::head_target`] for the head's own, [`Outline::stays_tied`]
//!    where one tensor is changed for both, [`Outline::resized_tie`] where a vocabulary grew.
//! 2. **Untying** once all claims are known: [`Outline::settle_tied_head`] gives the head a tensor of its own,
//!    [`Outline::settle_stored_tie`] makes two tensors count as two.
//! 3. **The config**: [`untie_config`] clears the flag wherever it stands.

use serde_json::Value;

use crate::checkpoint::compare::open;
use crate::checkpoint::config::Config;
use crate::error::plan::PlanError;
use crate::error::{Error, Result};
use crate::formats::json_edit::JsonEdit;
use crate::model::heads::is_head;
use crate::model::names::lookup::Names;
use crate::model::outline::{Addition, Outline, Target};
use crate::model::tied::{FLAG, StoredTie, Tied, TiedHead, cannot_untie_stored, stored_tie};
use crate::note::Note;
use crate::note::plan::PlanNote;
use crate::tensor::shape::Shape;

/// Who changes two tensors that are tied.
pub(crate) struct TiedChanges {
    /// Whether any adapter changes one of them.
    pub any: bool,
    /// Whether an adapter trained both as one and holds the embedding alone.
    pub as_one: bool,
}

impl Outline<'_> {
    /// Whether the embedding and a tied head stay one tensor whatever adapters change.
    pub(crate) fn stays_tied(&self) -> bool {
        self.tied == Tied::Fold
    }

    /// The embedding that stays the head's tensor too, if there is one.
    pub(crate) fn shared_embedding(&self) -> Option<usize> {
        self.head.as_ref().filter(|_| self.stays_tied()).map(|head| head.source)
    }

    /// Whether a target is the embedding that a tied head shares.
    pub(crate) fn is_tied_embedding(&self, target: Target) -> bool {
        self.head.as_ref().is_some_and(|head| Target::Base(head.source) == target)
    }

    /// The tied head that gets a tensor of its own, if the embedding was not of that shape: the vocabulary was resized.
    pub(crate) fn resized_tie(&self, shape: &Shape) -> Option<TiedHead> {
        let head = self.head.clone().filter(|head| head.cannot_untie.is_none() && !self.stays_tied())?;
        (self.base.catalogue.tensors[head.source].tensor.shape != *shape).then_some(head)
    }

    /// What an adapter changes that names the tied head, which is `name` for it; `None` if no head is tied.
    ///
    /// # Errors
    /// [`PlanError::Tied`] if the head cannot get a tensor of its own.
    pub(crate) fn head_target(&mut self, name: &str) -> Option<Result<Target>> {
        let head = self.head.clone()?;
        if self.stays_tied() {
            return Some(Ok(Target::Base(head.source)));
        }
        Some(match head.cannot_untie {
            Some(why) => Err(untying_refused(name.to_owned(), why)),
            None => Ok(self.untie(&head)),
        })
    }

    /// A tensor for the tied head, which starts as a copy of the embedding.
    pub(crate) fn untie(&mut self, head: &TiedHead) -> Target {
        let source = &self.base.catalogue.tensors[head.source];
        let addition = Addition {
            name: head.head.as_str().into(),
            shape: source.tensor.shape.clone(),
            dtype: source.tensor.dtype,
            copy_of: Some(head.source),
            beside: head.source,
        };
        match self.find(&head.head) {
            Some(target) => target,
            None => self.add(addition),
        }
    }

    /// Gives the tied head the name that its tensor would have on disk by the class of the model.
    pub(crate) fn name_head(&mut self, names: &Names<'_>) {
        let Some(head) = &self.head else { return };
        let embedding = &self.base.catalogue.tensors[head.source].name;
        let leaf = |name: &str| name.rsplit('.').nth(1).map(str::to_owned);
        let tie = names.ties().into_iter().find(|(_, source)| leaf(source) == leaf(embedding));
        if let Some((runtime, _)) = tie.filter(|(runtime, _)| is_head(runtime)) {
            let name = names.head_on_disk(&runtime, embedding);
            self.head = Some(TiedHead { head: name, ..head.clone() });
        }
    }

    /// Gives the tied head a tensor of its own where an adapter changes the embedding and the head does not follow: `follow`
    /// and `part` say whether any change of the embedding is, and is not, the head's too. A model with the head of another
    /// task has no head to untie.
    ///
    /// # Errors
    /// [`PlanError::TiedBothWays`] if some changes are the head's too and others are not, or the head has a tensor of its
    /// own already; [`PlanError::Tied`] if it cannot get one.
    pub(crate) fn settle_tied_head(&mut self, follow: bool, part: bool) -> Result<()> {
        if self.stays_tied() || self.has_other_head() {
            return Ok(());
        }
        let Some(head) = self.head.clone() else { return Ok(()) };
        let is_untied = self.find(&head.head).is_some();
        let tensor = || self.weight(Target::Base(head.source)).name.to_string();
        if follow && (is_untied || part) {
            return Err(Error::new(PlanError::TiedBothWays { tensor: tensor() })
                .hint("merge these adapters one after the other"));
        }
        if part && !is_untied {
            if let Some(why) = head.cannot_untie {
                return Err(untying_refused(tensor(), why));
            }
            self.untie(&head);
        }
        Ok(())
    }

    /// The head and the embedding that the config ties although both are stored, if the head is one that the output has.
    pub(crate) fn stored_tie(&self) -> Option<StoredTie> {
        stored_tie(self.base).filter(|_| !self.has_other_head())
    }

    /// Makes a head that is stored beside the embedding it is tied to count as a tensor of its own, if any of the two
    /// changes. A base that stores both loads as tied all the same: transformers 4 takes the embedding for both whatever the
    /// head's tensor holds, transformers 5 only if they are equal. What is to be reported is returned.
    ///
    /// # Errors
    /// [`PlanError::TiedAndStored`] where both would have to change as one; [`PlanError::Tied`]; as [`crate::storage::Source::read_at`].
    pub(crate) fn settle_stored_tie(
        &mut self,
        tie: StoredTie,
        changes: &TiedChanges,
    ) -> Result<Option<Note>> {
        if !changes.any {
            return Ok(None);
        }
        let is_same = self.holds_same(tie.head, tie.embedding)?;
        if !is_same && self.base.config.ties_embeddings().is_none() {
            return Ok(None);
        }
        let name = |place: usize| self.base.catalogue.tensors[place].name.to_string();
        let (head, embedding) = (name(tie.head), name(tie.embedding));
        if self.stays_tied() || changes.as_one {
            return Err(Error::new(PlanError::TiedAndStored { tensor: embedding, head })
                .hint("take the head's tensor out of the base: transformers loads it tied either way"));
        }
        if let Some(why) = cannot_untie_stored(self.base, &embedding) {
            return Err(Error::new(PlanError::Tied { tensor: embedding, why }).hint(
                "if transformers loads this base as tied, take the head's tensor out of it and merge with `--tied fold`",
            ));
        }
        self.is_stored_tie_untied = true;
        Ok(Some(untied_note(head, embedding, is_same)))
    }

    /// Whether two tensors of the base hold the same values.
    fn holds_same(&self, first: usize, second: usize) -> Result<bool> {
        let second = &self.base.catalogue.tensors[second].tensor;
        let source = open(self.base, second)?;
        self.holds(first, (source.as_ref(), second))
    }

    /// Whether the output's head is no longer tied where the base's was.
    pub(crate) fn is_untied(&self) -> bool {
        self.is_stored_tie_untied || self.additions.iter().any(|addition| addition.copy_of.is_some())
    }
}

/// Clears the flag that ties them in the whole config and in each of its text parts: transformers 5 reads the one,
/// transformers 4 the other, and models with code of their own build their language part from its config alone.
pub(crate) fn untie_config(config: &Config, edit: &mut JsonEdit) {
    for text in config.text_configs() {
        edit.set(&text.path_to(FLAG), &Value::Bool(false));
    }
}

/// The refusal to untie a head.
fn untying_refused(tensor: String, why: &'static str) -> Error {
    Error::new(PlanError::Tied { tensor, why })
        .hint("`--tied fold` changes the one tensor that both share, as PEFT's merge does")
}

/// What is reported of a head and an embedding that were stored twice and are untied.
fn untied_note(head: String, embedding: String, is_same: bool) -> Note {
    if is_same {
        PlanNote::HeadTrainedApart { head, embedding }.into()
    } else {
        PlanNote::HeadStoredDiffers { head, embedding }.into()
    }
}
