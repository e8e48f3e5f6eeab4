//! A whole merge against copies of the same checkpoint, in interleaved rounds.
//!
//! ```text
//! cargo bench --bench pipeline
//! BENCH_RANKS=16 BENCH_PAIRS=9 BENCH_DATE=2026-01-31 cargo bench --bench pipeline -- --record
//! ```
//!
//! A round has `cp -r --reflink=never` of the base, four copies past the page cache at once (`direct_copy.sh`), a merge with
//! hardly any arithmetic (rank 1 on k alone), and the merge; each is timed until `sync -f` of the result returns, from a
//! cold cache, and each round begins with another. What counts is the median of the merge's time over that of the fastest
//! other one of the same round: the disks of shared machines drift by more than the difference between two versions.
//! Results are removed after each run.
//!
//! Settings, by environment variables:
//!
//! | name | default | meaning |
//! | --- | --- | --- |
//! | `SHARDFOLD` | this build | the binary to measure |
//! | `BENCH_DIR` | `target/bench` | work folder: needs twice the base and is where its file system is measured |
//! | `BENCH_SHAPE`, `BENCH_LAYERS` | `llama-3b`, all | what `generate` makes, if it is not there yet |
//! | `BENCH_RANKS` | `16,64` | ranks of the adapters, one table row each |
//! | `BENCH_PAIRS` | `7` | rounds per rank, and pairs per budget |
//! | `BENCH_MAX_RAM` | `256M` | `--max-ram` of the merge |
//! | `BENCH_CONFINED` | `64M,32M` | budgets to run in memory cgroups of their size, against one of 4 GB; needs root |
//! | `BENCH_DATE` | none | the date to record; `--record` needs it |
//!
//! `--record` appends the rows to `benches/record/rounds.md` and `benches/record/confined.md`. Linux only: reads `/proc`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer command")]
#![expect(clippy::disallowed_methods, reason = "a developer command reads and writes files of its own")]

mod measure;
mod synthetic;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("pipeline: runs under `cargo bench --bench pipeline` only");
        return ExitCode::SUCCESS;
    }
    let record = arguments.iter().any(|argument| argument == "--record");
    match measure::run(record) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
