//! What a merge is held against: a copy, four copies past the page cache at once, and a merge that has hardly anything to compute.

use std::path::Path;
use std::process::{Command, Stdio};

use super::settings::Settings;

/// What they are called, in the order of [`commands`].
pub(super) const NAMES: [&str; 3] = ["cp", "direct copies", "no arithmetic"];

/// Copies past the page cache.
const DIRECT_COPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/direct_copy.sh");

/// A command for each.
pub(super) fn commands(settings: &Settings, base: &Path, small: &Path, output: &Path) -> Vec<Command> {
    let mut copy = Command::new("cp");
    copy.args(["-r", "--reflink=never"]).arg(base).arg(output);
    let mut direct = Command::new(DIRECT_COPY);
    direct.arg(base).arg(output);
    vec![copy, direct, merge(settings, base, small, output)]
}

/// The merge that is measured.
pub(super) fn merge(settings: &Settings, base: &Path, adapter: &Path, output: &Path) -> Command {
    let mut merge = Command::new(&settings.binary);
    merge.arg("merge").arg("--base").arg(base).arg("--adapter").arg(adapter).arg("--output").arg(output);
    merge.args(["--max-ram", &settings.max_ram, "--quiet"]).stdout(Stdio::null());
    merge
}
