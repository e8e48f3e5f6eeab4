//! One process, timed until its result is on disk.
//!
//! Its peak resident set is sampled from outside: VmHWM of `/proc/PID/status` only grows, so the last look before the
//! exit misses no more than what happened since. (`ru_maxrss` starts with the parent's value, and `wait4` needs unsafe
//! code; the child's own word would be no measurement.)

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use super::Result;

/// Time between two looks at a running child.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The kernel's unit for times in `/proc`: 100 per second on every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a run took.
pub(super) struct Usage {
    /// From start to the end of `sync -f`.
    pub(super) wall_s: f64,
    /// User and system time of the process.
    pub(super) cpu_s: f64,
    /// Largest resident set.
    pub(super) peak_kib: u64,
}

/// Runs a command that writes `output`, then `sync -f output`; fails if either does.
pub(super) fn run_and_sync(command: &mut Command, output: &Path) -> Result<Usage> {
    let cpu_before = children_cpu_s()?;
    let start = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    let (status, peak_kib) = watch(&mut child)?;
    let cpu_s = children_cpu_s()? - cpu_before;
    if !status.success() {
        return Err(format!("{command:?}: {status}").into());
    }
    sync(output)?;
    Ok(Usage { wall_s: start.elapsed().as_secs_f64(), cpu_s, peak_kib })
}

/// Waits for a child's end, looking at its VmHWM meanwhile.
fn watch(child: &mut Child) -> Result<(ExitStatus, u64)> {
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_kib = 0;
    loop {
        if let Ok(status) = fs::read_to_string(&status_file) {
            peak_kib = vm_hwm_kib(&status).unwrap_or(0).max(peak_kib);
        }
        if let Some(status) = child.try_wait()? {
            return Ok((status, peak_kib));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The line `VmHWM:   1234 kB`; absent once the process has ended.
fn vm_hwm_kib(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// User and system time of all children waited for so far.
fn children_cpu_s() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field may hold anything between its parentheses; cutime and cstime are the 14th and 15th after it.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: Vec<f64> = after_name
        .split_whitespace()
        .skip(13)
        .take(2)
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}

/// Waits until the file system that holds `path` has written everything back.
pub(super) fn sync(path: &Path) -> Result<()> {
    let status = Command::new("sync").arg("-f").arg(path).status()?;
    if status.success() { Ok(()) } else { Err(format!("sync -f {}: {status}", path.display()).into()) }
}
