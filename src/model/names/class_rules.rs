//! Which rules a checkpoint may have been written under: those of its class, or of what comes nearest.

use std::sync::Arc;

use crate::checkpoint::config::Config;
use crate::checkpoint::ecosystem::Library;

use crate::model::names::rules::Rules;
use crate::model::names::table;
use crate::model::names::table::Class;

/// Rules that every class has after its own.
const LEGACY: &str = "legacy";

/// The rules of one class, or what stands for them.
#[derive(Debug)]
pub(crate) struct ClassRules {
    /// Where they are from, for messages.
    pub label: String,
    /// The library that has them.
    pub library: &'static Library,
    /// Path of the base model.
    pub base: String,
    /// Those without scope, which transformers 4.52 to 4.57 had; the same as `all` if none has one.
    pub unscoped: Arc<Rules>,
    /// All of them.
    pub all: Arc<Rules>,
}

type Use<'c> = (Option<&'c str>, &'c str);

/// The candidates for a checkpoint, the likeliest first; never none.
pub(crate) fn class_rules(config: &Config) -> Vec<ClassRules> {
    let parts = [("language_model", language(config)), ("vision_tower", vision(config))];
    let library = config.library();
    let candidate = |label: &str, base: &str, uses: &[Use<'_>]| {
        let (unscoped, all) = rules(base, uses, &parts);
        ClassRules { label: label.to_owned(), library, base: base.to_owned(), unscoped, all }
    };
    let name = config.class().unwrap_or_default();
    if let Some(class) = table::class(name) {
        return vec![candidate(class.name, class.base, &class.uses)];
    }
    let model_type = config.family();
    let classes = table::classes_of(model_type);
    let base = classes.iter().map(|class| class.base).find(|base| !base.is_empty()).unwrap_or("model");
    let entries = [name, model_type].into_iter().filter(|entry| table::root(entry).is_some());
    let mut found: Vec<ClassRules> = entries.map(|entry| candidate(entry, base, &[(None, entry)])).collect();
    let mut seen: Vec<&Class> = Vec::new();
    for class in classes.iter().filter(|class| !class.uses.is_empty()) {
        if seen.iter().all(|other| (&other.uses, other.base) != (&class.uses, class.base)) {
            found.push(candidate(class.name, class.base, &class.uses));
            seen.push(class);
        }
    }
    if found.is_empty() {
        found.push(candidate("plain names", base, &[]));
    }
    found
}

/// The model type of a model's language part.
fn language(config: &Config) -> Option<&str> {
    let mut inner = config.main_text_config().into_iter().filter(|text| !text.path.is_empty());
    inner.find_map(|text| text.fields.get("model_type")?.as_str())
}

/// The rules of the kind of vision model that a model has.
fn vision(config: &Config) -> Option<&'static str> {
    let model_type = config.get("vision_config")?.get("model_type")?.as_str()?;
    let uses = table::classes_of(model_type).into_iter().flat_map(|class| class.uses);
    uses.into_iter().find(|(scope, _)| scope.is_none()).map(|(_, entry)| entry)
}

/// The rules without scope, and all rules, of those that are used.
fn rules(base: &str, uses: &[Use<'_>], parts: &[(&str, Option<&str>)]) -> (Arc<Rules>, Arc<Rules>) {
    let (mut unscoped, mut all) = (Rules::default(), Rules::default());
    let mut has_scopes = false;
    let mut add = |(scope, entry): Use<'_>| {
        has_scopes |= scope.is_some();
        all.extend(table::rules(entry).unwrap_or_default(), scope.map(|scope| (base, scope)));
        if scope.is_none() {
            unscoped.extend(table::rules(entry).unwrap_or_default(), None);
        }
    };
    uses.iter().copied().for_each(&mut add);
    // A language or vision model other than the one its class is made with by default.
    for (scope, part) in parts {
        if let Some(entry) = part.and_then(table::root)
            && uses.iter().all(|(_, used)| table::root(used) != Some(entry))
        {
            add((Some(scope), entry));
        }
    }
    add((None, LEGACY));
    let all = Arc::new(all);
    let unscoped = if has_scopes { Arc::new(unscoped) } else { all.clone() };
    (unscoped, all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn labels(config: serde_json::Value) -> Vec<String> {
        class_rules(&Config::from(config)).into_iter().map(|candidate| candidate.label).collect()
    }

    #[test]
    fn classes_known_and_not() {
        assert_eq!(labels(json!({"architectures": ["MixtralForCausalLM"]})), ["MixtralForCausalLM"]);
        let unknown = labels(json!({"architectures": ["MyMixtral"], "model_type": "mixtral"}));
        assert_eq!(unknown[0], "mixtral");
        assert_eq!(labels(json!({})), ["plain names"]);
    }

    #[test]
    fn another_vision_model() {
        let config = json!({
            "architectures": ["AyaVisionForConditionalGeneration"], "model_type": "aya_vision",
            "vision_config": {"model_type": "siglip_vision_model"},
        });
        let candidate = &class_rules(&Config::from(config))[0];
        for tower in ["vision_tower.vision_model", "model.vision_tower.vision_model", "model.vision_tower"] {
            let name = format!("{tower}.encoder.layers.0.mlp.fc1.weight");
            assert_eq!(candidate.all.rename(&name), "model.vision_tower.encoder.layers.0.mlp.fc1.weight");
        }
    }

    #[test]
    fn another_language_model() {
        let config = json!({
            "architectures": ["LlavaForConditionalGeneration"], "text_config": {"model_type": "mixtral"},
        });
        let candidate = &class_rules(&Config::from(config))[0];
        let name = "language_model.model.layers.0.block_sparse_moe.gate.weight";
        assert_eq!(candidate.all.rename(name), "model.language_model.layers.0.mlp.gate.weight");
        let without = "model.language_model.layers.0.block_sparse_moe.gate.weight";
        assert_eq!(candidate.unscoped.rename(name), without, "no scopes there");
    }
}
