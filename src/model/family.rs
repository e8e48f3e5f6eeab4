//! Families of models: which one a class or a config is of, and whether two are one.
//!
//! A class has a name for each task (`LlamaForCausalLM`, `LlamaForSequenceClassification`), for each part (`Gemma3TextModel`)
//! and for each library that wraps it, and a checkpoint names the classes and model types of its parts. So families are
//! compared, never names of classes: by model type where the table of names knows the class, and by what its name begins
//! with. Where a class is of nobody's table (code of its own, a trainer's wrapper), nothing is claimed.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::checkpoint::config::Config;
use crate::model::names::table;

/// How deep configs are looked into for the model types of parts.
const MAX_DEPTH: usize = 4;
/// What model types of parts end in.
const PARTS: &[&str] = &["text", "model", "vision", "audio", "thinker", "talker", "encoder", "decoder"];
/// Ends of the names of classes that begin no task: `For…` does.
const ENDS: &[&str] =
    &["LMHeadModel", "DoubleHeadsModel", "PreTrainedModel", "TextModel", "VisionModel", "Model"];
/// Families whose classes load each other's checkpoints.
const ALIKE: &[&[&str]] = &[
    &["roberta", "xlmroberta", "camembert"],
    &["t5", "mt5", "umt5"],
    &["bart", "mbart"],
    &["vit", "deit", "dinov2", "vitmae", "vitmsn"],
    &["wav2vec2", "hubert", "wavlm", "data2vec"],
    &["idefics3", "smolvlm"],
    &["falcon", "refinedweb", "refinedwebmodel", "rw"],
    &["deepseekv3", "kimik2"],
    &["llava", "llavanext"],
    &["gemma3", "shieldgemma2"],
    &["sam2", "sam2video"],
    &["sam3tracker", "sam3video"],
    &["edgetam", "edgetamvideo"],
    // A head on models of several families.
    &["jev", "gemma4"],
    &["jev", "qwen2"],
    &["jev", "qwen35"],
    &["jev", "qwen35moe"],
];

/// How two statements about a model's family stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kinship {
    /// They agree.
    Same,
    /// Both are known, and they are two families.
    Other,
    /// One of them is not known.
    Unknown,
}

/// The families that a model, or a part of it, is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Families {
    names: BTreeSet<String>,
    classes: BTreeSet<String>,
    is_known: bool,
}

impl Families {
    /// Those of a checkpoint: of its class and of all its parts.
    pub(crate) fn of_config(config: &Config) -> Families {
        let mut families = Families::default();
        for class in config.classes().into_iter().chain(config.inner_classes()) {
            families.add_class(class);
        }
        families.add_types(config.value(), MAX_DEPTH);
        families
    }

    /// Adds a class, as a config names it.
    pub(crate) fn add_class(&mut self, class: &str) {
        let own = table::class(class).map(|class| class.model_type);
        // Models of diffusers have no type; their class is all there is.
        match own.filter(|model_type| *model_type != "diffusers") {
            Some(model_type) => self.add_type(model_type),
            None => self.is_known |= own.is_some(),
        }
        self.names.insert(plain(stem(class)));
        self.classes.insert(class.to_lowercase());
    }

    /// Adds a model type.
    pub(crate) fn add_type(&mut self, model_type: &str) {
        self.is_known |= is_known_type(model_type);
        self.names.insert(plain(model_type));
    }

