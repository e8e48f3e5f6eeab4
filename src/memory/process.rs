//! What this process holds now, and what it held at most: the numbers `--max-ram` is promised on.
//!
//! [`process`] is called while a merge runs and must not disturb what it measures: on Linux it reads
//! `/proc/self/status` through a buffer on the stack and never touches the heap.

use std::path::Path;

use crate::memory::cgroup::Cgroup;

/// Memory of this process in bytes. What the system does not tell is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// The resident set (`VmRSS`): touched private pages and touched pages of mapped files.
    pub resident: u64,
    /// The largest resident set so far (`VmHWM`); 0 where only the present one is known. On large hosts it may be off
    /// by some MiB, since every CPU holds a part of the count back.
    pub peak: u64,
}

/// The memory of this process as it is now.
#[cfg(target_os = "linux")]
pub(crate) fn process() -> Usage {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::retry_on_intr;

    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = retry_on_intr(|| rustix::fs::open(c"/proc/self/status", flags, Mode::empty())) else {
        return Usage::default();
    };
    let status = Status::scan(|buf| retry_on_intr(|| rustix::io::read(&file, &mut *buf)).unwrap_or(0));
    Usage { resident: status.resident.unwrap_or(0), peak: status.peak.unwrap_or(0) }
}

/// The memory of this process as it is now. Only Linux tells the peak.
#[cfg(not(target_os = "linux"))]
pub fn process() -> Usage {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System, get_current_pid};

    let (Ok(pid), Ok(mut system)) = (get_current_pid(), System::new()) else {
        return Usage::default();
    };
    let memory = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, memory);
    Usage { resident: system.process(pid).map_or(0, |process| process.memory()), peak: 0 }
}

/// The most bytes charged to this process's own memory cgroup, page cache included, since the group was made.
///
/// Other processes of the group count too. `None` where the group keeps no such record: outside Linux, before Linux
/// 5.19 under v2, in the true root of v2, or where the memory controller is not enabled in the group itself.
pub(crate) fn cgroup_peak() -> Option<u64> {
    Cgroup::find(Path::new("/"), Path::new("/proc"))?.peak()
}

/// Lines of `/proc/self/status`, in bytes; `None` for a line that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// `VmRSS`.
    pub(crate) resident: Option<u64>,
    /// `VmHWM`.
    pub(crate) peak: Option<u64>,
    /// `VmSize`, what RLIMIT_AS limits.
    pub(crate) address_space: Option<u64>,
    /// `VmData`, what RLIMIT_DATA limits.
    pub(crate) data: Option<u64>,
}

impl Status {
    /// Takes the lines out of what `read` puts into a buffer, piece by piece; 0 bytes are the end.
    ///
    /// The file has no largest size (`Groups` may list thousands), so a line that outgrows the buffer is skipped.
    pub(crate) fn scan(mut read: impl FnMut(&mut [u8]) -> usize) -> Status {
        let mut status = Status::default();
        let mut buf = [0; 1024];
        let (mut held, mut skipping) = (0, false);
        loop {
            if held == buf.len() {
                (held, skipping) = (0, true);
            }
            let got = read(&mut buf[held..]);
            if got == 0 {
                break;
            }
            let end = held + got;
            let mut start = 0;
            while let Some(length) = buf[start..end].iter().position(|&byte| byte == b'\n') {
                if !skipping {
                    status.take(&buf[start..start + length]);
                }
                skipping = false;
                start += length + 1;
            }
            buf.copy_within(start..end, 0);
            held = end - start;
        }
        status
    }

    fn take(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let field = match &line[..colon] {
            b"VmRSS" => &mut self.resident,
            b"VmHWM" => &mut self.peak,
            b"VmSize" => &mut self.address_space,
            b"VmData" => &mut self.data,
            _ => return,
        };
        let Some(number) = line[colon + 1..].trim_ascii().strip_suffix(b" kB") else { return };
        *field = str::from_utf8(number)
            .ok()
            .and_then(|number| number.parse::<u64>().ok())
            .and_then(|kib| kib.checked_mul(1024));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scans `bytes` in reads of at most `step`.
    fn scan(mut bytes: &[u8], step: usize) -> Status {
        Status::scan(|buf| {
            let length = bytes.len().min(buf.len()).min(step);
            let (now, later) = bytes.split_at(length);
            buf[..length].copy_from_slice(now);
            bytes = later;
            length
        })
    }

    #[test]
    fn finds_the_lines_however_they_are_cut() {
        let groups = "100000 ".repeat(3000);
        let text = format!(
            "Name:\tcat\nGroups:\t{groups}\nVmSize:\t    3060 kB\nVmHWM:\t    1784 kB\nVmRSS:\t    1700 kB\n\
             VmData:\t     360 kB\nThreads:\t1\n"
        );
        let expected = Status {
            resident: Some(1700 * 1024),
            peak: Some(1784 * 1024),
            address_space: Some(3060 * 1024),
            data: Some(360 * 1024),
        };
        for step in [1, 7, 1000, 1 << 20] {
            assert_eq!(scan(text.as_bytes(), step), expected, "reads of {step}");
        }
    }

    #[test]
    fn garbage_is_unknown() {
        let texts: [&[u8]; 6] = [
            b"",
            b"VmRSS",
            b"VmRSS:\t-1 kB\nVmHWM:\t 1 MB\n",
            b"VmRSS:\t99999999999999999999 kB\nVmHWM:\t18446744073709551615 kB\n",
            b"VmRSS:\n\n\n:\n",
            &[0xff; 5000],
        ];
        for text in texts {
            assert_eq!(scan(text, 64), Status::default(), "{:?}", text.escape_ascii().to_string());
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn touched_pages_are_seen() {
        let before = process();
        assert!(before.resident > 0 && before.peak > 0);
        // A map of its own: an allocator may have pages that another test has touched.
        let mut block = memmap2::MmapMut::map_anon(64 << 20).unwrap();
        block.fill(1);
        std::hint::black_box(&block);
        let with = process();
        assert!(with.resident >= before.resident + (24 << 20), "{before:?} {with:?}");
        drop(block);
        assert!(process().peak >= before.resident + (24 << 20));
    }
}
