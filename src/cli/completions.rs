//! `shardfold completions`.

use clap_complete::generate;

use crate::error::Result;

use crate::cli::args::{CompletionsArgs, command};
use crate::cli::output::print;

/// Prints the script that lets a shell complete commands and flags.
pub(crate) fn run(args: &CompletionsArgs) -> Result<()> {
    let mut script = Vec::new();
    generate(args.shell, &mut command(), "shardfold", &mut script);
    print(&String::from_utf8_lossy(&script))
}
