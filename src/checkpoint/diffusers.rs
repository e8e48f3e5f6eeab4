//! A pipeline of diffusers given where one checkpoint is meant: which of its folders hold weights.
//!
//! A pipeline is a folder with `model_index.json`, and a folder for each component (`unet`, `text_encoder`, `vae`). An
//! adapter is for one of them, and so is a merge.

use std::path::Path;

use serde_json::Value;

use crate::error::Error;
use crate::error::kind::ErrorKind;
use crate::formats::json::parse_json_strict;
use crate::hub::Place;
use crate::storage::list::{list, read_small, subfolders};

use crate::checkpoint::weights_name::WeightsName;

/// The file that makes a folder a pipeline.
const PIPELINE: &str = "model_index.json";
const MOST_PIPELINE_BYTES: u64 = 1 << 20;
/// Components that adapters are for, if a pipeline has them.
const ADAPTED: &[&str] = &["transformer", "unet"];

/// Whether a folder is a pipeline.
pub(crate) fn is_pipeline(path: &Path) -> bool {
    path.join(PIPELINE).is_file()
}

/// What is wrong with a folder without weights, if it is a pipeline; else `error` as it is.
pub(crate) fn explain(place: &Place, error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Missing { .. }) || !is_pipeline(&place.path) {
        return error;
    }
    let names: Vec<String> = subfolders(&place.path).unwrap_or_default();
    let with_weights: Vec<&String> =
        names.iter().filter(|name| holds_weights(&place.path.join(name))).collect();
    let adapted = with_weights.iter().find(|name| ADAPTED.contains(&name.as_str()));
    let Some(first) = adapted.or(with_weights.first()) else {
        return error.hint("it is a pipeline, and none of its directories holds safetensors weights");
    };
    let hint = format!("name the one that the adapter is for, such as `{}`", place.within(first));
    let classes = classes(&place.path);
    let described = |name: &&String| match class_of(&classes, name) {
        Some(class) => format!("`{name}` ({class})"),
        None => format!("`{name}`"),
    };
    let components = with_weights.iter().map(described).collect();
    Error::new(ErrorKind::Pipeline { path: place.path.clone(), components }).hint(hint)
}

fn holds_weights(folder: &Path) -> bool {
    let files = list(folder, &|_| true).unwrap_or_default();
    files.iter().any(|file| WeightsName::of(&file.name).is_some())
}

/// What the pipeline says of its components; nothing if it cannot be read, since this is for a message only.
fn classes(path: &Path) -> Value {
    let bytes = read_small(&path.join(PIPELINE), MOST_PIPELINE_BYTES).ok().flatten();
    bytes.and_then(|bytes| parse_json_strict(&bytes).ok()).unwrap_or_default()
}

/// The class of a component: the second of `["diffusers", "UNet2DConditionModel"]`.
fn class_of<'v>(classes: &'v Value, name: &str) -> Option<&'v str> {
    classes.get(name)?.get(1)?.as_str()
}
