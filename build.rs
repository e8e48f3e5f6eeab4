//! Tells the program which commit and target it is built from, for `--version`, and compresses what it carries.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SHARDFOLD_COMMIT");
    // HEAD names a branch, and its log grows with every commit. Builds for tests don't wait for that.
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let watched = if is_release { &["HEAD", "logs/HEAD"][..] } else { &["HEAD"] };
    for path in watched {
        // In a linked work tree they lie elsewhere, so git is asked.
        let path = git(&["rev-parse", "--git-path", path]).filter(|path| is_there(path));
        path.iter().for_each(|path| println!("cargo:rerun-if-changed={path}"));
    }
    let by_variable = || std::env::var("SHARDFOLD_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = git(&["rev-parse", "--short=12", "HEAD"])
        .or_else(by_variable)
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo:rustc-env=SHARDFOLD_COMMIT={commit}");
    compress("src/model/names/table.txt", "names.deflate");
    println!("cargo:rustc-env=SHARDFOLD_TARGET={}", std::env::var("TARGET").unwrap_or_default());
}

/// Writes a file as a stream of DEFLATE where the program finds what is built.
#[expect(clippy::disallowed_methods, reason = "a build script is no part of the program")]
fn compress(from: &str, to: &str) {
    println!("cargo:rerun-if-changed={from}");
    let text = std::fs::read(from).expect("the package has it");
    let to = Path::new(&std::env::var("OUT_DIR").expect("cargo says where")).join(to);
    std::fs::write(to, miniz_oxide::deflate::compress_to_vec(&text, 10)).expect("cargo made the directory");
}

#[expect(clippy::disallowed_methods, reason = "a build script is no part of the program")]
fn is_there(path: &str) -> bool {
    Path::new(path).exists()
}

/// What git prints, if this package has a repository of its own and git is there and succeeds.
fn git(args: &[&str]) -> Option<String> {
    if !is_there(".git") {
        return None;
    }
    let ran = Command::new("git").args(args).output().ok().filter(|ran| ran.status.success())?;
    let text = String::from_utf8(ran.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
