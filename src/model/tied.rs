//! Embeddings that also serve as the output head: all that is decided about tied weights.
//!
//! The embedding and the head of a language model may be one tensor. Then the head has none on disk, and what an adapter
//! trained of one of the two is not what the other was trained to be. In order of use:
//!
//! 1. **Detection.** [`tied_head`]: which tensor it is, what the head would be called, whether the two can be untied. A base
//!    may also store both and tie them all the same: [`stored_tie`].
//! 2. **Where changes go** while adapters are claimed: [`Outline::head_target`] for the head's own, [`Outline::stays_tied`]
//!    where one tensor is changed for both, [`Outline::resized_tie`] where a vocabulary grew.
//! 3. **Untying** once all claims are known: [`Outline::settle_tied_head`] gives the head a tensor of its own,
//!    [`Outline::settle_stored_tie`] makes two tensors count as two.
//! 4. **The config**: [`untie_config`] clears the flag wherever it stands.
//!
//! What a class ties to what is in the table of names; for classes that are not in it the names in wide use are taken
//! ([`heads`](crate::model::heads), key-mapping.md 8).

use serde_json::Value;

use crate::checkpoint::compare::open;
use crate::checkpoint::config::Config;
use crate::checkpoint::discover::Checkpoint;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::formats::json_edit::JsonEdit;
use crate::model::heads::{has_deep_head, is_embedding, is_head, leaf, lm_head, predicts_tokens};
use crate::model::names::lookup::Names;
use crate::model::names::table;
use crate::model::outline::{Addition, Outline, Target};
use crate::tensor::shape::Shape;

/// The flag of configs that ties a head to the embedding.
const FLAG: &str = "tie_word_embeddings";
/// Models whose forward pass reads the flag: they scale the head's input only while it is tied.
const SCALED_WHILE_TIED: &[&str] =
    &["t5", "mt5", "umt5", "longt5", "switch_transformers", "udop", "pop2piano"];

/// What to do with a head that shares the embedding's tensor when an adapter changes one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tied {
    /// Give the head a tensor of its own, so that each is what was trained.
    #[default]
    Untie,
    /// Change the one tensor, as PEFT's merge does.
    Fold,
}

/// A head that shares its tensor with an embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TiedHead {
    /// Name that the head's tensor would have.
    pub head: String,
    /// Place of the embedding among the base's tensors.
    pub source: usize,
    /// Why the two cannot be untied, if they cannot.
    pub cannot_untie: Option<&'static str>,
}

/// The tied head of a checkpoint, if it has one.
pub(crate) fn tied_head(base: &Checkpoint) -> Option<TiedHead> {
    let ties = Ties::of(&base.config);
    let flags = base.config.tie_flags();
    // Where nested configs disagree one of them ties, and there is no other tensor that the head could be.
    let is_untied = !flags.is_empty() && !flags.contains(&true);
    if is_untied || !ties.has_head(&base.config) {
        return None;
    }
    let tensors = &base.catalogue.tensors;
    if tensors.iter().any(|tensor| is_head(&tensor.name)) {
        return None;
    }
    let mut sources = (0..tensors.len()).filter(|&i| ties.has_source(&tensors[i].name));
    let source = sources.next()?;
    let embedding = &tensors[source].name;
    let cannot_untie = match sources.next() {
        _ if SCALED_WHILE_TIED.contains(&base.config.model_type().unwrap_or_default()) => {
            Some("this model scales the head's input only while it is tied")
        }
        Some(_) => Some("several embeddings may be the one it is tied to"),
        None => cannot_untie(&base.config, &ties, embedding),
    };
    Some(TiedHead { head: head_of(&base.config, &ties, embedding), source, cannot_untie })
}

/// Why the head cannot get a tensor of its own beside the one embedding there is, if it cannot.
fn cannot_untie(config: &Config, ties: &Ties, embedding: &str) -> Option<&'static str> {
    if let Some(why) = ties.cannot_untie(embedding) {
        Some(why)
    } else if has_deep_head(config.class().unwrap_or_default()) {
        Some("the name of a head of its own is not known for this class")
    } else if embedding.starts_with("wte.") {
        Some("a file without the model's prefix and with a head does not load in transformers 4")
    } else {
        None
    }
}

/// The name that the tensor of a head has where the embedding is called so, for classes whose ties are not in the table.
fn head_of(config: &Config, ties: &Ties, embedding: &str) -> String {
    let leaf = format!("{}.weight", lm_head(config.model_type().unwrap_or_default()));
    // A language model inside another keeps its head beside its layers.
    let inner = match embedding.split_once('.') {
        Some((first @ "language_model", _)) => Some(first),
        _ if ties.is_known_class => None,
        _ => embedding.split_once(".model.").map(|(inner, _)| inner),
    };
    inner.map_or_else(|| leaf.clone(), |inner| format!("{inner}.{leaf}"))
}

/// The weights that a class ties, each with what it is tied to, as the running model calls them.
struct Ties {
    pairs: Vec<(String, String)>,
    /// Whether the table of names has the class.
    is_known_class: bool,
}

impl Ties {
    fn of(config: &Config) -> Ties {
        let class = config.class().and_then(table::class);
        let pairs = class.as_ref().map(|class| class.ties()).unwrap_or_default();
        let pairs = pairs.into_iter().filter(|(tied, _)| tied.ends_with(".weight")).collect();
        Ties { pairs, is_known_class: class.is_some() }
    }

