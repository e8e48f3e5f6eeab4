//! The command line: what was typed, what it means, one file per command, and how a process ends.

pub(crate) mod args;
pub(crate) mod config;
pub(crate) mod flags;
pub(crate) mod inspect;
pub(crate) mod merge;
pub(crate) mod misuse;
pub(crate) mod output;
pub(crate) mod plan;
pub(crate) mod signals;
#[cfg(feature = "testing")]
pub(crate) mod test_flags;
pub(crate) mod values;
pub(crate) mod verify;
pub(crate) mod version;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::error::Result;
use crate::error::exit::Code;
use crate::error::run::RunError;
use crate::report::style::Style;
use crate::report::{show_error, show_panics_as_json};
use crate::storage::open_files::raise_limit;

use crate::cli::args::Command;

/// Runs the command that was typed and returns what the process should end with.
pub fn main() -> ExitCode {
    raise_limit();
    let args: Vec<OsString> = std::env::args_os().collect();
    let code = match args::parse(&args) {
        Ok(command) => end(caught(|| run(&command)), command.style()),
        Err(error) => misuse::show(&error, &args),
    };
    ExitCode::from(code as u8)
}

/// What `run` gives; a panic in this thread is an error as in any other.
fn caught(run: impl FnOnce() -> Result<()>) -> Result<()> {
    let caught = catch_unwind(AssertUnwindSafe(run));
    caught.unwrap_or_else(|_| Err(RunError::Panicked { stage: "main thread" }.into()))
}

fn run(command: &Command) -> Result<()> {
    if command.style() == Style::Json {
        show_panics_as_json();
    }
    match command {
        Command::Merge(args) => merge::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Verify(args) => verify::run(args),
    }
}

/// Prints the error, if there is one, and returns the code that the process ends with.
fn end(result: Result<()>, style: Style) -> Code {
    let Err(error) = result else { return Code::Done };
    show_error(&error, style);
    error.exit_code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_main_thread_has_the_code_of_a_bug() {
        let error = caught(|| panic!("a bug")).expect_err("it panicked");
        assert_eq!(error.exit_code(), Code::Bug);
        assert!(error.to_string().contains("main thread"), "{error}");
        assert!(caught(|| Ok(())).is_ok());
    }
}
