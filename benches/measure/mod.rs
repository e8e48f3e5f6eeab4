//! Measuring a merge against a copy, and in a cgroup (`confined.rs`): `settings.rs` what to run, `child.rs` one timed process, `cache.rs` cold starts,
//! `host.rs` what to say about the machine, `record.rs` the row that is kept.

mod cache;
mod child;
mod confined;
mod host;
mod record;
mod settings;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Parser as _;

use crate::synthetic;
use cache::Cold;
use child::Usage;
use settings::Settings;

/// Everything here fails with a message for the developer who called it.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One pair of runs.
struct Pair {
    copy: Usage,
    merge: Usage,
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
        let pairs = run_pairs(&settings, &made.base, &made.adapter)?;
        let row = record::Row::new(&settings, &host, rank, bytes, &pairs);
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
    let mut arguments = vec!["generate".to_owned(), "--shape".to_owned(), settings.shape.clone()];
    arguments.extend(["--rank".to_owned(), rank.to_string()]);
    arguments.extend(["--out".to_owned(), settings.folder.display().to_string()]);
    if let Some(layers) = &settings.layers {
        arguments.extend(["--layers".to_owned(), layers.clone()]);
    }
    Ok(synthetic::Request::try_parse_from(arguments)?)
}

/// Interleaved pairs: every other one starts with the merge, so that a drift of the disk hits both alike.
fn run_pairs(settings: &Settings, base: &Path, adapter: &Path) -> Result<Vec<Pair>> {
    let mut copy = Command::new("cp");
    let copied = settings.folder.join("copied");
    copy.args(["-r", "--reflink=never"]).arg(base).arg(&copied);
    let mut merge = Command::new(&settings.binary);
    let merged = settings.folder.join("merged");
    merge.arg("merge").arg("--base").arg(base).arg("--adapter").arg(adapter).arg("--output").arg(&merged);
    merge.args(["--max-ram", &settings.max_ram, "--quiet"]).stdout(Stdio::null());
    let inputs = [base, adapter];
    let mut pairs = Vec::new();
    for number in 1..=settings.pairs {
        let once = |command: &mut Command, output: &Path| timed(command, output, &inputs, number == 1);
        let pair = if number % 2 == 1 {
            let copy = once(&mut copy, &copied)?;
            Pair { copy, merge: once(&mut merge, &merged)? }
        } else {
            let merge = once(&mut merge, &merged)?;
            Pair { copy: once(&mut copy, &copied)?, merge }
        };
        let (a, b) = (pair.copy.wall_s, pair.merge.wall_s);
        println!("pair {number}: copy {a:.2} s, merge {b:.2} s, ratio {:.3}", b / a);
        pairs.push(pair);
    }
    Ok(pairs)
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
