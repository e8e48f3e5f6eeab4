//! What LoRA's products are multiplied by: `alpha/rank`, or `alpha/√rank`, with the config's patterns.

use crate::adapters::AdapterConfig;
use crate::adapters::config::Patterns;
use crate::error::Error;

/// PEFT's default of both `r` and `lora_alpha`.
const DEFAULT: f64 = 8.0;

/// The scales of one adapter's modules.
pub(super) struct Scales<'c> {
    /// `r`.
    pub(super) rank: f64,
    /// `lora_alpha`.
    pub(super) alpha: f64,
    /// Whether the divisor is the root of the rank.
    pub(super) rslora: bool,
    ranks: Patterns<'c>,
    alphas: Patterns<'c>,
}

impl<'c> Scales<'c> {
    /// The scales that a config of type LORA sets.
    ///
    /// # Errors
    /// [`ErrorKind::Field`](crate::error::ErrorKind::Field) for what should be a number and is none,
    /// [`ErrorKind::Pattern`](crate::error::ErrorKind::Pattern).
    pub(super) fn new(config: &'c AdapterConfig) -> Result<Scales<'c>, Error> {
        let number = |name: &str| match config.get(name) {
            None => Ok(DEFAULT),
            Some(value) => value.as_f64().ok_or_else(|| config.bad(name, value, "is not a number")),
        };
        Ok(Scales {
            rank: number("r")?,
            alpha: number("lora_alpha")?,
            rslora: config.is_set("use_rslora"),
            ranks: config.patterns("rank_pattern")?,
            alphas: config.patterns("alpha_pattern")?,
        })
    }

    /// The rank that the config gives a module.
    ///
    /// # Errors
    /// As [`Patterns::number`].
    pub(super) fn rank(&self, module: &str) -> Result<f64, Error> {
        self.ranks.number(self.rank, module)
    }

    /// The scale of a module whose factors have this rank; none if it is no finite number.
    ///
    /// # Errors
    /// As [`Patterns::number`].
    pub(super) fn scale(&self, module: &str, rank: u64) -> Result<Option<f64>, Error> {
        let alpha = self.alphas.number(self.alpha, module)?;
        let divisor = if self.rslora { (rank as f64).sqrt() } else { rank as f64 };
        Ok(Some(alpha / divisor).filter(|scale| scale.is_finite()))
    }
}
