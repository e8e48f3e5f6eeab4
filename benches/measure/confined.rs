//! A merge in a memory cgroup as large as its budget, against the same merge in one of 4 GB.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::host::Host;
use super::record::{median, sorted};
use super::settings::Settings;
use super::{Result, timed};

/// What makes the group.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/memory.sh");
/// A group in which there is room for everything.
const ROOMY: &str = "4G";
/// Where rows are kept.
const RECORD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/record/confined.md");
/// What a new record starts with.
const HEAD: &str = "# Merges in a memory cgroup as large as the budget\n\n\
    Rows of `cargo bench --bench pipeline -- --record`: the same merge in a group of 4 GB and in one of `--max-ram`, cold, in \
    interleaved pairs. Times are medians, the ratio is the median within pairs (smallest–largest).\n\n\
    | date | base | max-ram | pairs | roomy s | tight s | ratio | machine |\n\
    | --- | --- | --- | --- | --- | --- | --- | --- |\n";

/// Measures every budget of the settings; a row for each. Where no group can be made, says so and measures none.
pub(super) fn run(settings: &Settings, host: &Host, base: &Path, adapter: &Path) -> Result<Vec<String>> {
    if !can_confine() {
        println!("skipped: memory cgroups need root and a memory controller\n");
        return Ok(Vec::new());
    }
    settings.confined.iter().map(|budget| measure(settings, host, [base, adapter], budget)).collect()
}

fn can_confine() -> bool {
    let mut trial = Command::new(SCRIPT);
    let status = trial.args(["--run", ROOMY, "true"]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The row of one budget.
fn measure(settings: &Settings, host: &Host, inputs: [&Path; 2], budget: &str) -> Result<String> {
    let output = settings.folder.join("confined");
    let mut pairs = Vec::new();
    for number in 1..=settings.pairs {
        let once = |limit: &str| {
            let mut merge = Command::new(SCRIPT);
            merge.args(["--run", limit]).arg(&settings.binary).args([
                "merge",
                "--max-ram",
                budget,
                "--quiet",
            ]);
            merge.arg("--base").arg(inputs[0]).arg("--adapter").arg(inputs[1]).arg("--output").arg(&output);
            timed(merge.stdout(Stdio::null()), &output, &inputs, false).map(|usage| usage.wall_s)
        };
        let (roomy, tight) = if number % 2 == 1 {
            let roomy = once(ROOMY)?;
            (roomy, once(budget)?)
        } else {
            let tight = once(budget)?;
            (once(ROOMY)?, tight)
        };
        println!(
            "pair {number}: in {ROOMY} {roomy:.2} s, in {budget} {tight:.2} s, ratio {:.3}",
            tight / roomy
        );
        pairs.push([roomy, tight]);
    }
    let [roomy, tight] = [0, 1].map(|side| median(&sorted(pairs.iter().map(|pair| pair[side]))));
    let ratio = sorted(pairs.iter().map(|[roomy, tight]| tight / roomy));
    let [middle, low, high] = [median(&ratio), ratio[0], ratio[ratio.len() - 1]];
    println!(
        "--max-ram {budget}: in a group as large {middle:.3} ({low:.3}–{high:.3}) of the time in {ROOMY}\n"
    );
    let (date, shape) = (settings.date.as_deref().unwrap_or_default(), &settings.shape);
    let machine = format!("{}, Linux {}, {}", host.cpu, host.kernel, host.file_system);
    Ok(format!(
        "| {date} | {shape} | {budget} | {} | {roomy:.2} | {tight:.2} | {middle:.3} ({low:.3}–{high:.3}) | {machine} |\n",
        pairs.len()
    ))
}

/// Appends rows to the record, starting it if there is none.
pub(super) fn append(rows: &[String]) -> Result<()> {
    if !Path::new(RECORD).exists() {
        fs::write(RECORD, HEAD)?;
    }
    let mut file = OpenOptions::new().append(true).open(RECORD)?;
    Ok(file.write_all(rows.concat().as_bytes())?)
}
