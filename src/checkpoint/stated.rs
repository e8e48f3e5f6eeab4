//! What a checkpoint says of its quantization, in `config.json` and in the files of quantizers beside it, held against its
//! tensors.
//!
//! Headers decide: a description that no tensor bears out explains nothing, and one that the tensors contradict cannot be
//! believed, and neither can they.

use std::sync::Arc;

use serde_json::Value;

use crate::checkpoint::catalogue::Catalogue;
use crate::checkpoint::config::Config;
use crate::encodings::scheme::Scheme;
use crate::encodings::schemes;
use crate::error::checkpoint::CheckpointError;
use crate::error::{Error, Result};
use crate::formats::json::parse_json_as_python;
use crate::storage::location::Location;
use crate::storage::store::Store;

/// The most that is read of a file of a quantizer.
const MOST_BYTES: u64 = 8 << 20;

/// A description of the quantization.
#[derive(Clone, Debug)]
pub(crate) struct Stated {
    /// Where it stands: a file, and a key where the file has others.
    pub place: String,
    /// What it says, for messages: `quant_method` `fp8`.
    pub says: String,
    /// The schemes that it may mean; none where it names none that is known.
    pub schemes: Vec<&'static Scheme>,
    /// All of it, where it is a file: a config is kept elsewhere.
    pub file: Option<Arc<Value>>,
}

impl Stated {
    fn of(place: &str, value: &Value, fallback: Vec<&'static Scheme>) -> Stated {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let (method, algorithm) = (text("quant_method"), text("quant_algo"));
        let words = [("quant_method", method), ("quant_algo", algorithm)];
        let words = words.iter().filter_map(|(key, word)| Some(format!("`{key}` `{}`", (*word)?)));
        let named = schemes::of_method(method, algorithm);
        let schemes = if method.is_none() && named.is_empty() { fallback } else { named };
        let says = words.collect::<Vec<_>>().join(" and ");
        Stated { place: place.to_owned(), says, schemes, file: None }
    }

    /// What messages call it.
    pub(crate) fn named(&self) -> String {
        if self.says.is_empty() { self.place.clone() } else { format!("{} of {}", self.says, self.place) }
    }
}

/// The descriptions in a config.
pub(crate) fn in_config(config: &Config) -> Vec<Stated> {
    let of =
        |(path, value): (String, &Value)| Stated::of(&format!("`{path}` of config.json"), value, Vec::new());
    config.quantizations().into_iter().map(of).collect()
}

/// The descriptions in files of quantizers.
///
/// # Errors
/// [`CheckpointError::Json`], and as [`Location::read_small`].
pub(crate) fn beside(dir: &Location) -> Result<Vec<Stated>> {
    let mut found = Vec::new();
    for name in schemes::side_files() {
        let Some(bytes) = dir.read_small(name, MOST_BYTES)? else { continue };
        let value: Value = parse_json_as_python(&bytes).map_err(|problem| {
            Error::new(CheckpointError::Json { path: dir.path_of(name) }).because(problem)
        })?;
        // ModelOpt keeps it one level down.
        let value = value.get("quantization").unwrap_or(&value);
        let stated = Stated::of(&format!("`{name}`"), value, schemes::of_side_file(name));
        found.push(Stated { file: Some(Arc::new(value.clone())), ..stated });
    }
    Ok(found)
}

/// Data as its tensors show it: its place, and the schemes that explain it.
pub(crate) type Shown<'s> = (usize, &'s [&'static Scheme]);

/// A description that the tensors contradict.
pub(crate) fn contradiction(stated: &Stated, catalogue: &Catalogue, shown: &[Shown<'_>]) -> Option<Error> {
    let is_meant = |scheme: &Scheme| stated.schemes.iter().any(|other| schemes::is_same(scheme, other));
    let is_other =
        |(_, found): &&Shown<'_>| !found.is_empty() && !found.iter().any(|scheme| is_meant(scheme));
    if stated.schemes.is_empty() {
        return None;
    }
    let others: Vec<_> = shown.iter().filter(is_other).collect();
    let (place, found) = others.first()?;
    let kind = CheckpointError::Quantization {
        stated: stated.named(),
        means: schemes::titles(&stated.schemes),
        tensor: catalogue.tensors[*place].name.to_string(),
        count: others.len(),
        found: schemes::titles(found),
    };
    Some(Error::new(kind).hint(
        "one of the two comes from another checkpoint: fetch both again, or take the description that is wrong out",
    ))
}