    fn add_types(&mut self, value: &Value, depth: usize) {
        let Value::Object(fields) = value else { return };
        if let Some(model_type) = fields.get("model_type").and_then(Value::as_str) {
            self.add_type(model_type);
        }
        if depth > 0 {
            fields.values().for_each(|inner| self.add_types(inner, depth - 1));
        }
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether one of them is that family.
    pub(crate) fn contains(&self, model_type: &str) -> bool {
        self.names.contains(&plain(model_type))
    }

    /// How these stand to `other`.
    pub(crate) fn kinship(&self, other: &Families) -> Kinship {
        let are_alike = |a: &String, b: &String| {
            a == b || ALIKE.iter().any(|alike| alike.contains(&a.as_str()) && alike.contains(&b.as_str()))
        };
        if !self.classes.is_disjoint(&other.classes)
            || self.names.iter().any(|a| other.names.iter().any(|b| are_alike(a, b)))
        {
            return Kinship::Same;
        }
        if self.is_known && other.is_known { Kinship::Other } else { Kinship::Unknown }
    }
}

fn is_known_type(model_type: &str) -> bool {
    !table::classes_of(model_type).is_empty() || !table::classes_of(&model_type.replace('_', "-")).is_empty()
}

/// A class without its task.
fn stem(class: &str) -> &str {
    let is_task = |at: &usize| class[at + 3..].starts_with(char::is_uppercase);
    let task = class.match_indices("For").map(|(at, _)| at).find(is_task);
    let whole = task.map_or(class, |at| &class[..at]);
    let end = ENDS.iter().find_map(|end| whole.strip_suffix(end));
    end.filter(|stem| !stem.is_empty()).unwrap_or(whole)
}

/// A family's name however it is written, without the part of the model that it is of.
fn plain(name: &str) -> String {
    let mut plain: String = name.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
    while let Some(rest) =
        PARTS.iter().find_map(|part| plain.strip_suffix(part)).filter(|rest| !rest.is_empty())
    {
        plain.truncate(rest.len());
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_class(class: &str) -> Families {
        let mut families = Families::default();
        families.add_class(class);
        families
    }

    fn of(config: Value) -> Families {
        Families::of_config(&Config::from(config))
    }

    #[test]
    fn one_family_has_many_classes() {
        for (class, config) in [
            (
                "LlamaForSequenceClassification",
                json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}),
            ),
            ("LlamaModel", json!({"model_type": "llama"})),
            (
                "Gemma3ForConditionalGeneration",
                json!({"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text"}),
            ),
            (
                "Gemma3ForCausalLM",
                json!({"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"}),
            ),
            (
                "Qwen2ForCausalLM",
                json!({"architectures": ["InternVLChatModel"], "llm_config": {"model_type": "qwen2"}}),
            ),
            (
                "CLIPVisionModel",
                json!({"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "vision_config": {"model_type": "clip_vision_model"}}),
            ),
            (
                "MistralForCausalLM",
                json!({"architectures": ["Mistral3ForConditionalGeneration"], "text_config": {"model_type": "mistral"}}),
            ),
            (
                "Qwen2_5OmniThinkerForConditionalGeneration",
                json!({"architectures": ["Qwen2_5OmniForConditionalGeneration"], "model_type": "qwen2_5_omni"}),
            ),
            (
                "Qwen2VLModel",
                json!({"architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl"}),
            ),
            ("MPTForCausalLM", json!({"architectures": ["MptForCausalLM"], "model_type": "mpt"})),
            (
                "BaiChuanForCausalLM",
                json!({"architectures": ["BaichuanForCausalLM"], "model_type": "baichuan"}),
            ),
            (
                "GPT2LMHeadModel",
                json!({"architectures": ["GPT2ForSequenceClassification"], "model_type": "gpt2"}),
            ),
            (
                "RobertaForSequenceClassification",
                json!({"architectures": ["XLMRobertaForMaskedLM"], "model_type": "xlm-roberta"}),
            ),
            (
                "T5ForConditionalGeneration",
                json!({"architectures": ["MT5ForConditionalGeneration"], "model_type": "mt5"}),
            ),
            ("DebertaV2ForTokenClassification", json!({"model_type": "deberta-v2"})),
            ("FluxTransformer2DModel", json!({"_class_name": "FluxTransformer2DModel"})),
            (
                "MllamaForConditionalGeneration",
                json!({"architectures": ["MllamaForCausalLM"], "model_type": "mllama_text_model"}),
            ),
        ] {
            assert_eq!(of_class(class).kinship(&of(config.clone())), Kinship::Same, "{class} and {config}");
        }
    }

    #[test]
    fn two_families_are_told_apart_only_where_both_are_known() {
        let llama = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama"});
        for (class, config, kinship) in [
            (
                "LlamaForCausalLM",
                json!({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}),
                Kinship::Other,
            ),
            (
                "Qwen2ForCausalLM",
                json!({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3"}),
                Kinship::Other,
            ),
            ("MistralForCausalLM", llama.clone(), Kinship::Other),
            (
                "BertModel",
                json!({"architectures": ["RobertaModel"], "model_type": "roberta"}),
                Kinship::Other,
            ),
            ("Qwen3MoeForCausalLM", json!({"model_type": "qwen3"}), Kinship::Other),
            ("SD3Transformer2DModel", json!({"_class_name": "FluxTransformer2DModel"}), Kinship::Other),
            ("InternLM2ForCausalLM", llama.clone(), Kinship::Unknown),
            ("X", llama.clone(), Kinship::Unknown),
            ("LlavaLlamaForCausalLM", llama.clone(), Kinship::Unknown),
            ("AutoModelForCausalLMWithValueHead", llama.clone(), Kinship::Unknown),
            ("PeftModelForCausalLM", llama, Kinship::Unknown),
            ("LlamaForCausalLM", json!({}), Kinship::Unknown),
            (
                "LlamaForCausalLM",
                json!({"architectures": ["MyOwnForCausalLM"], "model_type": "my_own"}),
                Kinship::Unknown,
            ),
        ] {
            assert_eq!(of_class(class).kinship(&of(config.clone())), kinship, "{class} and {config}");
        }
    }
}