    /// Whether the model has a head that may be tied: by its class, or by how classes are called (`MarianMTModel` is not). A
    /// class that nobody knows may be a language model inside something else, and the inner config tells.
    fn has_head(&self, config: &Config) -> bool {
        let is_inside = || {
            let inner_flags = config.tie_flags().into_iter().skip(usize::from(config.get(FLAG).is_some()));
            config.inner_classes().into_iter().any(predicts_tokens)
                || inner_flags.into_iter().any(|flag| flag)
        };
        config.classes().into_iter().any(predicts_tokens)
            || self.pairs.iter().any(|(tied, _)| is_head(tied))
            || !self.is_known_class && is_inside()
    }

    /// Whether a head may be tied to a tensor: Mamba calls its embedding `backbone.embeddings`.
    fn has_source(&self, name: &str) -> bool {
        is_embedding(name) || self.pairs.iter().any(|(_, source)| source == name)
    }

    /// Why the head cannot be untied from that embedding, if the class says so.
    fn cannot_untie(&self, embedding: &str) -> Option<&'static str> {
        let here = self.pairs.iter().filter(|(_, source)| leaf(source) == leaf(embedding));
        let (heads, others): (Vec<_>, Vec<_>) = here.partition(|(tied, _)| is_head(tied));
        match (heads.is_empty(), others.is_empty()) {
            (_, true) => None,
            (true, false) => Some("the name of a head of its own is not known for this class"),
            (false, false) => Some("the flag that ties them ties other embeddings of the model too"),
        }
    }
}

/// A head and an embedding that the config ties, and that are two tensors on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredTie {
    /// Place of the head.
    pub head: usize,
    /// Place of the embedding.
    pub embedding: usize,
}

/// The head and the embedding that may be one tensor by the config, and that are two on disk. Where the config leaves it to
/// the class they are one if they hold the same.
pub(crate) fn stored_tie(base: &Checkpoint) -> Option<StoredTie> {
    let ties = Ties::of(&base.config);
    if !ties.has_head(&base.config) || base.config.ties_embeddings() == Some(false) {
        return None;
    }
    let tensors = &base.catalogue.tensors;
    let only = |is_one: &dyn Fn(&str) -> bool| {
        let mut found = (0..tensors.len()).filter(|&i| is_one(&tensors[i].name));
        found.next().filter(|_| found.next().is_none())
    };
    let (head, embedding) = (only(&is_head)?, only(&|name| ties.has_source(name))?);
    let is_same_shape = tensors[head].tensor.shape == tensors[embedding].tensor.shape;
    is_same_shape.then_some(StoredTie { head, embedding })
}

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
    /// [`ErrorKind::Tied`] if the head cannot get a tensor of its own.
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
            name: head.head.clone(),
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
    /// [`ErrorKind::TiedBothWays`] if some changes are the head's too and others are not, or the head has a tensor of its
    /// own already; [`ErrorKind::Tied`] if it cannot get one.
    pub(crate) fn settle_tied_head(&mut self, follow: bool, part: bool) -> Result<()> {
        if self.stays_tied() || self.has_other_head() {
            return Ok(());
        }
        let Some(head) = self.head.clone() else { return Ok(()) };
        let is_untied = self.find(&head.head).is_some();
        let tensor = || self.weight(Target::Base(head.source)).name;
        if follow && (is_untied || part) {
            return Err(Error::new(ErrorKind::TiedBothWays { tensor: tensor() })
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
    /// [`ErrorKind::Tied`] where both would have to change as one; as [`crate::storage::Source::read_at`].
    pub(crate) fn settle_stored_tie(
        &mut self,
        tie: StoredTie,
        changes: &TiedChanges,
    ) -> Result<Option<String>> {
        if !changes.any {
            return Ok(None);
        }
        let is_same = self.holds_same(tie.head, tie.embedding)?;
        if !is_same && self.base.config.ties_embeddings().is_none() {
            return Ok(None);
        }
        let name = |place: usize| self.base.catalogue.tensors[place].name.clone();
        let (head, embedding) = (name(tie.head), name(tie.embedding));
        if self.stays_tied() || changes.as_one {
            let why = format!("`{head}` is stored beside it, and both would have to change as one");
            return Err(Error::new(ErrorKind::Tied { tensor: embedding, why })
                .hint("take the head's tensor out of the base: transformers loads it tied either way"));
        }
        if let Some(why) = Ties::of(&self.base.config).cannot_untie(&embedding) {
            return Err(Error::new(ErrorKind::Tied { tensor: embedding, why: why.to_owned() }).hint(
                "if transformers loads this base as tied, take the head's tensor out of it and merge with `--tied fold`",
            ));
        }
        self.is_stored_tie_untied = true;
        Ok(Some(untied_note(&head, &embedding, is_same)))
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
fn untying_refused(tensor: String, why: &str) -> Error {
    Error::new(ErrorKind::Tied { tensor, why: why.to_owned() })
        .hint("`--tied fold` changes the one tensor that both share, as PEFT's merge does")
}

/// What is reported of a head and an embedding that were stored twice and are untied.
fn untied_note(head: &str, embedding: &str, is_same: bool) -> String {
    let stored = format!("`{head}` is stored beside `{embedding}`, to which the config ties it");
    if is_same {
        format!("{stored}; each is what its own training made it, and `{FLAG}` becomes false")
    } else {
        format!(
            "{stored}, with other values: transformers 4 ignores it and transformers 5 does not. It is taken as it is stored, \
             and `{FLAG}` becomes false: make sure that the adapter was trained so"
        )
    }
}
