//! The `shardfold` command: parse, run, print what went wrong, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    shardfold::run_command()
}
