//! The small files that the weights force to change: the index, and `config.json`.
//!
//! A file in which nothing must change is not made anew, so that it is carried over byte for byte.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::adapters::adapter::Adapter;
use crate::checkpoint::config::Config;
use crate::checkpoint::discover::Listing;
use crate::formats::index::build_index;
use crate::model::tied::{is_embedding, is_head};
use crate::tensor::dtype::Dtype;

use crate::model::outline::{Outline, Target};
use crate::plan::out_tensor::{OutShard, SideFile};

/// Objects of a config that describe the part of the model with the vocabulary.
const TEXT_CONFIGS: &[&str] = &["text_config", "llm_config", "language_config"];
/// Files that only a quantised checkpoint has.
pub(crate) const QUANTISATION_FILES: &[&str] =
    &["hf_quant_config.json", "quantize_config.json", "quant_config.json"];

/// The index of the output's shards: the base's, with what changed.
pub(crate) fn index(outline: &Outline<'_>, shards: &[OutShard]) -> Option<SideFile> {
    let Listing { name, text, order, about } = outline.base.index.as_ref()?;
    let base = &outline.base.catalogue;
    let total: u64 = shards.iter().flat_map(|shard| &shard.tensors).map(|tensor| tensor.bytes).sum();
    let mut written: HashMap<&str, &str> = HashMap::new();
    for shard in shards {
        written.extend(shard.tensors.iter().map(|tensor| (tensor.name.as_str(), shard.name.as_str())));
    }
    let mut listed = Vec::with_capacity(written.len());
    let in_order = order.iter().map(|&place| base.tensors[place as usize].name.as_str());
    listed.extend(in_order.filter_map(|name| written.remove_entry(name)));
    // A tensor keeps its shard, so that what is left is new; the order of the shards' bytes is theirs.
    let is_same = listed.len() == order.len() && written.is_empty() && about.total_size == Some(total);
    for shard in shards {
        let new = shard.tensors.iter().filter_map(|tensor| written.get_key_value(tensor.name.as_str()));
        listed.extend(new.map(|(name, shard)| (*name, *shard)));
    }
    let content = if is_same { text.clone() } else { build_index(&listed, about, total) };
    Some(SideFile { name: name.clone(), content })
}

/// `config.json` where the weights force it to change.
pub(crate) fn config(outline: &Outline<'_>, adapters: &[Adapter], is_decoded: bool) -> Option<SideFile> {
    let before = &outline.base.config.0;
    let mut config = before.as_object()?.clone();
    if outline.parted || outline.additions.iter().any(|addition| addition.copy_of.is_some()) {
        untie(&mut config);
    }
    if let Some((old, new)) = vocabulary(outline) {
        set_vocabulary(&mut config, old, new);
    }
    if is_decoded {
        drop_quantisation(&mut config, outline.float_dtype());
    }
    for adapter in adapters {
        add_head(&mut config, outline, adapter);
    }
    let after = Value::Object(config);
    if after == *before {
        return None;
    }
    let mut content = serde_json::to_string_pretty(&after).expect("JSON values always serialise");
    content.push('\n');
    Some(SideFile { name: "config.json".to_owned(), content })
}

/// Both places, as transformers 5 reads the one and transformers 4 the other.
fn untie(config: &mut Map<String, Value>) {
    config.insert("tie_word_embeddings".to_owned(), Value::Bool(false));
    if let Some(text) = config.get_mut("text_config").and_then(Value::as_object_mut) {
        text.insert("tie_word_embeddings".to_owned(), Value::Bool(false));
    }
}

/// Rows of the embedding or the head before and after, if they changed.
pub(crate) fn vocabulary(outline: &Outline<'_>) -> Option<(u64, u64)> {
    let mut resized: Vec<_> = outline.resized().collect();
    resized.sort_by_key(|(target, _)| *target);
    resized.into_iter().find_map(|(target, shape)| {
        let Target::Base(i) = target else { return None };
        let tensor = &outline.base.catalogue.tensors[i];
        let is_one = is_embedding(&tensor.name) || is_head(&tensor.name);
        is_one.then(|| (tensor.tensor.shape.axes()[0], shape.axes()[0]))
    })
}

/// Sets `vocab_size` wherever it was the old one.
fn set_vocabulary(config: &mut Map<String, Value>, old: u64, new: u64) {
    let mut found = false;
    let places = std::iter::once(None).chain(TEXT_CONFIGS.iter().map(Some));
    for place in places {
        let object = match place {
            None => Some(&mut *config),
            Some(key) => config.get_mut(*key).and_then(Value::as_object_mut),
        };
        if let Some(size) = object.and_then(|object| object.get_mut("vocab_size"))
            && size.as_u64() == Some(old)
        {
            *size = new.into();
            found = true;
        }
    }
    if !found {
        // The tensor was padded beyond the size in the config, or the config leaves the size to its class.
        let text = TEXT_CONFIGS.iter().find(|key| config.get(**key).is_some_and(Value::is_object));
        let object = match text {
            Some(key) => config.get_mut(*key).and_then(Value::as_object_mut).expect("it was just found"),
            None => config,
        };
        object.insert("vocab_size".to_owned(), new.into());
    }
}

