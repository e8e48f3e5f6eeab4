//! Measuring a merge against what else writes as much (`rivals.rs`), and in a cgroup (`confined.rs`): `settings.rs` what to run,
//! `child.rs` one timed process, `cache.rs` cold starts, `host.rs` what to say about the machine, `record.rs` the row that is kept.

mod cache;
mod child;
mod confined;
mod host;
mod record;
mod rivals;
mod settings;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;

use crate::synthetic;
use cache::Cold;
use child::Usage;
use settings::Settings;

/// Everything here fails with a message for the developer who called it.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One run of everything.
struct Round {
    /// In the order of [`rivals::NAMES`].
    rivals: Vec<Usage>,
    merge: Usage,
}

impl Round {
    /// Seconds of the fastest rival.
    fn fastest(&self) -> f64 {
        self.rivals.iter().map(|usage| usage.wall_s).fold(f64::INFINITY, f64::min)
    }
}

/// Runs all ranks, prints as it goes, and records the rows if asked to.
pub(crate) fn run(record: bool) -> Result<()> {
    let settings = Settings::from_environment()?;
    if record && settings.date.is_none() {
        return Err("`--record` needs a date: set BENCH_DATE".into());
    }
    fs::create_dir_all(&settings.folder)?;
    let (mut rows, mut confined_rows) = (Vec::new(), None);
    let host = host::describe(&settings.folder)?;
    println!("{host}");
    for &rank in &settings.ranks {
        let made = synthetic::write(&generate(&settings, rank)?)?;
        println!("{made}");
        let bytes = folder_bytes(&made.base)?;
        check_space(&settings.folder, bytes)?;
        let rounds = run_rounds(&settings, &made, &synthetic::write(&generate_small(&settings)?)?)?;
        let row = record::Row::new(&settings, &host, rank, bytes, &rounds);
        println!("rank {rank}: {}\n", row.summary());
        rows.push(row);
        if confined_rows.is_none() {
            confined_rows = Some(confined::run(&settings, &host, &made.base, &made.adapter)?);
        }
    }
    if record {
        record::append(&rows)?;
        confined::append(&confined_rows.unwrap_or_default())?;
    }
    Ok(())
}

/// What `generate` is asked to make.
fn generate(settings: &Settings, rank: usize) -> Result<synthetic::Request> {
    asked(settings, &["--rank", &rank.to_string()])
}

/// The same base with an adapter that is hardly any work.
fn generate_small(settings: &Settings) -> Result<synthetic::Request> {
    asked(settings, &["--rank", "1", "--targets", "k_proj"])
}

fn asked(settings: &Settings, adapter: &[&str]) -> Result<synthetic::Request> {
    let folder = settings.folder.display().to_string();
    let mut arguments = vec!["generate", "--shape", &settings.shape, "--out", &folder];
    arguments.extend(adapter);
    if let Some(layers) = &settings.layers {
        arguments.extend(["--layers", layers]);
    }
    Ok(synthetic::Request::try_parse_from(arguments)?)
}

/// Interleaved rounds: each starts with another command, so that a drift of the disk hits all alike.
fn run_rounds(settings: &Settings, made: &synthetic::Made, small: &synthetic::Made) -> Result<Vec<Round>> {
    let output = settings.folder.join("result");
    let mut commands = rivals::commands(settings, &made.base, &small.adapter, &output);
    commands.push(rivals::merge(settings, &made.base, &made.adapter, &output));
    let inputs = [made.base.as_path(), made.adapter.as_path(), small.adapter.as_path()];
    let count = commands.len();
    let mut rounds = Vec::new();
    for number in 0..settings.pairs {
        let mut usages: Vec<Option<Usage>> = commands.iter().map(|_| None).collect();
        for step in 0..count {
            let which = (number + step) % count;
            let usage = timed(&mut commands[which], &output, &inputs, number + step == 0)?;
            usages[which] = Some(usage);
        }
        let mut rivals: Vec<Usage> = usages.into_iter().flatten().collect();
        let Some(merge) = rivals.pop() else { return Err("nothing was run".into()) };
        let round = Round { rivals, merge };
        print!("round {}:", number + 1);
        for (name, usage) in rivals::NAMES.iter().zip(&round.rivals) {
            print!(" {name} {:.2} s,", usage.wall_s);
        }
        let (merge, fastest) = (&round.merge, round.fastest());
        println!(
            " merge {:.2} s ({:.1} CPU s), {:.3} of the fastest",
            merge.wall_s,
            merge.cpu_s,
            merge.wall_s / fastest
        );
        rounds.push(round);
    }
    Ok(rounds)
}

/// Runs a command from a cold cache to a synced `output`, then removes that. `announce` says how the cache was cooled.
fn timed(command: &mut Command, output: &Path, inputs: &[&Path], announce: bool) -> Result<Usage> {
    remove(output)?;
    let cold = cache::drop(inputs)?;
    if announce && cold == Cold::Advised {
        println!("not root: the cache was dropped by posix_fadvise on the input files, not by drop_caches");
    }
    let usage = child::run_and_sync(command, output);
    remove(output)?;
    usage
}

/// Removes an output and what an interrupted merge may have left beside it.
fn remove(output: &Path) -> Result<()> {
    for folder in [output.to_owned(), PathBuf::from(format!("{}.partial", output.display()))] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
    }
    Ok(())
}

/// Bytes of all files directly in a folder.
fn folder_bytes(folder: &Path) -> Result<u64> {
    let sizes = fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len()));
    sizes.sum()
}

/// Refuses to start what would end with a full disk: one result at a time, and a tenth more.
fn check_space(folder: &Path, bytes: u64) -> Result<()> {
    let (free, needed) = (host::free_bytes(folder)?, bytes + bytes / 10);
    if free < needed {
        let (free, needed) = (free as f64 / 1e9, needed as f64 / 1e9);
        let folder = folder.display();
        return Err(
            format!("{folder} has {free:.1} GB free, a result needs {needed:.1}: set BENCH_DIR").into()
        );
    }
    Ok(())
}
