//! The version as `--version` prints it: `0.1.0 (COMMIT, TARGET, KERNEL kernels)`.

use std::sync::OnceLock;

use crate::kernels::dispatch::Kernels;

/// Version, commit and target, which `build.rs` finds, and the kernels that this CPU takes.
pub(crate) fn version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let (version, commit, target) =
            (env!("CARGO_PKG_VERSION"), env!("SHARDFOLD_COMMIT"), env!("SHARDFOLD_TARGET"));
        format!("{version} ({commit}, {target}, {} kernels)", Kernels::detect().name())
    })
}