/// The weights are plain numbers now (quantized-bases.md 15.4).
fn drop_quantisation(config: &mut Map<String, Value>, dtype: Dtype) {
    let name = match dtype {
        Dtype::F16 => "float16",
        Dtype::F32 => "float32",
        _ => "bfloat16",
    };
    for key in ["quantization_config", "quantization", "expert_dtype"] {
        config.shift_remove(key);
        for text in TEXT_CONFIGS {
            if let Some(text) = config.get_mut(*text).and_then(Value::as_object_mut) {
                text.shift_remove(key);
            }
        }
    }
    let key = if config.contains_key("torch_dtype") { "torch_dtype" } else { "dtype" };
    config.insert(key.to_owned(), name.into());
}

/// What the head of a task is called in classes.
fn class_of_task(task: &str) -> Option<&'static str> {
    match task {
        "SEQ_CLS" => Some("ForSequenceClassification"),
        "TOKEN_CLS" => Some("ForTokenClassification"),
        "QUESTION_ANS" => Some("ForQuestionAnswering"),
        _ => None,
    }
}

/// The part of a class's name that says which model it is: `RoFormer` of `RoFormerForCausalLM`.
fn stem_of_class(class: &str) -> Option<&str> {
    let ends = ["ModelWithLMHead", "WithLMHeadModel", "LMHeadModel", "Model"];
    let stem = ends.iter().find_map(|end| class.strip_suffix(end));
    stem.or_else(|| class.rfind("For").map(|at| &class[..at])).filter(|stem| !stem.is_empty())
}

/// Where one name stands for a model that sees and for its text part, tasks on text have classes of their own
/// (`Gemma3TextForSequenceClassification` beside `Gemma3ForCausalLM`).
fn infix(config: &Config, stem: &str) -> &'static str {
    let is_text = config.model_type().is_some_and(|model_type| model_type.ends_with("_text"));
    if is_text && !stem.ends_with("Text") { "Text" } else { "" }
}

/// The class and the labels of a head that an adapter added.
fn add_head(config: &mut Map<String, Value>, outline: &Outline<'_>, adapter: &Adapter) {
    let Some(task) = adapter.options.task.as_deref().and_then(class_of_task) else { return };
    let mut heads = outline.additions.iter().filter(|addition| addition.copy_of.is_none());
    let Some(head) = heads.find(|addition| addition.name.ends_with(".weight")) else { return };
    let classes = config.get("architectures").and_then(Value::as_array);
    let class = classes.and_then(|classes| classes.first()).and_then(Value::as_str).unwrap_or_default();
    if let Some(stem) = stem_of_class(class) {
        let class = format!("{stem}{}{task}", infix(&outline.base.config, stem));
        config.insert("architectures".to_owned(), json!([class]));
    }
    let labels = head.shape.axes().first().copied().unwrap_or_default();
    let has_labels = config.get("id2label").and_then(Value::as_object).map(|labels| labels.len() as u64);
    if task != "ForQuestionAnswering" && has_labels != Some(labels) {
        let name = |i: u64| format!("LABEL_{i}");
        let by_id: Map<String, Value> = (0..labels).map(|i| (i.to_string(), name(i).into())).collect();
        let by_label: Map<String, Value> = (0..labels).map(|i| (name(i), i.into())).collect();
        config.insert("id2label".to_owned(), by_id.into());
        config.insert("label2id".to_owned(), by_label.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_tasks_are_named_as_transformers_names_them() {
        for (class, model_type, named) in [
            ("LlamaForCausalLM", "llama", "Llama"),
            ("GPT2LMHeadModel", "gpt2", "GPT2"),
            ("XLMWithLMHeadModel", "xlm", "XLM"),
            ("ReformerModelWithLMHead", "reformer", "Reformer"),
            ("RoFormerForMaskedLM", "roformer", "RoFormer"),
            ("BertModel", "bert", "Bert"),
            ("Gemma3ForCausalLM", "gemma3_text", "Gemma3Text"),
            ("Gemma3TextModel", "gemma3_text", "Gemma3Text"),
        ] {
            let stem = stem_of_class(class).expect("it is a class of transformers");
            let config = Config(json!({ "model_type": model_type }));
            assert_eq!(format!("{stem}{}", infix(&config, stem)), named, "{class}");
        }
        assert_eq!(stem_of_class("Custom"), None);
    }
}
