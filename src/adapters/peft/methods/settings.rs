//! Settings of single methods that are one number or one word: a row each in [`NUMBERS`] or [`WORDS`].

use serde_json::Value;

use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::peft::numbers::Numbers;
use crate::adapters::problem::Problem;
use crate::ops::derived::network::Activation;

/// Positive numbers that are not infinite.
const SCALES: Numbers =
    Numbers::new(|number| number.is_finite() && number > 0.0, "is not a number above zero");

/// Layers of a network, each of which has tensors of its own.
const DEPTHS: Numbers = Numbers::new(
    |number| number.fract() == 0.0 && (0.0..=1000.0).contains(&number),
    "is not a whole number up to 1000",
);

/// What torch seeds its generators with, as far as a number of JSON is exact.
const SEEDS: Numbers = Numbers::new(
    |number| number.fract() == 0.0 && number.abs() <= MOST_EXACT,
    "is no whole number of 53 bits",
);

/// Whole numbers up to this one are exact.
const MOST_EXACT: f64 = (1u64 << 53) as f64;

/// Type, field, PEFT's default, and which numbers can be.
const NUMBERS: &[(&str, &str, f64, Numbers)] = &[
    ("ADALORA", "init_r", 12.0, SCALES),
    ("ADALORA", "lora_alpha", 8.0, Numbers::ALPHAS),
    ("VERA", "projection_prng_key", 0.0, SEEDS),
    ("PVERA", "projection_prng_key", 0.0, SEEDS),
    ("RANDLORA", "randlora_alpha", 640.0, Numbers::ALPHAS),
    ("VBLORA", "topk", 2.0, Numbers::RANKS),
    ("GRALORA", "alpha", 64.0, Numbers::ALPHAS),
    ("DEFT", "alpha", 0.0, Numbers::ALPHAS),
    ("PEANUT", "depth", 0.0, DEPTHS),
    ("PEANUT", "scaling", 1.0, Numbers::ALPHAS),
    // Left out or null, it is twice the rank.
    ("SUPERTUNING", "lora_alpha", f64::NAN, Numbers::ALPHAS),
    ("ROAD", "group_size", 64.0, Numbers::RANKS),
    ("FOURIERFT", "scaling", 150.0, Numbers::ALPHAS),
    ("FOURIERFT", "random_loc_seed", 777.0, SEEDS),
    ("WAVEFT", "scaling", 25.0, Numbers::ALPHAS),
    ("WAVEFT", "random_loc_seed", 777.0, SEEDS),
];

/// Numbers that are null by default.
const NULLS: &[(&str, &str)] = &[("DEFT", "alpha"), ("SUPERTUNING", "lora_alpha")];

/// Type, field, PEFT's default, and which words can be. True and false are such words, too.
const WORDS: &[(&str, &str, &str, &[&str])] = &[
    ("VERA", "save_projection", "true", &["true", "false"]),
    ("PVERA", "save_projection", "true", &["true", "false"]),
    ("DEFT", "decomposition_method", "relu", &["relu", "qr"]),
    ("DEFT", "para", "false", &["false", "true"]),
    ("PEANUT", "act_fn", "relu", &ACTIVATIONS),
    ("MISS", "init_weights", "true", &["true", "false", "mini", "bat"]),
    ("HRA", "apply_GS", "false", &["true", "false"]),
    ("ROAD", "variant", "road_1", &["road_1", "road_2", "road_4"]),
    ("WAVEFT", "use_idwt", "true", &["true", "false"]),
    ("WAVEFT", "wavelet_family", "db1", WAVELETS),
];

/// What a network may have between its layers.
const ACTIVATIONS: [&str; 9] = {
    let mut names = [""; 9];
    let mut i = 0;
    while i < names.len() {
        names[i] = Activation::NAMES[i].0;
        i += 1;
    }
    names
};

/// Wavelets that PEFT has filters for, and sizes that fit them.
const WAVELETS: &[&str] = &[
    "db1", "db2", "db3", "db4", "db5", "db6", "db7", "db8", "db9", "db10", "sym2", "sym3", "sym4", "sym5",
    "sym6", "sym7", "sym8", "sym9", "sym10", "coif1", "coif2", "coif3", "coif4",
];

/// What a config sets of both tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct MethodSettings {
    numbers: Vec<(&'static str, Result<f64, Problem>)>,
    words: Vec<(&'static str, Result<&'static str, Problem>)>,
}

impl MethodSettings {
    /// Reads those of the config's type.
    pub(crate) fn read(config: &AdapterConfig) -> MethodSettings {
        let kind = config.text("peft_type").unwrap_or_default();
        let bad = |field: &str, value: &Value, why| Problem::Value {
            field: field.to_owned(),
            value: value.clone(),
            why,
        };
        let mut settings = MethodSettings::default();
        for &(_, field, default, numbers) in NUMBERS.iter().filter(|row| row.0 == kind) {
            let read = match config.stated(field) {
                None => Ok(default),
                // PEFT's own default.
                Some(Value::Null) if NULLS.contains(&(kind, field)) => Ok(default),
                Some(value) => numbers.read(value).map_err(|why| bad(field, value, why)),
            };
            settings.numbers.push((field, read));
        }
        for &(_, field, default, words) in WORDS.iter().filter(|row| row.0 == kind) {
            let read = match config.stated(field) {
                None => Ok(default),
                Some(value) => {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    let word = words.iter().find(|word| **word == text);
                    word.copied().ok_or_else(|| bad(field, value, "is no value that PEFT has for it"))
                }
            };
            settings.words.push((field, read));
        }
        settings
    }

    /// The number of a field of the adapter's method.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn number(&self, field: &str) -> Result<f64, Problem> {
        let found = self.numbers.iter().find(|(name, _)| *name == field);
        debug_assert!(found.is_some(), "`{field}` is a row of the table");
        found.map_or(Ok(0.0), |(_, number)| number.clone())
    }

    /// The word of a field of the adapter's method.
    ///
    /// # Errors
    /// Why it is none.
    pub(crate) fn word(&self, field: &str) -> Result<&'static str, Problem> {
        let found = self.words.iter().find(|(name, _)| *name == field);
        debug_assert!(found.is_some(), "`{field}` is a row of the table");
        found.map_or(Ok(""), |(_, word)| word.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_is_peft_s_and_what_is_wrong_is_told() {
        let read = |fields: Value| {
            let config = AdapterConfig::new("style".into(), fields.as_object().expect("an object").clone());
            MethodSettings::read(&config).number("init_r")
        };
        assert!(read(json!({"peft_type": "ADALORA"})).is_ok_and(|number| number == 12.0));
        assert!(read(json!({"peft_type": "ADALORA", "init_r": 6})).is_ok_and(|number| number == 6.0));
        for wrong in [json!(0), json!("x"), json!(null), json!(-1)] {
            assert!(read(json!({"peft_type": "ADALORA", "init_r": wrong})).is_err(), "{wrong}");
        }
    }
}
