//! What LoRA's products are multiplied by: `alpha/rank`, or `alpha/√rank`, with the config's patterns.

use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::patterns::Patterns;
use crate::error::Error;

/// PEFT's default of both `r` and `lora_alpha`.
const DEFAULT: f64 = 8.0;

/// The scales of one adapter's modules.
pub(crate) struct Scales<'c> {
    /// `r`.
    pub(crate) rank: f64,
    /// `lora_alpha`.
    pub(crate) alpha: f64,
    /// Whether the divisor is the root of the rank.
    pub(crate) rslora: bool,
    ranks: Patterns<'c>,
    alphas: Patterns<'c>,
}

impl<'c> Scales<'c> {
    /// The scales that a config of type LORA sets.
    ///
    /// # Errors
    /// [`ErrorKind::Field`](crate::error::kind::ErrorKind::Field) for what should be a number and is none.
    pub(crate) fn new(config: &'c AdapterConfig) -> Result<Scales<'c>, Error> {
        let number = |name: &str| match config.get(name) {
            None => Ok(DEFAULT),
            Some(value) => value.as_f64().ok_or_else(|| config.bad(name, value, "is not a number")),
        };
        Ok(Scales {
            rank: number("r")?,
            alpha: number("lora_alpha")?,
            rslora: config.is_set("use_rslora"),
            ranks: Patterns::new(config, "rank_pattern"),
            alphas: Patterns::new(config, "alpha_pattern"),
        })
    }

    /// Rank and alpha that the config gives what is called by one of `paths`; none if they would differ.
    ///
    /// # Errors
    /// As [`Patterns::number`].
    pub(crate) fn of(&self, paths: &[String]) -> Result<Option<(f64, f64)>, Error> {
        let mut agreed = None;
        for path in paths {
            let found = (self.ranks.number(self.rank, path)?, self.alphas.number(self.alpha, path)?);
            if agreed.is_some_and(|agreed| agreed != found) {
                return Ok(None);
            }
            agreed = Some(found);
        }
        Ok(agreed)
    }

    /// The scale of factors of this rank; none if it is no finite number.
    pub(crate) fn scale(&self, alpha: f64, rank: u64) -> Option<f64> {
        let divisor = if self.rslora { (rank as f64).sqrt() } else { rank as f64 };
        Some(alpha / divisor).filter(|scale| scale.is_finite())
    }
}

/// What patterns may call a module: its path, or where `target_parameters` are set the paths of those parameters of it.
///
/// Keys name only the module of such a parameter, and several of one module are told apart by how often `base_layer` stands
/// behind it, in an order that the model's class decides.
pub(crate) fn paths(config: &AdapterConfig, module: &str) -> Vec<String> {
    let mut owner = module;
    while let Some(inner) = owner.strip_suffix(".base_layer") {
        owner = inner;
    }
    let is_of = |of: &str| owner == of || owner.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    let targets = config.list("target_parameters").into_iter().filter_map(|target| target.rsplit_once('.'));
    let paths: Vec<String> =
        targets.filter(|(of, _)| is_of(of)).map(|(_, parameter)| format!("{owner}.{parameter}")).collect();
    if paths.is_empty() { vec![module.to_owned()] } else { paths }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(fields: serde_json::Value) -> AdapterConfig {
        AdapterConfig::new("style".into(), fields.as_object().expect("an object").clone())
    }

    #[test]
    fn parameters_of_one_module_must_agree() {
        let config = config(json!({
            "r": 2, "lora_alpha": 6, "use_rslora": true,
            "target_parameters": ["experts.up", "experts.down", "gate.weight"],
            "alpha_pattern": {"experts.down": 7, "gate.weight": 8},
        }));
        let scales = Scales::new(&config).expect("valid");
        let of = |module| scales.of(&paths(&config, module)).expect("valid");
        assert_eq!(of("mlp.experts"), None, "the file does not say which of the two it is");
        assert_eq!(of("mlp.experts.base_layer"), None);
        assert_eq!(of("mlp.gate"), Some((2.0, 8.0)));
        assert_eq!(of("mlp.my_experts"), Some((2.0, 6.0)), "another module");
        assert_eq!(of("q"), Some((2.0, 6.0)));
        assert_eq!(scales.scale(6.0, 4), Some(3.0));
        assert_eq!(scales.scale(6.0, 0), None);
    }
}
