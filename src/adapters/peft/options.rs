//! Fields of `adapter_config.json` as [`Options`].

use serde_json::Value;

use crate::adapters::options::{DEFAULT, Options, TrainedClasses};
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::methods::method_options::MethodOptions;
use crate::adapters::peft::numbers::Numbers;
use crate::adapters::peft::patterns::{PatternProblem, Patterns};
use crate::adapters::problem::Problem;

/// What each `peft_type` that scales its deltas calls alpha.
const ALPHAS: &[(&str, &str)] = &[("LORA", "lora_alpha"), ("LOHA", "alpha"), ("LOKR", "alpha")];
const NO_OBJECT: &str = "is no object of patterns with their numbers";

/// The options that `config` sets.
pub(crate) fn options(config: &AdapterConfig) -> Options {
    let text = |name| config.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let mut options = Options {
        rslora: config.is_set("use_rslora"),
        dora: config.is_set("use_dora"),
        fan_in_fan_out: config.is_set("fan_in_fan_out"),
        lora_bias: config.is_set("lora_bias"),
        ensure_weight_tying: config.is_set("ensure_weight_tying"),
        target_parameters: config.list("target_parameters").into_iter().map(str::to_owned).collect(),
        base: text("base_model_name_or_path"),
        revision: text("revision"),
        trained_on: trained_on(config),
        task: text("task_type"),
        class: class(config).map(str::to_owned),
        saved: config.list("modules_to_save").into_iter().map(str::to_owned).collect(),
        biases: config.text("bias").is_some_and(|bias| bias != "none"),
        labels: config.get("id2label").and_then(Value::as_object).cloned(),
        methods: MethodOptions::read(config),
        ..Options::new(config.adapter.clone())
    };
    let parameters = config.get("target_parameters");
    if let Some(value) = parameters.filter(|value| config.list("target_parameters").len() != len(value)) {
        let (field, value) = ("target_parameters".to_owned(), value.clone());
        options.problems.push(Problem::Value { field, value, why: "is no list of names" });
    }
    let kind = config.text("peft_type").unwrap_or_default();
    if let Some((_, alpha)) = ALPHAS.iter().find(|(of, _)| *of == kind) {
        read_scales(config, alpha, &mut options);
    }
    options
}

/// The class of transformers that PEFT wrapped: it names it where no `task_type` tells.
fn class(config: &AdapterConfig) -> Option<&str> {
    let mapping = config.get("auto_mapping")?;
    let is_of_transformers = mapping.get("parent_library")?.as_str()?.starts_with("transformers.");
    mapping.get("base_model_class")?.as_str().filter(|_| is_of_transformers)
}

/// Entries of a list, of which anything else has one.
fn len(list: &Value) -> usize {
    list.as_array().map_or(1, Vec::len)
}

/// What the config says of the model's class: PEFT's `auto_mapping`, and what others write.
fn trained_on(config: &AdapterConfig) -> TrainedClasses {
    let mapping = |name| config.get("auto_mapping")?.get(name)?.as_str();
    let classes = mapping("base_model_class").into_iter().chain(config.list("architectures"));
    // `transformers.models.llama.modeling_llama`
    let library = mapping("parent_library").and_then(|library| library.strip_prefix("transformers.models."));
    let types = library.and_then(|library| library.split('.').next());
    TrainedClasses {
        classes: classes.map(str::to_owned).collect(),
        types: types.into_iter().map(str::to_owned).collect(),
    }
}

/// Ranks and alphas, of all modules and of single ones.
fn read_scales(config: &AdapterConfig, alpha_field: &'static str, options: &mut Options) {
    options.alpha_field = alpha_field;
    options.rank = number(config, "r", Numbers::RANKS, &mut options.problems);
    options.alpha = number(config, alpha_field, Numbers::ALPHAS, &mut options.problems);
    options.ranks = patterns(config, "rank_pattern", Numbers::RANKS, &mut options.problems);
    options.alphas = patterns(config, "alpha_pattern", Numbers::ALPHAS, &mut options.problems);
}

