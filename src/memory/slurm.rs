//! What Slurm was asked for.

use std::collections::BTreeMap;

use crate::memory::limit::{Limit, LimitKind, limit};

/// What Slurm was asked for. The variables hold MiB, or a number with `K`, `M`, `G` or `T` (powers of 1024 to Slurm); 0
/// asks for the whole node.
pub(crate) fn slurm_limits(
    variables: &BTreeMap<String, String>,
    resident: Option<u64>,
    limits: &mut Vec<Limit>,
) {
    let request = |name: &str| {
        let text = variables.get(name)?.trim();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match &text[digits.len()..] {
            "K" | "k" => 1 << 10,
            "" | "M" | "m" => 1 << 20,
            "G" | "g" => 1 << 30,
            "T" | "t" => 1 << 40,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(unit).filter(|&bytes| bytes > 0)
    };
    if let Some(bytes) = request("SLURM_MEM_PER_NODE") {
        limits.extend(limit(LimitKind::SlurmNode, bytes, resident, "SLURM_MEM_PER_NODE"));
    }
    let cpus = variables.get("SLURM_CPUS_ON_NODE").and_then(|cpus| cpus.trim().parse::<u64>().ok());
    if let (Some(per_cpu), Some(cpus @ 1..)) = (request("SLURM_MEM_PER_CPU"), cpus) {
        let from = "SLURM_MEM_PER_CPU × SLURM_CPUS_ON_NODE";
        let bytes = per_cpu.saturating_mul(cpus);
        limits.extend(limit(LimitKind::SlurmCpu, bytes, resident, from));
    }
}
