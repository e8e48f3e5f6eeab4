//! The version as `--version` prints it: `0.1.0 (COMMIT, TARGET)`.

/// Version, commit and target; `build.rs` finds the latter two.
pub(crate) const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (", env!("SHARDFOLD_COMMIT"), ", ", env!("SHARDFOLD_TARGET"), ")");
