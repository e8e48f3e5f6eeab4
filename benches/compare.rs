//! Compares two checkpoints tensor by tensor, without loading either.
//!
//! ```text
//! cargo run --release --features compare --bin compare -- merged-by-shardfold merged-by-peft --max-ulp 1
//! ```
//!
//! A and B are checkpoint folders, sharded or not, or single safetensors files; how tensors are spread over files does not
//! matter. Exit code 0: same names, shapes and dtypes, and values within `--max-ulp`; 1: not so; 2: could not tell.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer command")]
#![expect(clippy::disallowed_methods, reason = "a developer command reads and writes files of its own")]

mod comparison;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use comparison::{Options, Report};

/// Compare two checkpoints tensor by tensor
#[derive(Parser)]
struct Cli {
    /// A checkpoint folder or a safetensors file
    a: PathBuf,
    /// The one to hold against it
    b: PathBuf,
    /// Where dtypes differ, round the wider to the narrower and compare values instead of refusing
    #[arg(long)]
    dtype_aware: bool,
    /// Fail if any element differs by more units in the last place; default: any difference will do
    #[arg(long, value_name = "N")]
    max_ulp: Option<u64>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = Options { dtype_aware: cli.dtype_aware, max_ulp: cli.max_ulp };
    match comparison::compare(&cli.a, &cli.b, options) {
        Ok(report) => finish(&report),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Prints the report and turns its verdict into an exit code.
fn finish(report: &Report) -> ExitCode {
    println!("{report}");
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
