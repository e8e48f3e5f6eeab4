//! Writes the manual pages of the command into a directory: `man OUT`.

#![allow(clippy::disallowed_methods, reason = "a developer command writes files of its own")]

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let Some(out) = std::env::args_os().nth(1) else {
        return Err(std::io::Error::other("usage: man OUT"));
    };
    fs::create_dir_all(&out)?;
    clap_mangen::generate_to(shardfold::command_line(), Path::new(&out))
}
