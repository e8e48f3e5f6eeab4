//! Tails that mean another thing for what else their module has: LyCORIS calls the factors around a core as those of LoRA, and the
//! magnitudes of all its methods alike.
//!
//! Sources: lycoris-lora 4.1 `modules/locon.py` (`lora_mid`), `modules/ia3.py` (`on_input`), `functional/general.py` (`weight_decompose`: norms of
//! outputs are `[out, 1, ...]`, of inputs `[1, in, ...]`).

use std::collections::{HashMap, HashSet};

use crate::error::Result;
use crate::error::claim::ClaimError;
use crate::formats::container::TensorEntry;
use crate::storage::source::Source;

use crate::adapters::image::keys::{DIFF_BIAS, IA3_OUTPUTS, Key, ON_INPUT};
use crate::adapters::image::scales::number;

/// Magnitudes by PEFT's name.
const MAGNITUDE: &str = ".lora_magnitude_vector";
/// LyCORIS' name for it.
const DORA_SCALE: &str = ".dora_scale";
/// LoRA's magnitudes of inputs.
const OF_INPUTS: &str = ".lora_magnitude_inputs";
const CORE: &str = ".lora_mid.weight";

/// How a tail of the module begins, a tail, and what it is then.
const BESIDE: &[(&str, &str, &str)] = &[
    (CORE, ".lora_A.weight", ".tucker_down"),
    (CORE, ".lora_B.weight", ".tucker_up"),
    (CORE, MAGNITUDE, ".tucker_magnitude"),
    (CORE, CORE, ".tucker_core"),
    (".hada_", MAGNITUDE, ".hada_magnitude"),
    (".lokr_", MAGNITUDE, ".lokr_magnitude"),
];

/// Gives each key the tail that it has in its module.
///
/// # Errors
/// [`ClaimError::Unclaimed`] for a module that two methods change.
pub(crate) fn settle(adapter: &str, keys: &mut [(Key, TensorEntry)], source: &dyn Source) -> Result<()> {
    let mut starts: HashSet<(&str, String)> = HashSet::new();
    for (key, entry) in &*keys {
        let Some(tail) = key.tail else { continue };
        if let Some((start, ..)) = BESIDE.iter().find(|(start, ..)| tail.starts_with(start)) {
            starts.insert((start, key.whole_module()));
        }
        if tail == ON_INPUT && number(adapter, source, entry)? != 0.0 {
            starts.insert((ON_INPUT, key.whole_module()));
        }
    }
    for (key, entry) in keys.iter_mut() {
        let Some(tail) = key.tail else { continue };
        let is_beside = |start| starts.contains(&(start, key.whole_module()));
        let of_inputs = entry.name.ends_with(DORA_SCALE)
            && matches!(entry.shape.axes(), [1, rest @ ..] if rest.iter().any(|&axis| axis > 1));
        let own = BESIDE.iter().find(|(start, old, _)| *old == tail && is_beside(start));
        key.tail = match own {
            Some((.., new)) => Some(new),
            None if tail == MAGNITUDE && of_inputs => Some(OF_INPUTS),
            None if tail == IA3_OUTPUTS && is_beside(ON_INPUT) => Some(".ia3_inputs"),
            None => Some(tail),
        };
    }
    check_methods(adapter, keys)
}

/// Refuses a module whose weight two methods change.
fn check_methods(adapter: &str, keys: &[(Key, TensorEntry)]) -> Result<()> {
    let mut methods: HashMap<String, &str> = HashMap::new();
    for (key, entry) in keys {
        // `.lora` of `.lora_A.weight`.
        let tail = key.tail.filter(|&tail| tail != DIFF_BIAS && tail != ON_INPUT);
        let Some(method) = tail.and_then(|tail| tail.split('_').next()) else { continue };
        if *methods.entry(key.whole_module()).or_insert(method) != method {
            return Err(refusal(adapter, entry, "another method changes its module too"));
        }
    }
    Ok(())
}

fn refusal(adapter: &str, entry: &TensorEntry, why: &'static str) -> crate::error::Error {
    let (adapter, key) = (adapter.to_owned(), entry.name.to_string());
    ClaimError::Unclaimed { adapter, key, why }.into()
}
