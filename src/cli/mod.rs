//! The command line: what was typed, what it means, one file per command, and how a process ends.

pub(crate) mod args;
pub(crate) mod call;
pub(crate) mod combine;
mod completions;
pub(crate) mod config;
pub(crate) mod console;
pub(crate) mod convert;
pub(crate) mod convert_args;
pub(crate) mod diff;
pub(crate) mod diff_args;
pub(crate) mod extract;
pub(crate) mod extract_args;
pub(crate) mod finish;
pub(crate) mod flags;
pub(crate) mod inspect;
pub(crate) mod merge;
pub(crate) mod misuse;
pub(crate) mod output;
pub(crate) mod part;
pub(crate) mod plan;
pub(crate) mod report;
pub(crate) mod rule_flags;
pub(crate) mod signals;
#[cfg(feature = "testing")]
pub(crate) mod test_flags;
pub(crate) mod unmerge;
pub(crate) mod unmerge_args;
pub(crate) mod values;
pub(crate) mod variables;
pub(crate) mod verify;
pub(crate) mod version;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::Result;
use crate::error::exit::Code;
use crate::error::run::RunError;
use crate::note::Note;
use crate::note::input::InputNote;
use crate::report::tell_of_panics;
use crate::storage::open_files::raise_limit;

use crate::cli::args::{Command, Typed, command, parse};
use crate::cli::console::{Console, open_log};
use crate::cli::variables::Variables;

/// Runs the command that was typed, the name of the program first, and returns what the process should end with.
pub fn main(args: &[OsString]) -> Code {
    raise_limit();
    let environment = Variables::of_this_process();
    match parse(args, &environment) {
        Ok(typed) if environment.is_empty() => start(&typed, args, Vec::new()),
        Ok(typed) => start(&typed, args, environment.slips(&command())),
        Err(misuse) => misuse::show(&misuse, args),
    }
}

/// Runs what was typed, and tells of its environment and its end.
fn start(Typed { command, variables }: &Typed, args: &[OsString], mut notes: Vec<Note>) -> Code {
    if !variables.is_empty() {
        notes.push(InputNote::FlagsFromEnvironment { variables: variables.clone() }.into());
    }
    let (log, unwritable) = open_log(command.log_file());
    notes.extend(unwritable);
    let console = Console::new(command.style(), log, args);
    console.notes(&notes);
    let result = caught(|| run(command, &console));
    let code = console.end(result.as_ref().err());
    if code == Code::Usage && !variables.is_empty() {
        misuse::show_variables(variables, command.style());
    }
    code
}

/// What `run` gives; a panic in this thread is an error as in any other.
fn caught(run: impl FnOnce() -> Result<()>) -> Result<()> {
    let caught = catch_unwind(AssertUnwindSafe(run));
    caught.unwrap_or_else(|_| Err(RunError::Panicked { stage: "main thread" }.into()))
}

fn run(command: &Command, console: &Console) -> Result<()> {
    tell_of_panics(command.style());
    match command {
        Command::Merge(args) => merge::run(args, console),
        Command::Plan(args) => plan::run(args, console),
        Command::Convert(args) => convert::run(args, console),
        Command::Unmerge(args) => unmerge::run(args, console),
        Command::Inspect(args) => inspect::run(args, console),
        Command::Verify(args) => verify::run(args, console),
        Command::Report(args) => report::run(args, console),
        Command::Finish(args) => finish::run(args, console),
        Command::Diff(args) => diff::run(args, console),
        Command::Extract(args) => extract::run(args, console),
        Command::Completions(args) => completions::run(args),
    }
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
