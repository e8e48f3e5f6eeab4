//! Numbers of `adapter_config.json` that decide arithmetic: which of them a merge takes.

use serde_json::Value;

/// Said of null.
const NULL: &str = "is no number: leave the field out for PEFT's default, or set what training had";
/// Said of what Python writes for numbers that JSON does not have, which are read as their text.
const NOT_FINITE: &str =
    "is not a finite number: leave the field out for PEFT's default, or set what training had";

/// No axis of a tensor is longer.
const MOST: f64 = (1u64 << 53) as f64;

/// A kind of numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    is_one: fn(f64) -> bool,
    why_not: &'static str,
}

impl Numbers {
    /// Inner dimensions of factors.
    pub(crate) const RANKS: Numbers = Numbers::new(
        |number| number.fract() == 0.0 && (1.0..=MOST).contains(&number),
        "is not a whole number above zero",
    );
    /// What ranks divide.
    pub(crate) const ALPHAS: Numbers = Numbers::new(f64::is_finite, "is not a number");
    /// Sizes of blocks, of which 0 leaves it to another field.
    pub(crate) const BLOCK_SIZES: Numbers = Numbers::new(
        |number| number.fract() == 0.0 && (0.0..=MOST).contains(&number),
        "is not a whole number that a block may have rows",
    );

    /// A kind of numbers, and what is said of others, which follows on "which".
    pub(crate) const fn new(is_one: fn(f64) -> bool, why_not: &'static str) -> Numbers {
        Numbers { is_one, why_not }
    }

    /// The number that a value is.
    ///
    /// # Errors
    /// Why it is none of these.
    pub(crate) fn read(self, value: &Value) -> Result<f64, &'static str> {
        match value {
            Value::Null => return Err(NULL),
            Value::String(text) if text.parse().is_ok_and(|number: f64| !number.is_finite()) => {
                return Err(NOT_FINITE);
            }
            _ => {}
        }
        value.as_f64().filter(|&number| (self.is_one)(number)).ok_or(self.why_not)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_number_is_refused() {
        for (value, rank, alpha) in [
            (json!(4), true, true),
            (json!(4.0), true, true),
            (json!(4.5), false, true),
            (json!(0), false, true),
            (json!(-4), false, true),
            (json!(1e300), false, true),
            (json!(null), false, false),
            (json!("4"), false, false),
            (json!(true), false, false),
            (json!([4]), false, false),
            (json!({}), false, false),
        ] {
            let is_read = [Numbers::RANKS, Numbers::ALPHAS].map(|numbers| numbers.read(&value).is_ok());
            assert_eq!(is_read, [rank, alpha], "{value}");
        }
        assert_eq!(Numbers::ALPHAS.read(&Value::Null), Err(NULL));
        for text in ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"] {
            assert_eq!(Numbers::ALPHAS.read(&json!(text)), Err(NOT_FINITE));
            assert_eq!(Numbers::RANKS.read(&json!(text)), Err(NOT_FINITE));
        }
    }
}
