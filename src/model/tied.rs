//! Embeddings that also serve as the output head: which tensor it is, what the head is called, and whether they can be untied.
//!
//! The embedding and the head of a language model may be one tensor; then the head has none on disk ([`tied_head`]). A base
//! may also store both and tie them all the same ([`stored_tie`]). What is done about it is decided in
//! [`untie`](crate::model::untie).
//!
//! What a class ties to what is in the table of names; for classes that are not in it the names in wide use are taken
//! ([`heads`](crate::model::heads), key-mapping.md 8).

use crate::checkpoint::config::Config;
use crate::checkpoint::discover::Checkpoint;
use crate::model::heads::{has_deep_head, is_embedding, is_head, leaf, lm_head, predicts_tokens};
use crate::model::names::table;

/// The flag of configs that ties a head to the embedding.
pub(crate) const FLAG: &str = "tie_word_embeddings";
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

/// Why a head that is stored beside that embedding cannot be untied from it, if the class says so.
pub(crate) fn cannot_untie_stored(base: &Checkpoint, embedding: &str) -> Option<&'static str> {
    Ties::of(&base.config).cannot_untie(embedding)
}
