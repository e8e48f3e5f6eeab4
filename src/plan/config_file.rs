//! `config.json` of the output: the base's text, in which only what the weights force to change changes.
//!
//! The flag of a head that was untied, the size of a vocabulary, the quantization of a base that was decoded, the class and
//! the labels of a new head. A config in which nothing must change is not rewritten, so that it is copied byte for byte.

use serde_json::{Map, Value, json};

use crate::adapters::adapter::Adapter;
use crate::checkpoint::config::Config;
use crate::encodings::schemes;
use crate::formats::json_edit::JsonEdit;
use crate::model::heads::{Task, is_embedding, is_head, is_task_head, last_projection, task_of_class};
use crate::model::outline::{Outline, Target};
use crate::model::untie::untie_config;
use crate::tensor::dtype::Dtype;
use crate::tensor::name::Name;
use crate::tensor::shape::Shape;

use crate::plan::cast::CastType;
use crate::plan::out_tensor::SideFile;

/// Its name.
pub(crate) const CONFIG: &str = "config.json";

/// `config.json` where the weights force it to change.
pub(crate) fn config(
    outline: &Outline<'_>,
    adapters: &[Adapter],
    is_decoded: bool,
    cast: CastType,
) -> Option<SideFile> {
    let config = &outline.base.config;
    if config.is_made() {
        return None;
    }
    let mut edit = JsonEdit::new(config.as_text());
    if outline.is_untied() {
        untie_config(config, &mut edit);
    }
    if let Some((old, new)) = vocabulary(outline) {
        set_vocabulary(config, &mut edit, old, new);
    }
    if is_decoded || outline.weights.stale().is_some() {
        drop_quantization(config, &mut edit);
    }
    if is_decoded {
        set_dtype(config, &mut edit, cast.of(outline.float_dtype()));
    }
    if let Some(dtype) = cast.asked() {
        set_stated_types(config.value(), &mut Vec::new(), &mut edit, name_of(dtype));
    }
    for adapter in adapters {
        add_head(config, &mut edit, outline, adapter);
    }
    let is_changed = edit.text() != config.as_text();
    is_changed.then(|| SideFile { name: CONFIG.to_owned(), content: edit.text().to_owned() })
}

/// Rows of the embedding or the head before and after, if they changed.
pub(crate) fn vocabulary(outline: &Outline<'_>) -> Option<(u64, u64)> {
    let mut resized: Vec<_> = outline.resized().collect();
    resized.sort_unstable_by_key(|(target, _)| *target);
    resized.into_iter().find_map(|(target, shape)| {
        let Target::Base(i) = target else { return None };
        let tensor = &outline.base.catalogue.tensors[i];
        let is_one = is_embedding(&tensor.name) || is_head(&tensor.name);
        is_one.then(|| (tensor.tensor.shape.axes()[0], shape.axes()[0]))
    })
}

/// Sets `vocab_size` wherever it was the old one.
fn set_vocabulary(config: &Config, edit: &mut JsonEdit, old: u64, new: u64) {
    let key = "vocab_size";
    let is_old = |fields: &Map<String, Value>| fields.get(key).and_then(Value::as_u64) == Some(old);
    let texts = config.text_configs();
    let sized = texts.iter().filter(|text| is_old(text.fields)).map(|text| text.path_to(key));
    let mut paths: Vec<Vec<&str>> = sized.collect();
    if paths.is_empty() {
        // The tensor was padded beyond the size in the config, or the config leaves the size to its class.
        paths.extend(config.main_text_config().first().map(|text| text.path_to(key)));
    }
    for path in paths {
        edit.set(&path, &new.into());
    }
}

/// No tensor is quantized any more (quantized-bases.md 15.4).
fn drop_quantization(config: &Config, edit: &mut JsonEdit) {
    for text in config.text_configs() {
        for key in schemes::config_keys() {
            edit.remove(&text.path_to(key));
        }
    }
}

/// The weights are plain numbers of that type now.
fn set_dtype(config: &Config, edit: &mut JsonEdit, dtype: Dtype) {
    let key = if config.get(OLDER_TYPE_KEY).is_some() { OLDER_TYPE_KEY } else { TYPE_KEY };
    edit.set(&[key], &name_of(dtype).into());
}

/// What configs call the type of a model's weights, now and of old.
const TYPE_KEY: &str = "dtype";
const OLDER_TYPE_KEY: &str = "torch_dtype";
/// The types of floats that they name.
const FLOATS: &[&str] = &["bfloat16", "float16", "float32"];

fn name_of(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "float16",
        Dtype::F32 => "float32",
        _ => "bfloat16",
    }
}

