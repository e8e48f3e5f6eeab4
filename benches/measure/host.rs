//! What one must know of the machine to read a figure.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::Result;

/// The machine, as far as it decides the figures.
#[derive(Clone)]
pub(super) struct Host {
    name: String,
    /// CPU model and number of cores we may use.
    pub(super) cpu: String,
    pub(super) kernel: String,
    /// Type of the file system of the work folder.
    pub(super) file_system: String,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {}: {}, Linux {}, {}", self.name, self.cpu, self.kernel, self.file_system)
    }
}

/// Looks at this machine and at the file system of `folder`.
pub(super) fn describe(folder: &Path) -> Result<Host> {
    let kernel_says = |file: &str| fs::read_to_string(format!("/proc/sys/kernel/{file}"));
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model =
        cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let cores = std::thread::available_parallelism()?;
    Ok(Host {
        name: kernel_says("hostname")?.trim().to_owned(),
        cpu: format!("{} × {cores}", model.unwrap_or(std::env::consts::ARCH).trim()),
        kernel: kernel_says("osrelease")?.trim().to_owned(),
        file_system: df(folder, "fstype")?,
    })
}

/// Free bytes of the file system that holds `folder`.
pub(super) fn free_bytes(folder: &Path) -> Result<u64> {
    Ok(df(folder, "avail")?.parse()?)
}

/// One column of `df` for a folder.
fn df(folder: &Path, column: &str) -> Result<String> {
    let output = Command::new("df").arg("-B1").arg(format!("--output={column}")).arg(folder).output()?;
    let text = String::from_utf8(output.stdout)?;
    let value = text.lines().nth(1).ok_or("df printed no second line")?;
    Ok(value.trim().to_owned())
}
