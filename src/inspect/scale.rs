//! Rank and alpha of modules whose keys do not say which parameter they are for.

use crate::adapters::options::{Options, Planned};
use crate::error::Result;

/// Rank and alpha that the options give what the keys call `module`; none if the parameters that it may be disagree.
///
/// # Errors
/// As [`Options::planned`].
pub(crate) fn planned(options: &Options, module: &str) -> Result<Option<Planned>> {
    let mut agreed = None;
    for path in paths(options, module) {
        let found = options.planned(&path)?;
        if agreed.is_some_and(|agreed| agreed != found) {
            return Ok(None);
        }
        agreed = Some(found);
    }
    Ok(agreed)
}

/// What patterns may call a module: its path, or where `target_parameters` are set the paths of those parameters of it.
///
/// Keys name only the module of such a parameter, and several of one module are told apart by how often `base_layer` stands
/// behind it, in an order that the model's class decides.
fn paths(options: &Options, module: &str) -> Vec<String> {
    let mut owner = module;
    while let Some(inner) = owner.strip_suffix(".base_layer") {
        owner = inner;
    }
    let is_of = |of: &str| owner == of || owner.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    let targets = options.target_parameters.iter().filter_map(|target| target.rsplit_once('.'));
    let paths: Vec<String> =
        targets.filter(|(of, _)| is_of(of)).map(|(_, parameter)| format!("{owner}.{parameter}")).collect();
    if paths.is_empty() { vec![module.to_owned()] } else { paths }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapters::peft::config::AdapterConfig;
    use crate::adapters::peft::options::options;

    #[test]
    fn parameters_of_one_module_must_agree() {
        let fields = json!({
            "peft_type": "LORA", "r": 2, "lora_alpha": 6,
            "target_parameters": ["experts.up", "experts.down", "gate.weight"],
            "alpha_pattern": {"experts.down": 7, "gate.weight": 8},
        });
        let config = AdapterConfig::new("style".into(), fields.as_object().expect("an object").clone());
        let options = options(&config);
        let of = |module| planned(&options, module).expect("valid");
        let alpha = |alpha| Some(Planned { rank: 2.0, alpha });
        assert_eq!(of("mlp.experts"), None, "the file does not say which of the two it is");
        assert_eq!(of("mlp.experts.base_layer"), None);
        assert_eq!(of("mlp.gate"), alpha(8.0));
        assert_eq!(of("mlp.my_experts"), alpha(6.0), "another module");
        assert_eq!(of("q"), alpha(6.0));
    }
}
