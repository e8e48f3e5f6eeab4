//! The figures of one rank, as a line for the terminal and as a row of the record.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::host::Host;
use super::settings::Settings;
use super::{Pair, Result};

/// Where rows are kept, dated, so that a slower version shows.
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/record/pipeline.md");
/// What a new record starts with.
const HEAD: &str = "# Whole merges against a plain copy\n\n\
    Rows of `cargo bench --bench pipeline -- --record`; see `benches/pipeline.rs` for what is timed. Times are medians, \
    the ratio is the median of merge/copy within pairs (smallest–largest).\n\n\
    | date | base | rank | max-ram | pairs | copy s | merge s | ratio | peak RSS MiB | CPU s | machine |\n\
    | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";

/// One rank's figures.
pub(super) struct Row {
    date: String,
    base: String,
    rank: usize,
    max_ram: String,
    pairs: usize,
    copy_s: f64,
    merge_s: f64,
    /// Median, smallest, largest.
    ratio: [f64; 3],
    peak_mib: f64,
    cpu_s: f64,
    machine: String,
}

impl Row {
    /// Condenses the pairs: medians, but the peak is the largest seen.
    pub(super) fn new(settings: &Settings, host: &Host, rank: usize, bytes: u64, pairs: &[Pair]) -> Self {
        let of = |figure: fn(&Pair) -> f64| sorted(pairs.iter().map(figure));
        let ratio = of(|pair| pair.merge.wall_s / pair.copy.wall_s);
        let peak_kib = pairs.iter().map(|pair| pair.merge.peak_kib).max().unwrap_or(0);
        let layers = settings.layers.as_ref().map_or(String::new(), |layers| format!(" ({layers} layers)"));
        Self {
            date: settings.date.clone().unwrap_or_default(),
            base: format!("{}{layers}, {:.1} GB", settings.shape, bytes as f64 / 1e9),
            rank,
            max_ram: settings.max_ram.clone(),
            pairs: pairs.len(),
            copy_s: median(&of(|pair| pair.copy.wall_s)),
            merge_s: median(&of(|pair| pair.merge.wall_s)),
            ratio: [median(&ratio), ratio[0], ratio[ratio.len() - 1]],
            peak_mib: peak_kib as f64 / 1024.0,
            cpu_s: median(&of(|pair| pair.merge.cpu_s)),
            machine: format!("{}, Linux {}, {}", host.cpu, host.kernel, host.file_system),
        }
    }

    /// For the terminal.
    pub(super) fn summary(&self) -> String {
        let [median, low, high] = self.ratio;
        format!(
            "copy {:.2} s, merge {:.2} s, ratio {median:.3} ({low:.3}–{high:.3}) over {} pairs; \
             merge peaks at {:.1} MiB resident, {:.1} CPU s",
            self.copy_s, self.merge_s, self.pairs, self.peak_mib, self.cpu_s
        )
    }

    /// For the record.
    fn markdown(&self) -> String {
        let [median, low, high] = self.ratio;
        let ratio = format!("{median:.3} ({low:.3}–{high:.3})");
        let Self { date, base, rank, max_ram, pairs, copy_s, merge_s, peak_mib, cpu_s, machine, .. } = self;
        format!(
            "| {date} | {base} | {rank} | {max_ram} | {pairs} | {copy_s:.2} | {merge_s:.2} | {ratio} | \
             {peak_mib:.1} | {cpu_s:.1} | {machine} |\n"
        )
    }
}

/// Appends rows to the record, starting it if there is none.
pub(super) fn append(rows: &[Row]) -> Result<()> {
    let path = Path::new(RECORD);
    if !path.exists() {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, HEAD)?;
    }
    let mut file = OpenOptions::new().append(true).open(path)?;
    for row in rows {
        file.write_all(row.markdown().as_bytes())?;
    }
    Ok(())
}

/// Figures in increasing order; there is at least one pair.
pub(super) fn sorted(figures: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures
}

/// The middle of sorted figures, or the mean of the two middle ones.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    (sorted[low] + sorted[high]) / 2.0
}
