//! The settings, read from the environment; the table in `pipeline.rs` documents them.

use std::env;
use std::path::PathBuf;

use super::Result;

/// What to run.
pub(super) struct Settings {
    pub(super) binary: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) shape: String,
    pub(super) layers: Option<String>,
    pub(super) ranks: Vec<usize>,
    pub(super) pairs: usize,
    pub(super) max_ram: String,
    pub(super) confined: Vec<String>,
    pub(super) date: Option<String>,
}

impl Settings {
    /// Reads all variables, with their defaults.
    pub(super) fn from_environment() -> Result<Self> {
        let or = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench");
        let ranks = or("BENCH_RANKS", "16,64");
        let ranks: std::result::Result<Vec<usize>, _> = ranks.split(',').map(str::parse).collect();
        let pairs = or("BENCH_PAIRS", "7").parse().map_err(|error| format!("BENCH_PAIRS: {error}"))?;
        if pairs == 0 {
            return Err("BENCH_PAIRS: at least 1".into());
        }
        Ok(Self {
            binary: or("SHARDFOLD", env!("CARGO_BIN_EXE_shardfold")).into(),
            folder: or("BENCH_DIR", folder).into(),
            shape: or("BENCH_SHAPE", "llama-3b"),
            layers: env::var("BENCH_LAYERS").ok(),
            ranks: ranks.map_err(|error| format!("BENCH_RANKS: {error}"))?,
            pairs,
            max_ram: or("BENCH_MAX_RAM", "256M"),
            confined: or("BENCH_CONFINED", "64M,32M").split(',').map(str::to_owned).collect(),
            date: env::var("BENCH_DATE").ok(),
        })
    }
}