/// The number of a field, or PEFT's default where it is left out. Null is refused: PEFT cannot use it either, and whoever wrote
/// it may have meant anything.
fn number(config: &AdapterConfig, name: &str, numbers: Numbers, problems: &mut Vec<Problem>) -> f64 {
    let Some(value) = config.stated(name) else { return DEFAULT };
    numbers.read(value).unwrap_or_else(|why| {
        problems.push(Problem::Value { field: name.to_owned(), value: value.clone(), why });
        DEFAULT
    })
}

fn patterns(
    config: &AdapterConfig,
    field: &'static str,
    numbers: Numbers,
    problems: &mut Vec<Problem>,
) -> Patterns {
    let Some(value) = config.stated(field) else { return Patterns::default() };
    let Some(keys) = value.as_object() else {
        let (field, value) = (field.to_owned(), value.clone());
        problems.push(Problem::Value { field, value, why: NO_OBJECT });
        return Patterns::default();
    };
    let (patterns, wrong) = Patterns::read(field, keys, numbers);
    problems.extend(wrong.into_iter().map(|wrong| match wrong {
        PatternProblem::Key(pattern, cause) => Problem::Pattern { field: field.to_owned(), pattern, cause },
        PatternProblem::Number(value, why) => Problem::Value { field: field.to_owned(), value, why },
    }));
    patterns
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapters::options::RankAlpha;

    fn read(fields: &Value) -> Options {
        options(&AdapterConfig::new("style".into(), fields.as_object().expect("an object").clone()))
    }

    #[test]
    fn ranks_and_alphas_are_peft_s() {
        let options = read(&json!({"peft_type": "LORA", "lora_alpha": 6, "alpha_pattern": {"q": 7}}));
        assert!(options.planned("m.q").is_ok_and(|found| found == RankAlpha { rank: 8.0, alpha: 7.0 }));
        assert!(options.planned("m.k").is_ok_and(|found| found == RankAlpha { rank: 8.0, alpha: 6.0 }));
        let options = read(&json!({"peft_type": "LOKR", "alpha": 5, "lora_alpha": 6, "r": 2}));
        assert!(options.planned("m.k").is_ok_and(|found| found == RankAlpha { rank: 2.0, alpha: 5.0 }));
    }

    #[test]
    fn parameters_of_one_module_must_agree() {
        let options = read(&json!({
            "peft_type": "LORA", "r": 2, "lora_alpha": 6,
            "target_parameters": ["experts.up", "experts.down", "gate.weight"],
            "alpha_pattern": {"experts.down": 7, "gate.weight": 8},
        }));
        let of = |module| options.planned_by_key(module).expect("quick");
        let alpha = |alpha| Some(RankAlpha { rank: 2.0, alpha });
        assert_eq!(of("mlp.experts"), None, "the file does not say which of the two it is");
        assert_eq!(of("mlp.experts.base_layer"), None);
        assert_eq!(of("mlp.gate"), alpha(8.0));
        assert_eq!(of("mlp.my_experts"), alpha(6.0), "another module");
        assert_eq!(of("q"), alpha(6.0));
    }

    #[test]
    fn all_that_is_of_a_wrong_type_is_refused_once() {
        let fields =
            json!({"peft_type": "LORA", "r": "x", "rank_pattern": {"(": 1}, "alpha_pattern": {"q": []}});
        let texts: Vec<String> = read(&fields).refused().iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 3);
        assert_eq!(texts[0], "adapter `style` sets `r` to `x`, which is not a whole number above zero");
        assert!(texts[1].contains("rank_pattern"), "{}", texts[1]);
        assert_eq!(texts[2], "adapter `style` sets `alpha_pattern` to `[]`, which is not a number");
        let other = json!({"peft_type": "IA3", "r": "x"});
        assert!(read(&other).refused().is_empty(), "no rank decides anything in IA³");
    }
}
