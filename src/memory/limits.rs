//! Which limits on memory hold for this process, and what is free under each.
//!
//! Limits come from four places: the memory cgroup and every group above it, Slurm's variables, the resource limits of
//! the process, and the machine itself. [`find`] lists them all; choosing a budget from them is left to the caller.
//!
//! `sysinfo` looks at one group only, which is why it serves here for the machine and nothing else.
//!
//! All inputs stand in an [`Environment`], so that tests run on made-up trees. Nothing here fails: what cannot be read
//! is no limit.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use crate::memory::cgroup::{Cgroup, open};
use crate::memory::limit::{Limit, LimitKind, limit};
use crate::memory::process::Status;
use crate::memory::rlimit::{ResourceLimits, own_resource_limits};
use crate::memory::slurm::slurm_limits;

/// Memory of the machine in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// All of it.
    pub total: u64,
    /// What can be had without swapping (`MemAvailable`).
    pub available: u64,
}

/// Everything that [`find`] looks at.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    /// What stands for `/`: mount points are looked up below it.
    pub root: PathBuf,
    /// What stands for `/proc`: `self/cgroup`, `self/mountinfo` and `self/status` are read in it.
    pub proc: PathBuf,
    /// Environment variables by name; only those of Slurm are asked for.
    pub variables: BTreeMap<String, String>,
    /// Resource limits of the process.
    pub resources: ResourceLimits,
    /// The machine's memory, if the system tells it.
    pub machine: Option<Machine>,
}

impl Environment {
    /// The environment that this process runs in, as it is now.
    pub(crate) fn of_this_process() -> Environment {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("SLURM_"))
            .collect();
        Environment {
            root: PathBuf::from("/"),
            proc: PathBuf::from("/proc"),
            variables,
            resources: own_resource_limits(),
            machine: this_machine(),
        }
    }
}

fn this_machine() -> Option<Machine> {
    use sysinfo::{MemoryRefreshKind, System};

    let mut system = System::new().ok()?;
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    let machine = Machine { total: system.total_memory(), available: system.available_memory() };
    (machine.total > 0).then_some(machine)
}

