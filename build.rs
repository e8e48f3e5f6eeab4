//! Tells the program which commit and target it is built from, for `--version`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SHARDFOLD_COMMIT");
    // A folder in a work tree of git has a file there that names the real place.
    if let Some(head) = git(&["rev-parse", "--git-path", "HEAD"]).filter(|head| Path::new(head).exists()) {
        println!("cargo:rerun-if-changed={head}");
    }
    let by_variable = || std::env::var("SHARDFOLD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = commit().or_else(by_variable).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=SHARDFOLD_COMMIT={commit}");
    println!("cargo:rustc-env=SHARDFOLD_TARGET={}", std::env::var("TARGET").unwrap_or_default());
}

/// The commit that is checked out here: a package inside some other repository has none of its own.
fn commit() -> Option<String> {
    Path::new(".git").exists().then(|| git(&["rev-parse", "--short=12", "HEAD"])).flatten()
}

/// What git prints, if it is there and succeeds.
fn git(args: &[&str]) -> Option<String> {
    let ran = Command::new("git").args(args).output().ok().filter(|ran| ran.status.success())?;
    let text = String::from_utf8(ran.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
