//! One limit on the memory of this process, and what sets it.

use std::fmt;

use crate::tensor::size::show_size;

/// From here on a number means "no limit": the kernel writes 2⁶³ cut down to whole pages.
const NONE_FROM: u64 = 1 << 60;

/// What sets a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LimitKind {
    /// `memory.max` of a cgroup v2: beyond it the kernel kills.
    CgroupV2,
    /// `memory.limit_in_bytes` of a cgroup v1: beyond it the kernel kills.
    CgroupV1,
    /// `memory.high` of a cgroup v2: beyond it the kernel slows the process down.
    CgroupHigh,
    /// `SLURM_MEM_PER_NODE`: what the job asked for on each node.
    SlurmNode,
    /// `SLURM_MEM_PER_CPU` times `SLURM_CPUS_ON_NODE`.
    SlurmCpu,
    /// RLIMIT_AS: everything mapped, touched or not; beyond it mapping fails.
    AddressSpace,
    /// RLIMIT_DATA: private memory, mapped files not counted; beyond it mapping fails.
    DataSegment,
    /// RLIMIT_RSS: Linux does not enforce it, but a batch system that sets it means it.
    Resident,
    /// The memory of the machine.
    Machine,
}

/// One limit on the memory of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// What sets it.
    pub kind: LimitKind,
    /// The limit in bytes.
    pub bytes: u64,
    /// Bytes that may still be taken under it now, at most `bytes`; `bytes` where the use is not known. What this
    /// process already holds counts as taken; page cache that the kernel would give up first does not.
    pub free: u64,
    /// The file or variable it was read from, for messages.
    pub from: String,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            LimitKind::CgroupV1 | LimitKind::CgroupV2 => "cgroup limit",
            LimitKind::CgroupHigh => "cgroup soft limit",
            LimitKind::SlurmNode | LimitKind::SlurmCpu => "Slurm request",
            LimitKind::AddressSpace => "address space limit",
            LimitKind::DataSegment => "data segment limit",
            LimitKind::Resident => "resident set limit",
            LimitKind::Machine => return write!(f, "{} available", show_size(self.free)),
        };
        write!(f, "{} free of the {what} of {} ({})", show_size(self.free), show_size(self.bytes), self.from)
    }
}

/// A limit under which `used` bytes are taken, unless `bytes` stands for none.
pub(crate) fn limit(
    kind: LimitKind,
    bytes: u64,
    used: Option<u64>,
    from: impl Into<String>,
) -> Option<Limit> {
    (bytes < NONE_FROM).then(|| Limit {
        kind,
        bytes,
        free: bytes.saturating_sub(used.unwrap_or(0)),
        from: from.into(),
    })
}