/// All limits in force, the one with the least `free` first.
///
/// Every group from our own up to the mount point has an entry of its own for each limit set on it: what is free under
/// an outer one depends on its other members too, so that a larger limit may be the tighter one.
pub(crate) fn find(environment: &Environment) -> Vec<Limit> {
    let status = open(&environment.proc.join("self/status"))
        .map(|mut file| Status::scan(|buf| file.read(buf).unwrap_or(0)))
        .unwrap_or_default();
    let mut limits = Vec::new();
    if let Some(group) = Cgroup::find(&environment.root, &environment.proc) {
        group.limits(&mut limits);
    }
    slurm_limits(&environment.variables, status.resident, &mut limits);
    let resources = [
        (LimitKind::AddressSpace, environment.resources.address_space, status.address_space, "RLIMIT_AS"),
        (LimitKind::DataSegment, environment.resources.data, status.data, "RLIMIT_DATA"),
        (LimitKind::Resident, environment.resources.resident, status.resident, "RLIMIT_RSS"),
    ];
    for (kind, bytes, used, from) in resources {
        limits.extend(bytes.and_then(|bytes| limit(kind, bytes, used, from)));
    }
    limits.extend(environment.machine.map(|Machine { total, available }| Limit {
        kind: LimitKind::Machine,
        bytes: total,
        free: available.min(total),
        from: "MemAvailable".to_owned(),
    }));
    limits.sort_unstable_by_key(|limit| (limit.free, limit.bytes, limit.kind));
    limits
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "trees of files are made up")]

    use super::*;
    use crate::tensor::size::show_size;
    use tempfile::TempDir;

    const MIB: u64 = 1 << 20;
    const V2_MOUNT: &str = "41 31 0:38 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1_MOUNT: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw shared:7 - cgroup cgroup rw,memory\n";

    /// A made-up machine: `files` in a folder that stands for `/`.
    struct Tree {
        folder: TempDir,
        environment: Environment,
    }

    fn tree(files: &[(&str, &str)]) -> Tree {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let environment = Environment {
            root: folder.path().to_owned(),
            proc: folder.path().join("proc"),
            variables: BTreeMap::new(),
            resources: ResourceLimits::default(),
            machine: None,
        };
        Tree { folder, environment }
    }

    impl Tree {
        /// Kind, limit, free and directory of every cgroup limit, tightest first.
        fn found(&self) -> Vec<(LimitKind, u64, u64, String)> {
            let root = self.folder.path().to_str().unwrap();
            find(&self.environment)
                .into_iter()
                .map(|limit| (limit.kind, limit.bytes, limit.free, limit.from.replace(root, "")))
                .collect()
        }
    }

    #[test]
    fn v2_smallest_limit_above_the_leaf() {
        let tree = tree(&[
            ("proc/self/cgroup", "0::/job/step/task\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/job/memory.max", "67108864\n"),
            ("sys/fs/cgroup/job/memory.current", "1048576\n"),
            ("sys/fs/cgroup/job/step/memory.max", "max\n"),
            ("sys/fs/cgroup/job/step/task/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/job/step/task/memory.high", "max\n"),
        ]);
        assert_eq!(
            tree.found(),
            [
                (LimitKind::CgroupV2, 64 * MIB, 63 * MIB, "memory.max of /sys/fs/cgroup/job".to_owned()),
                (
                    LimitKind::CgroupV2,
                    1024 * MIB,
                    1024 * MIB,
                    "memory.max of /sys/fs/cgroup/job/step/task".to_owned()
                ),
            ]
        );
    }

    #[test]
    fn v2_leaf_without_the_controller_is_skipped() {
        let tree = tree(&[
            ("proc/self/cgroup", "0::/job/leaf\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/job/leaf/cgroup.procs", "1\n"),
            ("sys/fs/cgroup/job/memory.max", "67108864\n"),
        ]);
        assert_eq!(find(&tree.environment).first().map(|limit| limit.bytes), Some(64 * MIB));
        let group = Cgroup::find(&tree.environment.root, &tree.environment.proc).unwrap();
        assert_eq!(group.peak(), None);
    }

    #[test]
    fn v2_high_lower_than_max() {
        let tree = tree(&[
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/memory.max", "67108864\n"),
            ("sys/fs/cgroup/memory.high", "33554432\n"),
            ("sys/fs/cgroup/memory.peak", "4096\n"),
        ]);
        let [high, max] = ["memory.high", "memory.max"].map(|name| format!("{name} of /sys/fs/cgroup"));
        assert_eq!(
            tree.found(),
            [
                (LimitKind::CgroupHigh, 32 * MIB, 32 * MIB, high),
                (LimitKind::CgroupV2, 64 * MIB, 64 * MIB, max)
            ]
        );
        let group = Cgroup::find(&tree.environment.root, &tree.environment.proc).unwrap();
        assert_eq!(group.peak(), Some(4096));
    }

    #[test]
    fn v2_inactive_file_is_free() {
        let tree = tree(&[
            ("proc/self/cgroup", "0::/job\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/job/memory.max", "67108864\n"),
            ("sys/fs/cgroup/job/memory.current", "62914560\n"),
            (
                "sys/fs/cgroup/job/memory.stat",
                "anon 1048576\ninactive_file_x 9\ninactive_file 41943040\nactive_file 4096\n",
            ),
        ]);
        assert_eq!(tree.found()[0].2, (64 - 60 + 40) * MIB);
    }

    #[test]
    fn v1_limits_with_the_files_below_counted() {
        let tree = tree(&[
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/job\n"),
            ("proc/self/mountinfo", V1_MOUNT),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "67108864\n"),
            ("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "62914560\n"),
            ("sys/fs/cgroup/memory/job/memory.max_usage_in_bytes", "62914561\n"),
            ("sys/fs/cgroup/memory/job/memory.stat", "inactive_file 0\ntotal_inactive_file 41943040\n"),
        ]);
        let from = "memory.limit_in_bytes of /sys/fs/cgroup/memory/job".to_owned();
        assert_eq!(tree.found(), [(LimitKind::CgroupV1, 64 * MIB, 44 * MIB, from)]);
        let group = Cgroup::find(&tree.environment.root, &tree.environment.proc).unwrap();
        assert_eq!(group.peak(), Some(62_914_561));
    }

    #[test]
    fn v1_container_that_sees_the_paths_of_the_host() {
        // As Docker mounts it: the mount shows /docker/abc, and that is where we are.
        let mountinfo = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let tree = tree(&[
            ("proc/self/cgroup", "4:memory:/docker/abc/inner\n"),
            ("proc/self/mountinfo", mountinfo),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "67108864\n"),
            ("sys/fs/cgroup/memory/inner/memory.limit_in_bytes", "33554432\n"),
        ]);
        let bytes: Vec<_> = tree.found().into_iter().map(|(_, bytes, ..)| bytes).collect();
        assert_eq!(bytes, [32 * MIB, 64 * MIB]);
    }

    #[test]
    fn a_path_that_leads_nowhere_starts_at_the_mount_point() {
        let paths = ["/kubepods/pod1/abc", "/../other", "/../../sys/fs/cgroup/memory/secret", ""];
        for path in paths {
            for (line, mount, file) in [
                (format!("0::{path}\n"), V2_MOUNT, "sys/fs/cgroup/memory.max"),
                (format!("4:memory:{path}\n"), V1_MOUNT, "sys/fs/cgroup/memory/memory.limit_in_bytes"),
            ] {
                let tree = tree(&[
                    ("proc/self/cgroup", &line),
                    ("proc/self/mountinfo", mount),
                    (file, "67108864\n"),
                    ("sys/fs/cgroup/memory/secret/memory.limit_in_bytes", "1\n"),
                ]);
                let bytes: Vec<_> = tree.found().into_iter().map(|(_, bytes, ..)| bytes).collect();
                assert_eq!(bytes, [64 * MIB], "{line}");
            }
        }
    }

    #[test]
    fn hybrid_takes_the_v1_line() {
        let mountinfo = V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified") + V1_MOUNT;
        let tree = tree(&[
            ("proc/self/cgroup", "0::/job\n4:memory:/job\n1:name=systemd:/\n"),
            ("proc/self/mountinfo", &mountinfo),
            ("sys/fs/cgroup/unified/job/memory.max", "1\n"),
            ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "67108864\n"),
        ]);
        let kinds: Vec<_> = tree.found().into_iter().map(|(kind, bytes, ..)| (kind, bytes)).collect();
        assert_eq!(kinds, [(LimitKind::CgroupV1, 64 * MIB)]);
    }

    #[test]
    fn of_several_mounts_the_one_that_shows_most() {
        let mountinfo = "1 0 0:1 /job/step /a rw - cgroup2 cgroup2 rw\n\
                         2 0 0:1 /other /b rw - cgroup2 cgroup2 rw\n\
                         3 0 0:1 / /with\\040space\\134 rw - cgroup2 cgroup2 rw\n\
                         4 0 0:1 / /gone rw - cgroup2 cgroup2 rw\n";
        let tree = tree(&[
            ("proc/self/cgroup", "0::/job/step\n"),
            ("proc/self/mountinfo", mountinfo),
            ("a/memory.max", "67108864\n"),
            ("b/memory.max", "1\n"),
            ("with space\\/job/memory.max", "33554432\n"),
            ("with space\\/job/step/memory.max", "67108864\n"),
        ]);
        let bytes: Vec<_> = tree.found().into_iter().map(|(_, bytes, ..)| bytes).collect();
        assert_eq!(bytes, [32 * MIB, 64 * MIB]);
    }

    #[test]
    fn numbers_that_mean_none() {
        for text in ["max", "9223372036854771712", "9223372036854710272", "9223372036854775807", "-1"] {
            let tree = tree(&[
                ("proc/self/cgroup", "4:memory:/\n"),
                ("proc/self/mountinfo", V1_MOUNT),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", text),
            ]);
            assert_eq!(tree.found(), [], "{text}");
        }
    }

    #[test]
    fn broken_files_are_no_limits() {
        let long = "9".repeat(5 * MIB as usize);
        let texts = ["", "\n\n", ":::", "0::", "4:memory", "\0\u{fffd}", " - ", "a - cgroup2", &long];
        for text in texts {
            for (cgroup, mountinfo) in [(text, V2_MOUNT), ("0::/job\n", text), (text, text)] {
                let tree = tree(&[("proc/self/cgroup", cgroup), ("proc/self/mountinfo", mountinfo)]);
                assert_eq!(tree.found(), []);
            }
            let tree = tree(&[
                ("proc/self/cgroup", "0::/job\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("proc/self/status", text),
                ("sys/fs/cgroup/job/memory.max", text),
                ("sys/fs/cgroup/memory.max", "67108864"),
                ("sys/fs/cgroup/memory.current", text),
                ("sys/fs/cgroup/memory.stat", text),
            ]);
            let found: Vec<_> = tree.found().into_iter().map(|(_, bytes, free, _)| (bytes, free)).collect();
            assert_eq!(found, [(64 * MIB, 64 * MIB)]);
        }
        // A directory where a file should be, bytes that are no text, and nothing at all.
        let tree = tree(&[
            ("proc/self/cgroup", "0::/job\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/job/memory.max/x", ""),
        ]);
        assert_eq!(tree.found(), []);
        std::fs::write(tree.folder.path().join("proc/self/cgroup"), [0xff, b':', 0xfe]).unwrap();
        assert_eq!(tree.found(), []);
        let nowhere = Environment { proc: tree.folder.path().join("nowhere"), ..tree.environment };
        assert_eq!(find(&nowhere), []);
    }

    #[test]
    fn more_charged_than_allowed_leaves_nothing_free() {
        let tree = tree(&[
            ("proc/self/cgroup", "0::/\n"),
            ("proc/self/mountinfo", V2_MOUNT),
            ("sys/fs/cgroup/memory.max", "4096"),
            ("sys/fs/cgroup/memory.current", "18446744073709551615"),
        ]);
        assert_eq!(tree.found()[0].2, 0);
    }

    #[test]
    fn slurm_variables() {
        type Case<'a> = (&'a [(&'a str, &'a str)], Option<(LimitKind, u64)>);
        let cases: [Case<'_>; 11] = [
            (&[("SLURM_MEM_PER_NODE", "16384")], Some((LimitKind::SlurmNode, 16 << 30))),
            (&[("SLURM_MEM_PER_NODE", "16G")], Some((LimitKind::SlurmNode, 16 << 30))),
            (
                &[("SLURM_MEM_PER_CPU", "1024"), ("SLURM_CPUS_ON_NODE", "4")],
                Some((LimitKind::SlurmCpu, 4 << 30)),
            ),
            (&[("SLURM_MEM_PER_CPU", "1024")], None),
            (&[("SLURM_MEM_PER_CPU", "1024"), ("SLURM_CPUS_ON_NODE", "0")], None),
            (&[("SLURM_MEM_PER_CPU", "9999999999999"), ("SLURM_CPUS_ON_NODE", "99999999999")], None),
            (&[("SLURM_MEM_PER_NODE", "0")], None),
            (&[("SLURM_MEM_PER_NODE", "")], None),
            (&[("SLURM_MEM_PER_NODE", "lots")], None),
            (&[("SLURM_MEM_PER_NODE", "５G")], None),
            (&[("SLURM_MEM_PER_NODE", "99999999999999999999")], None),
        ];
        for (variables, expected) in cases {
            let mut tree = tree(&[]);
            tree.environment.variables =
                variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            let found = find(&tree.environment).first().map(|limit| (limit.kind, limit.bytes));
            assert_eq!(found, expected, "{variables:?}");
        }
    }

    #[test]
    fn resource_limits_and_the_machine_in_order() {
        let status = "VmSize:\t 2097152 kB\nVmHWM:\t 2048 kB\nVmRSS:\t 1024 kB\nVmData:\t 524288 kB\n";
        let mut tree = tree(&[("proc/self/status", status)]);
        tree.environment.resources = ResourceLimits {
            address_space: Some(4096 * MIB),
            data: Some(2048 * MIB),
            resident: Some(u64::MAX),
        };
        tree.environment.machine = Some(Machine { total: 8192 * MIB, available: 1024 * MIB });
        tree.environment.variables.insert("SLURM_MEM_PER_NODE".to_owned(), "512".to_owned());
        let found: Vec<_> =
            find(&tree.environment).iter().map(|limit| (limit.to_string(), limit.free)).collect();
        let expected = [
            ("511 MiB free of the Slurm request of 512 MiB (SLURM_MEM_PER_NODE)", 511),
            ("1 GiB available", 1024),
            ("1.5 GiB free of the data segment limit of 2 GiB (RLIMIT_DATA)", 1536),
            ("2 GiB free of the address space limit of 4 GiB (RLIMIT_AS)", 2048),
        ];
        assert_eq!(found, expected.map(|(text, free)| (text.to_owned(), free * MIB)));
    }

    #[test]
    fn messages_name_the_file() {
        let limit = Limit {
            kind: LimitKind::CgroupV2,
            bytes: 64 * MIB,
            free: 32 * MIB,
            from: "memory.max of /sys/fs/cgroup/job".to_owned(),
        };
        assert_eq!(
            limit.to_string(),
            "32 MiB free of the cgroup limit of 64 MiB (memory.max of /sys/fs/cgroup/job)"
        );
        let high = Limit { kind: LimitKind::CgroupHigh, ..limit };
        assert_eq!(
            high.to_string(),
            "32 MiB free of the cgroup soft limit of 64 MiB (memory.max of /sys/fs/cgroup/job)"
        );
    }

    #[test]
    fn this_process_has_a_machine() {
        let limits = find(&Environment::of_this_process());
        assert!(limits.is_sorted_by_key(|limit| limit.free));
        assert!(limits.iter().any(|limit| limit.kind == LimitKind::Machine && limit.bytes > 0));
    }

    /// Run it under a limit, in a group, under `prlimit` or in a batch job, with the limit's bytes in the variable.
    #[test]
    #[ignore = "needs a limit in force, and SHARDFOLD_TEST_LIMIT to say how many bytes: `make check-memory`"]
    fn finds_the_limit_it_runs_under() {
        let bytes = std::env::var("SHARDFOLD_TEST_LIMIT").unwrap().parse().unwrap();
        let limits = find(&Environment::of_this_process());
        for limit in &limits {
            println!("{limit}, {} free", show_size(limit.free));
        }
        println!(
            "{:?}, cgroup peak {:?}",
            crate::memory::process::process(),
            crate::memory::process::cgroup_peak()
        );
        assert_eq!(limits[0].bytes, bytes);
        assert!(limits[0].free < bytes && limits[0].free > bytes / 8);
    }
}
