//! Typed names that are addresses of object stores, and not paths: `s3://bucket/prefix`.

use std::path::Path;

use crate::cancel::Cancel;
use crate::error::Result;
#[cfg(feature = "cloud")]
use crate::storage::cloud::provider::open;
use crate::storage::location::Location;

/// How addresses begin that lead to an object store.
const SCHEMES: &[&str] = &["s3", "gs", "az"];

/// What a text is that is an address: its scheme, and what is behind `://`.
pub(crate) fn parts(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let is_scheme = scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_scheme.then_some((scheme, rest))
}

/// What helps whoever typed an address that leads nowhere here; none where the text is no address.
pub(crate) fn cure(text: &str) -> Option<&'static str> {
    let (scheme, _) = parts(text)?;
    Some(if SCHEMES.contains(&scheme) {
        "this build knows no object stores: one with the feature `cloud` does (`cargo install shardfold --features cloud`)"
    } else {
        "of addresses only s3://, gs:// and az:// are known, by the feature `cloud`: copy what is there to a directory, and name \
         that"
    })
}

impl Location {
    /// What a text means that somebody typed: a place in an object store, if it is the address of one and this build knows them;
    /// else the path, with its links resolved. Waiting for such a store ends once `cancel` says so.
    ///
    /// # Errors
    /// [`StorageError::Unreadable`](crate::error::storage::StorageError::Unreadable) for an address that cannot be used, or not
    /// with the settings in the environment.
    pub fn of_typed(typed: impl AsRef<Path>, cancel: &Cancel) -> Result<Location> {
        let typed = typed.as_ref();
        Ok(Location::of_address(typed, cancel)?.unwrap_or_else(|| Location::of_resolved_path(typed)))
    }

    /// The same for a directory that is only read, which messages call as it was typed.
    ///
    /// # Errors
    /// As [`of_typed`](Location::of_typed).
    pub(crate) fn of_typed_input(typed: &Path, cancel: &Cancel) -> Result<Location> {
        Ok(Location::of_address(typed, cancel)?.unwrap_or_else(|| Location::of_path(typed)))
    }

    /// The place in an object store that an address means; none where it is no address that this build knows.
    ///
    /// # Errors
    /// As [`of_typed`](Location::of_typed).
    #[cfg(feature = "cloud")]
    pub(crate) fn of_address(typed: &Path, cancel: &Cancel) -> Result<Option<Location>> {
        let parts = typed.to_str().and_then(parts).filter(|(scheme, _)| SCHEMES.contains(scheme));
        parts.map(|(scheme, rest)| open((scheme, rest), cancel)).transpose()
    }

    #[cfg(not(feature = "cloud"))]
    pub(crate) fn of_address(_typed: &Path, _cancel: &Cancel) -> Result<Option<Location>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_paths() {
        assert_eq!(parts("s3://bucket/a"), Some(("s3", "bucket/a")));
        for path in ["a/b", "a://b", "/s3://x", "s3:/x", "s_3://x"] {
            assert_eq!(parts(path), None, "{path}");
            assert_eq!(cure(path), None, "{path}");
        }
        assert!(cure("gs://x").unwrap().contains("`cloud`") && cure("ftp://x").unwrap().contains("s3://"));
    }
}