/// Every type of weights that a config or one inside it names is that one now, where it stands: of a vision part, too, since
/// all tensors are cast. What is said of quantized weights is not theirs.
fn set_stated_types<'v>(value: &'v Value, path: &mut Vec<&'v str>, edit: &mut JsonEdit, name: &str) {
    let Value::Object(fields) = value else { return };
    for (key, value) in fields.iter().filter(|(key, _)| schemes::config_keys().all(|other| other != *key)) {
        path.push(key);
        let is_type = key == TYPE_KEY || key == OLDER_TYPE_KEY;
        match value.as_str() {
            Some(text) if is_type && FLOATS.contains(&text.trim_start_matches("torch.")) => {
                edit.set(path, &name.into());
            }
            _ => set_stated_types(value, path, edit, name),
        }
        path.pop();
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

/// The class and the labels of a head that an adapter added, or replaced for other labels.
fn add_head(config: &Config, edit: &mut JsonEdit, outline: &Outline<'_>, adapter: &Adapter) {
    let Some(labels) = labels(outline) else { return };
    let of_base = || task_of_class(config.class()?);
    let trained = adapter.options.head_task();
    if let Some(task) = trained.filter(|_| outline.has_other_head())
        && let Some(class) = class_for(config, task, adapter.options.class.as_deref())
    {
        edit.set(&["architectures"], &json!([class]));
    }
    // Where nobody says what it is for, the rows of a head are labels: `score` and `classifier` have no others.
    if trained.or_else(of_base).is_none_or(|task| task.has_labels) {
        add_labels(config, edit, adapter, labels);
    }
}

/// The class of a model with the head of a task: the one that was trained in, else as transformers calls it.
fn class_for(config: &Config, task: &Task, trained: Option<&str>) -> Option<String> {
    let trained = trained.filter(|class| class.ends_with(task.class)).map(str::to_owned);
    let by_stem = || {
        let stem = stem_of_class(config.class().unwrap_or_default())?;
        Some(format!("{stem}{}{}", infix(config, stem), task.class))
    };
    trained.or_else(by_stem)
}

/// Labels of the head that is new or was replaced, by the rows of its last projection; none if there is no such head.
fn labels(outline: &Outline<'_>) -> Option<u64> {
    let additions = outline.additions.iter().filter(|addition| addition.copy_of.is_none());
    let mut all: Vec<(Name, Shape)> = additions.map(|new| (new.name.clone(), new.shape.clone())).collect();
    let resized = outline.resized().map(|(target, shape)| (outline.weight(target).name, shape.clone()));
    all.extend(resized);
    // A head of no columns may have any number of rows.
    all.retain(|(name, shape)| is_task_head(name) && shape.axes().len() > 1 && shape.elements() > 0);
    all.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    let names: Vec<&str> = all.iter().map(|(name, _)| &**name).collect();
    let last = last_projection(&names)?;
    all[last].1.axes().first().copied()
}

/// Names for the labels that a head tells apart: those that the base or the adapter has, if they are as many.
fn add_labels(config: &Config, edit: &mut JsonEdit, adapter: &Adapter, labels: u64) {
    let is_fit = |names: &&Map<String, Value>| names.len() as u64 == labels;
    let own = config.get("id2label").and_then(Value::as_object).filter(is_fit);
    let given = adapter.options.labels.as_ref().filter(is_fit);
    if own.is_some_and(|own| given.is_none() || !is_default(own)) {
        return;
    }
    let name = |i: u64| format!("{DEFAULT_LABEL}{i}");
    let made = || (0..labels).map(|i| (i.to_string(), name(i).into())).collect();
    let by_id: Map<String, Value> = given.cloned().unwrap_or_else(made);
    let number = |id: &String| id.parse::<u64>().map_or_else(|_| id.as_str().into(), Value::from);
    let named = |(id, name): (&String, &Value)| Some((name.as_str()?.to_owned(), number(id)));
    let by_label: Map<String, Value> = by_id.iter().filter_map(named).collect();
    edit.set(&["id2label"], &by_id.into());
    edit.set(&["label2id"], &by_label.into());
    // Where a config has both, transformers takes neither's word.
    if config.get("num_labels").is_some() {
        edit.set(&["num_labels"], &labels.into());
    }
}

/// What transformers calls labels that nobody named, before their number.
const DEFAULT_LABEL: &str = "LABEL_";

/// Whether nobody named the labels.
fn is_default(names: &Map<String, Value>) -> bool {
    names.values().all(|name| name.as_str().is_some_and(|name| name.starts_with(DEFAULT_LABEL)))
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
            let config = Config::from(json!({ "model_type": model_type }));
            assert_eq!(format!("{stem}{}", infix(&config, stem)), named, "{class}");
        }
        assert_eq!(stem_of_class("Custom"), None);
    }
}
