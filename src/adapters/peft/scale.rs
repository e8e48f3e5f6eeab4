//! Scales of modules: `weight · alpha/rank`, or `/ √rank`, with the config's patterns. Whoever makes an op of one rounds it to f32
//! once.

use serde_json::Value;

use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::patterns::Patterns;
use crate::error::Result;
use crate::error::kind::ErrorKind;

/// PEFT's default of `r` and of alpha, for files that leave them out.
const DEFAULT: f64 = 8.0;

/// The ranks and alphas that one adapter's config gives its modules.
pub(crate) struct Scales<'c> {
    config: &'c AdapterConfig,
    /// What the adapter is added with.
    weight: f64,
    ranks: Patterns<'c>,
    alphas: Patterns<'c>,
}

impl<'c> Scales<'c> {
    /// Reads the config's patterns, once for all modules of an adapter that is added with `weight`.
    pub(crate) fn new(config: &'c AdapterConfig, weight: f64) -> Scales<'c> {
        let (ranks, alphas) = (Patterns::new(config, "rank_pattern"), Patterns::new(config, "alpha_pattern"));
        Scales { config, weight, ranks, alphas }
    }

    /// The scale of a module, in f64, of factors of `rank`, where their shapes tell one. Alpha is the field `alpha_field`.
    ///
    /// # Errors
    /// What is no number, another rank than the config gives the module, a scale that is not finite.
    pub(crate) fn of(&self, alpha_field: &str, module: &str, rank: Option<u64>) -> Result<f64> {
        let config = self.config;
        let planned = self.ranks.number(self.field("r")?, module)?;
        let alpha = self.alphas.number(self.field(alpha_field)?, module)?;
        if let Some(found) = rank.filter(|&rank| planned != rank as f64) {
            let (adapter, module) = (config.adapter.clone(), module.to_owned());
            return Err(ErrorKind::Rank { adapter, module, found, expected: planned as u64 }.into());
        }
        let divisor = if config.is_set("use_rslora") { planned.sqrt() } else { planned };
        let scale = self.weight * alpha / divisor;
        if (scale as f32).is_finite() {
            return Ok(scale);
        }
        Err(config.bad(alpha_field, &Value::from(alpha), "gives a scale that is not a finite number"))
    }

    fn field(&self, name: &str) -> Result<f64> {
        match self.config.get(name) {
            None => Ok(DEFAULT),
            Some(value) => value.as_f64().ok_or_else(|| self.config.bad(name, value, "is not a number")),
        }
    }
}
