//! OFT's options: how its rotations are made, and what tells of the PEFT that made the adapter.

use serde_json::Value;

use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::numbers::Numbers;
use crate::adapters::problem::Problem;
use crate::ops::rotate::Cayley;

/// Terms of a series; more change nothing if it converges.
const TERMS: Numbers =
    Numbers::new(|terms| terms.fract() == 0.0 && terms <= 1000.0, "is not a whole number up to 1000");

/// Options of OFT.
#[derive(Clone, Debug)]
pub(crate) struct OftOptions {
    /// How rotations are made.
    pub cayley: Result<Cayley, Problem>,
    /// One block serves all of a row.
    pub is_shared: bool,
    /// The config has the size of a block, as from PEFT 0.14 on.
    pub has_block_size: bool,
    /// A PEFT before 0.18 made it.
    pub is_before_0_18: bool,
}

impl OftOptions {
    /// Reads them.
    pub(crate) fn read(config: &AdapterConfig) -> OftOptions {
        OftOptions {
            cayley: cayley(config),
            is_shared: config.is_set("block_share"),
            has_block_size: config.get("oft_block_size").is_some(),
            is_before_0_18: is_before_0_18(config.text("peft_version").unwrap_or_default()),
        }
    }
}

fn cayley(config: &AdapterConfig) -> Result<Cayley, Problem> {
    let bad =
        |name: &str, value: &Value, why| Problem::Value { field: name.to_owned(), value: value.clone(), why };
    // Null is false where PEFT's default is false, and nobody's choice where it is true.
    let flag = |name: &str, default: bool| match config.stated(name) {
        None => Ok(default),
        Some(Value::Null) if !default => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| bad(name, value, "is neither true nor false")),
    };
    let number = |name: &str, default: f64, numbers: Numbers, is_used: bool| match config.stated(name) {
        None => Ok(default),
        // Null decides nothing where the number is for what is off.
        Some(Value::Null) if !is_used => Ok(default),
        Some(value) => numbers.read(value).map_err(|why| bad(name, value, why)),
    };
    let is_series = flag("use_cayley_neumann", true)?;
    let is_short = flag("coft", false)?;
    let terms = number("num_cayley_neumann_terms", 5.0, TERMS, is_series)?;
    let eps = number("eps", 6e-5, Numbers::ALPHAS, is_short)?;
    // The shapes tell the size, and what they share.
    number("oft_block_size", 0.0, Numbers::BLOCK_SIZES, true)?;
    number("r", 0.0, Numbers::BLOCK_SIZES, false)?;
    flag("block_share", false)?;
    Ok(Cayley { series: is_series.then_some(terms.max(0.0) as usize), eps: is_short.then_some(eps) })
}

/// Whether a version is one before 0.18, from which on PEFT writes it.
fn is_before_0_18(version: &str) -> bool {
    let version = version.split('@').next().unwrap_or_default();
    let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let is_early =
        version.starts_with("0.18.0") && version.len() > "0.18.0".len() && !version.contains("post");
    (major, minor) < (0, 18) || is_early
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, early) in [
            ("0.17.1", true),
            ("0.18.0.dev0@abc", true),
            ("0.18.0rc1", true),
            ("0.18.0", false),
            ("0.18.0@abc", false),
            ("0.18.0.post1", false),
            ("0.18.1", false),
            ("0.21.2", false),
            ("1.0", false),
            ("", true),
        ] {
            assert_eq!(is_before_0_18(version), early, "{version}");
        }
    }
}
