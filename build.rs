//! Tells the program which commit and target it is built from, for `--version`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SHARDFOLD_COMMIT");
    // In a linked work tree HEAD lies elsewhere, so git is asked.
    if let Some(head) = git(&["rev-parse", "--git-path", "HEAD"]) {
        println!("cargo:rerun-if-changed={head}");
    }
    let by_variable = || std::env::var("SHARDFOLD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = git(&["rev-parse", "--short=12", "HEAD"])
        .or_else(by_variable)
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=SHARDFOLD_COMMIT={commit}");
    println!("cargo:rustc-env=SHARDFOLD_TARGET={}", std::env::var("TARGET").unwrap_or_default());
}

/// What git prints, if this package has a repository of its own and git is there and succeeds.
fn git(args: &[&str]) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a build script is no part of the program")]
    let is_repository = Path::new(".git").exists();
    if !is_repository {
        return None;
    }
    let ran = Command::new("git").args(args).output().ok().filter(|ran| ran.status.success())?;
    let text = String::from_utf8(ran.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
