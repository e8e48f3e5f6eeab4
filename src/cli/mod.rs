//! The command line: what was typed, what it means, one file per command, and how a process ends.

pub(crate) mod args;
pub(crate) mod config;
pub(crate) mod failure;
pub(crate) mod inspect;
pub(crate) mod merge;
pub(crate) mod plan;
pub(crate) mod signals;
#[cfg(feature = "testing")]
pub(crate) mod test_flags;

use std::process::ExitCode;

use crate::error::Result;
use crate::error::exit::Code;

use crate::cli::args::Command;

/// Runs the command that was typed and returns what the process should end with.
pub fn main() -> ExitCode {
    let command = match args::parse() {
        Ok(command) => command,
        // clap prints to where it belongs: help to stdout, misuse to stderr.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { Code::Usage as u8 } else { Code::Done as u8 });
        }
    };
    match run(command) {
        Ok(()) => ExitCode::from(Code::Done as u8),
        Err(error) => {
            failure::show(&error);
            ExitCode::from(error.exit_code() as u8)
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Merge(args) => merge::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    }
}

/// Prints to stdout; a reader that has gone away is no error.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
