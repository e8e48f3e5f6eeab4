//! The figures of one rank, as a line for the terminal and as a row of the record.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::host::Host;
use super::rivals::NAMES;
use super::settings::Settings;
use super::{Result, Round};

/// Where rows are kept, dated, so that a slower version shows.
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/record/rounds.md");
/// What a new record starts with.
const HEAD: &str = "# Whole merges against copies\n\n\
    Rows of `cargo bench --bench pipeline -- --record`; see `benches/pipeline.rs` for what is timed. Times are medians, \
    ratios are medians within rounds (smallest–largest).\n\n\
    | date | base | rank | max-ram | rounds | cp s | direct copies s | no arithmetic s | merge s | of the fastest | of cp | \
    peak RSS MiB | CPU s | CPU s/GB | machine |\n\
    | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";

/// One rank's figures.
pub(super) struct Row {
    date: String,
    base: String,
    rank: usize,
    max_ram: String,
    rounds: usize,
    rivals_s: Vec<f64>,
    merge_s: f64,
    /// Median, smallest, largest: of the fastest rival of each round, and of the copy.
    of_fastest: [f64; 3],
    of_copy: [f64; 3],
    peak_mib: f64,
    cpu_s: f64,
    gigabytes: f64,
    machine: String,
}

impl Row {
    /// Condenses the rounds: medians, but the peak is the largest seen.
    pub(super) fn new(settings: &Settings, host: &Host, rank: usize, bytes: u64, rounds: &[Round]) -> Self {
        let of = |figure: &dyn Fn(&Round) -> f64| sorted(rounds.iter().map(figure));
        let spread = |sorted: Vec<f64>| [median(&sorted), sorted[0], sorted[sorted.len() - 1]];
        let peak_kib = rounds.iter().map(|round| round.merge.peak_kib).max().unwrap_or(0);
        let layers = settings.layers.as_ref().map_or(String::new(), |layers| format!(" ({layers} layers)"));
        let gigabytes = bytes as f64 / 1e9;
        Self {
            date: settings.date.clone().unwrap_or_default(),
            base: format!("{}{layers}, {gigabytes:.1} GB", settings.shape),
            rank,
            max_ram: settings.max_ram.clone(),
            rounds: rounds.len(),
            rivals_s: (0..NAMES.len()).map(|i| median(&of(&|round| round.rivals[i].wall_s))).collect(),
            merge_s: median(&of(&|round| round.merge.wall_s)),
            of_fastest: spread(of(&|round| round.merge.wall_s / round.fastest())),
            of_copy: spread(of(&|round| round.merge.wall_s / round.rivals[0].wall_s)),
            peak_mib: peak_kib as f64 / 1024.0,
            cpu_s: median(&of(&|round| round.merge.cpu_s)),
            gigabytes,
            machine: format!("{}, Linux {}, {}", host.cpu, host.kernel, host.file_system),
        }
    }

    /// For the terminal.
    pub(super) fn summary(&self) -> String {
        let rivals = NAMES.iter().zip(&self.rivals_s).map(|(name, s)| format!("{name} {s:.2} s, "));
        format!(
            "{}merge {:.2} s, {} of the fastest, {} of cp over {} rounds; merge peaks at {:.1} MiB resident, {:.1} CPU s \
             ({:.2} per GB)",
            rivals.collect::<String>(),
            self.merge_s,
            spread_text(self.of_fastest),
            spread_text(self.of_copy),
            self.rounds,
            self.peak_mib,
            self.cpu_s,
            self.cpu_s / self.gigabytes
        )
    }

    /// For the record.
    fn markdown(&self) -> String {
        let Self { date, base, rank, max_ram, rounds, merge_s, peak_mib, cpu_s, machine, .. } = self;
        let rivals: String = self.rivals_s.iter().map(|s| format!("{s:.2} | ")).collect();
        let (of_fastest, of_copy) = (spread_text(self.of_fastest), spread_text(self.of_copy));
        let per_gb = cpu_s / self.gigabytes;
        format!(
            "| {date} | {base} | {rank} | {max_ram} | {rounds} | {rivals}{merge_s:.2} | {of_fastest} | {of_copy} | \
             {peak_mib:.1} | {cpu_s:.1} | {per_gb:.2} | {machine} |\n"
        )
    }
}

fn spread_text([middle, low, high]: [f64; 3]) -> String {
    format!("{middle:.3} ({low:.3}–{high:.3})")
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

/// Figures in increasing order; there is at least one.
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
