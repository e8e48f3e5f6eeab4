//! Embeddings that also serve as the output head: which tensor it is, what the head is called, and whether they can part.
//!
//! A head that is tied has no tensor on disk. What a class ties to what is in the table of names; for classes that are not in
//! it the names in wide use are taken (key-mapping.md 8).

use crate::checkpoint::config::Config;
use crate::checkpoint::discover::Checkpoint;

use crate::model::names::table;

/// Last segments of the paths of output heads.
const HEADS: &[&str] = &["lm_head", "embed_out", "proj_out", "decoder"];
/// Last segments of the paths of embeddings that heads are tied to.
const EMBEDDINGS: &[&str] =
    &["embed_tokens", "wte", "word_embeddings", "embed_in", "shared", "tok_embeddings"];
/// Models whose forward pass reads the flag: they scale the head's input only while it is tied.
const SCALED_WHILE_TIED: &[&str] =
    &["t5", "mt5", "umt5", "longt5", "switch_transformers", "udop", "pop2piano"];

/// A head that shares its tensor with an embedding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TiedHead {
    /// Name that the head's tensor would have.
    pub head: String,
    /// Place of the embedding among the base's tensors.
    pub source: usize,
    /// Why the two cannot be parted, if they cannot.
    pub inseparable: Option<&'static str>,
}

/// The tied head of a checkpoint, if it has one.
pub(crate) fn tied_head(base: &Checkpoint) -> Option<TiedHead> {
    let config = &base.config;
    let ties = Ties::of(config);
    if !ties.has_head(config) || config.ties_embeddings() == Some(false) {
        return None;
    }
    let tensors = &base.catalogue.tensors;
    if tensors.iter().any(|tensor| is_head(&tensor.name)) {
        return None;
    }
    let mut sources = (0..tensors.len()).filter(|&i| ties.has_source(&tensors[i].name));
    let source = sources.next()?;
    let model_type = config.model_type().unwrap_or_default();
    let class = config.class().unwrap_or_default();
    let inseparable = if SCALED_WHILE_TIED.contains(&model_type) {
        Some("this model scales the head's input only while it is tied")
    } else if sources.next().is_some() {
        Some("several embeddings may be the one it is tied to")
    } else if let Some(why) = ties.inseparable(&tensors[source].name) {
        Some(why)
    } else if class.ends_with("ForMaskedLM") || class.ends_with("ForPreTraining") {
        Some("the name of a head of its own is not known for this class")
    } else if tensors[source].name.starts_with("wte.") {
        Some("a file without the model's prefix and with a head does not load in transformers 4")
    } else {
        None
    };
    let leaf = match model_type {
        "gpt_neox" => "embed_out.weight",
        "whisper" => "proj_out.weight",
        _ => "lm_head.weight",
    };
    // A language model inside another keeps its head beside its layers.
    let inner = tensors[source]
        .name
        .split_once('.')
        .map(|(first, _)| first)
        .filter(|first| *first == "language_model");
    let head = inner.map_or_else(|| leaf.to_owned(), |inner| format!("{inner}.{leaf}"));
    Some(TiedHead { head, source, inseparable })
}

/// The weights that a class ties, each with what it is tied to, as the running model calls them.
struct Ties(Vec<(String, String)>);

impl Ties {
    fn of(config: &Config) -> Ties {
        let ties = config.class().and_then(table::class).map(|class| class.ties()).unwrap_or_default();
        Ties(ties.into_iter().filter(|(tied, _)| tied.ends_with(".weight")).collect())
    }

    /// Whether the model has a head that may be tied: by its class, or by how classes are called (`MarianMTModel` is not).
    fn has_head(&self, config: &Config) -> bool {
        config.predicts_tokens() || self.0.iter().any(|(tied, _)| is_head(tied))
    }

    /// Whether a head may be tied to a tensor: Mamba calls its embedding `backbone.embeddings`.
    fn has_source(&self, name: &str) -> bool {
        is_embedding(name) || self.0.iter().any(|(_, source)| source == name)
    }

    /// Why the head cannot be parted from that embedding, if the class says so.
    fn inseparable(&self, embedding: &str) -> Option<&'static str> {
        let here = self.0.iter().filter(|(_, source)| leaf(source) == leaf(embedding));
        let (heads, others): (Vec<_>, Vec<_>) = here.partition(|(tied, _)| is_head(tied));
        match (heads.is_empty(), others.is_empty()) {
            (_, true) => None,
            (true, false) => Some("the name of a head of its own is not known for this class"),
            (false, false) => Some("the flag that ties them ties other embeddings of the model too"),
        }
    }
}

/// Why ends that are stored twice cannot be parted, if they cannot.
pub(crate) fn inseparable_stored(base: &Checkpoint, embedding: usize) -> Option<&'static str> {
    Ties::of(&base.config).inseparable(&base.catalogue.tensors[embedding].name)
}

/// Places of the head and of the embedding that may be one tensor by the config, and that are two on disk. Where the config
/// leaves it to the class they are one if they hold the same.
pub(crate) fn stored_tie(base: &Checkpoint) -> Option<(usize, usize)> {
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
    (tensors[head].tensor.shape == tensors[embedding].tensor.shape).then_some((head, embedding))
}

/// Whether a tensor's name is that of an output head.
pub(crate) fn is_head(name: &str) -> bool {
    leaf(name).is_some_and(|leaf| HEADS.contains(&leaf))
}

/// Whether a tensor's name is that of a token embedding.
pub(crate) fn is_embedding(name: &str) -> bool {
    leaf(name).is_some_and(|leaf| EMBEDDINGS.contains(&leaf))
}

/// The last segment of the path of the module whose weight it is.
fn leaf(name: &str) -> Option<&str> {
    let stem = name.strip_suffix(".weight")?;
    Some(stem.rsplit('.').next().unwrap_or(stem))
}
