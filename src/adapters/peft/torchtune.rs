//! torchtune's own files beside its export to PEFT: what they are called, by which the export is known.

use crate::error::Result;
use crate::storage::location::Location;
use crate::storage::store::Store;

/// torchtune's own file, beside the export.
pub(crate) const NATIVE: &str = "adapter_model.pt";
/// What files of older versions are called, the number of the epoch between.
const NUMBERED: [&str; 2] = ["adapter_", ".pt"];
/// What a model card or a config says of it.
pub(crate) const NAME: &str = "torchtune";
/// The files of a directory that older versions wrote, one for each epoch, in the order of their names.
pub(crate) fn numbered(place: &Location) -> Result<Vec<String>> {
    if !place.is_directory()? {
        return Ok(Vec::new());
    }
    let mut found: Vec<String> = place.list("")?.into_iter().map(|entry| entry.name).collect();
    found.retain(|name| is_numbered(name));
    found.sort_unstable();
    Ok(found)
}

/// Whether a file is called as versions up to 0.4 call the adapter of an epoch.
pub(crate) fn is_numbered(name: &str) -> bool {
    let epoch = name.strip_prefix(NUMBERED[0]).and_then(|rest| rest.strip_suffix(NUMBERED[1]));
    epoch.is_some_and(|epoch| !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()))
}
