//! Fields of `adapter_config.json` as [`Options`].

use serde_json::Value;

use crate::adapters::options::{DEFAULT, Options, Problem, TrainedClasses};
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::patterns::{PatternProblem, Patterns};

/// What each `peft_type` that scales its deltas calls alpha.
const ALPHAS: &[(&str, &str)] = &[("LORA", "lora_alpha"), ("LOHA", "alpha"), ("LOKR", "alpha")];
const NOT_A_NUMBER: &str = "is not a number";

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
        ..Options::new(config.adapter.clone())
    };
    let kind = config.text("peft_type").unwrap_or_default();
    if let Some((_, alpha)) = ALPHAS.iter().find(|(of, _)| *of == kind) {
        read_scales(config, alpha, &mut options);
    }
    options
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
    options.rank = number(config, "r", &mut options.problems);
    options.alpha = number(config, alpha_field, &mut options.problems);
    options.ranks = patterns(config, "rank_pattern", &mut options.problems);
    options.alphas = patterns(config, "alpha_pattern", &mut options.problems);
}

fn number(config: &AdapterConfig, name: &str, problems: &mut Vec<Problem>) -> f64 {
    let Some(value) = config.get(name) else { return DEFAULT };
    value.as_f64().unwrap_or_else(|| {
        problems.push(Problem::Value { field: name.to_owned(), value: value.clone(), why: NOT_A_NUMBER });
        DEFAULT
    })
}

fn patterns(config: &AdapterConfig, field: &'static str, problems: &mut Vec<Problem>) -> Patterns {
    let Some(keys) = config.get(field).and_then(Value::as_object) else { return Patterns::default() };
    let (patterns, wrong) = Patterns::read(field, keys);
    problems.extend(wrong.into_iter().map(|wrong| match wrong {
        PatternProblem::Key(pattern, cause) => Problem::Pattern { field: field.to_owned(), pattern, cause },
        PatternProblem::Number(value) => Problem::Value { field: field.to_owned(), value, why: NOT_A_NUMBER },
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
        assert_eq!(texts[0], "adapter `style` sets `r` to `x`, which is not a number");
        assert!(texts[1].contains("rank_pattern"), "{}", texts[1]);
        assert_eq!(texts[2], "adapter `style` sets `alpha_pattern` to `[]`, which is not a number");
        let other = json!({"peft_type": "IA3", "r": "x"});
        assert!(read(&other).refused().is_empty(), "no rank decides anything in IA³");
    }
}
