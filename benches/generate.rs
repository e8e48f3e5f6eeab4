//! Writes a made-up checkpoint of a real model's shape, and an adapter for it.
//!
//! ```text
//! cargo run --release --example generate -- --shape llama-3b --out target/bench
//! cargo run --release --example generate -- --shape llama-3b --out target/bench --rank 64   # base kept, new adapter
//! cargo run --release --example generate -- --shape llama-3b --out target/bench --method dora # the same, of another method
//! cargo run --release --example generate -- --shape gpt2-2g --out target/gpt2                 # Conv1D, tied
//! cargo run --release --example generate -- --shape llama-8b --fp8 --out target/fp8           # codes and scales
//! ```
//!
//! `OUT/base` is laid out as transformers writes it, `OUT/adapter-r16-all-linear` (or `adapter-dora-r16-all-linear`) as
//! PEFT does; both load there. A base that is already there and was made by the same request is kept. See `--help` for
//! the shapes.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer command")]
#![expect(clippy::disallowed_methods, reason = "a developer command reads and writes files of its own")]

mod synthetic;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let request = synthetic::Request::parse();
    match synthetic::write(&request) {
        Ok(done) => {
            println!("{done}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
