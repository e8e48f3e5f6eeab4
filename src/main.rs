//! The `shardfold` command: parse, run, print what went wrong, exit.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    ExitCode::from(shardfold::run_command(&args) as u8)
}
