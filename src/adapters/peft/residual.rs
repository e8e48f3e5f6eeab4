//! Adapters that belong on another base than the one they name: factors that training began from parts of the base.
//!
//! PiSSA and its kin take the principal parts out of the base when training begins, so that their factors mean something
//! only on what is left of it. PEFT and LLaMA-Factory save such an adapter three times over, `pissa_init` as it began,
//! `pissa_backup` as it ended, and `pissa_converted` for the base as it is. All of them say `init_lora_weights: true`, and
//! only their names tell (key-mapping.md 15).

use serde_json::Value;

use crate::error::adapter::AdapterError;
use crate::error::{Error, Result};
use crate::formats::json::parse_json_as_written;
use crate::storage::location::Location;
use crate::storage::store::Store;

use crate::adapters::adapter::Adapter;
use crate::adapters::peft::folder::{CONFIG, MOST_CONFIG_BYTES};

/// Ways of beginning that take parts out of the base: in names of directories, and as they are written.
const METHODS: &[(&str, &str)] = &[
    ("pissa", "PiSSA"),
    ("olora", "OLoRA"),
    ("corda", "CorDA"),
    ("lora_ga", "LoRA-GA"),
    ("loraga", "LoRA-GA"),
];
/// What saves for the base that is left are called behind the method.
const ON_RESIDUAL: &[&str] = &["_init", "_backup"];
/// What a save for the whole base is called.
const CONVERTED: &str = "_converted";
/// What the saves of one run agree on, but for the converted one, whose rank is twice that.
const OF_ONE_RUN: &[&str] = &["r", "lora_alpha", "target_modules"];

/// A run that began so: its method, and the directory of its saves.
struct Run {
    method: (&'static str, &'static str),
    dir: Option<Location>,
}

/// The refusal of an adapter that belongs on what such a method left of the base.
///
/// # Errors
/// As [`Store::stat`] and [`Location::read_small`].
pub(crate) fn on_residual(adapter: &Adapter) -> Result<Option<Error>> {
    let Some(Run { method: (name, method), dir }) = run(adapter)? else { return Ok(None) };
    let converted = format!("{name}{CONVERTED}");
    let cure = match dir.map(|dir| dir.join(&converted)) {
        Some(whole) if whole.stat(CONFIG)?.is_some() => {
            format!("`{whole}` is the same adapter for the base as it is: merge that")
        }
        _ => format!(
            "merge the adapter that LLaMA-Factory writes to `{converted}` (`pissa_convert: true`), or save it again in PEFT with \
             `path_initial_model_for_weight_conversion`"
        ),
    };
    let (adapter, path) = (adapter.name.clone(), adapter.location.path());
    Ok(Some(Error::new(AdapterError::OnResidual { adapter, path, method }).hint(cure)))
}

/// The run that an adapter is a save of, by its name or by what lies in its directory or beside it.
fn run(adapter: &Adapter) -> Result<Option<Run>> {
    let home = &adapter.location;
    let resolved = Location::of_resolved_path(home.path());
    let names: Vec<&str> = [home.name(), resolved.name()].into_iter().flatten().collect();
    let named = |end: &str| {
        let is_one = |method: &&(&str, &str)| names.iter().any(|name| is_named(name, method.0, end));
        METHODS.iter().find(is_one).copied()
    };
    if named(CONVERTED).is_some() {
        return Ok(None);
    }
    if let Some(method) = ON_RESIDUAL.iter().find_map(|end| named(end)) {
        return Ok(Some(Run { method, dir: home.parent() }));
    }
    // A run keeps these saves in its own directory, beside its checkpoints.
    for dir in [Some(home.clone()), home.parent()].into_iter().flatten() {
        for &method in METHODS {
            for end in ON_RESIDUAL {
                if is_of_run(adapter, &dir.join(&format!("{}{end}", method.0)))? {
                    return Ok(Some(Run { method, dir: Some(dir) }));
                }
            }
        }
    }
    Ok(None)
}

/// Whether there is an adapter in `save` that is of the same run.
fn is_of_run(adapter: &Adapter, save: &Location) -> Result<bool> {
    let Some(bytes) = save.read_small(CONFIG, MOST_CONFIG_BYTES)? else { return Ok(false) };
    let Ok(other) = parse_json_as_written(&bytes) else { return Ok(false) };
    // Lists are sets, in any order.
    let sorted = |value: Option<&Value>| match value {
        Some(Value::Array(values)) => {
            let mut texts: Vec<String> = values.iter().map(Value::to_string).collect();
            texts.sort_unstable();
            texts.join(",")
        }
        value => value.map(Value::to_string).unwrap_or_default(),
    };
    Ok(OF_ONE_RUN.iter().all(|field| sorted(adapter.config.get(field)) == sorted(other.get(field))))
}

/// Whether a directory's name is a method's with that end, however it is spelled.
fn is_named(name: &str, method: &str, end: &str) -> bool {
    let plain = name.to_lowercase().replace('-', "_");
    plain == format!("{method}{end}") || plain.ends_with(&format!("_{method}{end}"))
}
