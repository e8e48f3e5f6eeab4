//! The memory cgroup of this process and the groups above it.
//!
//! Finding the cgroup is the part with traps. `/proc/self/cgroup` names the group by its path in the whole hierarchy,
//! `/proc/self/mountinfo` tells which part of the hierarchy is mounted where, and a container may see the first as the
//! host does and the second as its own. The smallest limit may be set on any group on the way up, and a group without
//! limit files (the controller is not enabled there) may lie below one that has them. So: subtract the mount's root
//! from the group's path, start at the mount point if that leads nowhere, and look into every directory from there up.
//! One case stays out of reach: in a new cgroup namespace that still sees the mounts of the old one (`unshare -C` and
//! no more), the group is `/` and the mount's root `/../..`, and nothing tells the names in between.

#![expect(clippy::disallowed_methods, reason = "`/proc` and cgroups are read here, and made up by the tests")]

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::memory::limit::{Limit, LimitKind, limit};

/// Nobody has more mounts than fit in this; it keeps a broken file from filling memory.
const MOST_READ: u64 = 4 << 20;

/// The memory cgroup of this process, as far as it is mounted.
#[derive(Debug)]
pub(crate) struct Cgroup {
    version: Version,
    /// The topmost directory of the hierarchy that can be seen.
    top: PathBuf,
    /// Our own group's directory: `top` or below it.
    own: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

impl Cgroup {
    /// Finds the group by `self/cgroup` and `self/mountinfo` in `proc`, with mount points below `root`.
    pub(crate) fn find(root: &Path, proc: &Path) -> Option<Cgroup> {
        let (version, path) = own_path(&read(&proc.join("self/cgroup"))?)?;
        let mounts = read(&proc.join("self/mountinfo"))?;
        let groups = mounts.lines().filter_map(|line| mount(line, version)).map(|(within, point)| {
            let top = root.join(point.strip_prefix("/").unwrap_or(&point));
            let own = Path::new(&path)
                .strip_prefix(&within)
                .ok()
                // A process outside its cgroup namespace's root is at `/..` and so on.
                .filter(|below| below.components().all(|part| matches!(part, Component::Normal(_))))
                .map(|below| top.join(below).components().collect::<PathBuf>()) // no slash at the end for `/`
                .filter(|own| own.is_dir());
            let found = own.is_some();
            let above = within.components().count();
            (found, above, Cgroup { version, own: own.unwrap_or_else(|| top.clone()), top })
        });
        // Of several mounts, one that shows our group is best, then the one that shows most above it; a later one lies
        // on top of an earlier one.
        groups
            .filter(|(_, _, group)| group.top.is_dir())
            .max_by_key(|&(found, above, _)| (found, usize::MAX - above))
            .map(|(_, _, group)| group)
    }

    /// The limits of the group and of all above it that can be seen.
    pub(crate) fn limits(&self, limits: &mut Vec<Limit>) {
        let files: &[(LimitKind, &str)] = match self.version {
            Version::V1 => &[(LimitKind::CgroupV1, "memory.limit_in_bytes")],
            Version::V2 => &[(LimitKind::CgroupV2, "memory.max"), (LimitKind::CgroupHigh, "memory.high")],
        };
        for folder in self.own.ancestors().take_while(|folder| folder.starts_with(&self.top)) {
            for &(kind, name) in files {
                let Some(bytes) = number(&folder.join(name)) else { continue };
                limits.extend(limit(
                    kind,
                    bytes,
                    self.used(folder),
                    format!("{name} of {}", folder.display()),
                ));
            }
        }
    }

    /// Bytes charged to the group in `folder` without cache that has not been used lately, which is given up first.
    fn used(&self, folder: &Path) -> Option<u64> {
        let (usage, inactive) = match self.version {
            // In v1 the plain field leaves the groups below out.
            Version::V1 => ("memory.usage_in_bytes", "total_inactive_file"),
            Version::V2 => ("memory.current", "inactive_file"),
        };
        let reclaimable = read(&folder.join("memory.stat")).and_then(|stat| {
            stat.lines().find_map(|line| line.strip_prefix(inactive)?.trim().parse::<u64>().ok())
        });
        Some(number(&folder.join(usage))?.saturating_sub(reclaimable.unwrap_or(0)))
    }

    /// The most bytes that were ever charged to our own group.
    pub(crate) fn peak(&self) -> Option<u64> {
        number(&self.own.join(match self.version {
            Version::V1 => "memory.max_usage_in_bytes",
            Version::V2 => "memory.peak",
        }))
    }
}

/// The line of `/proc/self/cgroup` that counts. The memory controller is in one hierarchy only, so on a machine with
/// both a v1 line that names it wins.
fn own_path(cgroup: &str) -> Option<(Version, String)> {
    let mut v2 = None;
    for line in cgroup.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if controllers.split(',').any(|controller| controller == "memory") {
            return Some((Version::V1, path.to_owned()));
        }
        if id == "0" && controllers.is_empty() {
            v2 = Some((Version::V2, path.to_owned()));
        }
    }
    v2
}

/// The root within the hierarchy and the mount point, if this line of mountinfo is a mount of the wanted kind.
fn mount(line: &str, version: Version) -> Option<(PathBuf, PathBuf)> {
    // id parent major:minor ROOT POINT options optional-fields... - TYPE source OPTIONS
    let (place, file_system) = line.split_once(" - ")?;
    let mut file_system = file_system.split(' ');
    let (kind, options) = (file_system.next()?, file_system.nth(1).unwrap_or(""));
    let wanted = match version {
        Version::V1 => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
        Version::V2 => kind == "cgroup2",
    };
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    wanted.then(|| (unescape(root).into(), unescape(point).into()))
}

/// Undoes mountinfo's `\040` for a space, and its like for tab, newline and backslash.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

/// The number that a file of one line holds; `max` and garbage are none.
fn number(path: &Path) -> Option<u64> {
    read(path)?.trim().parse().ok()
}

/// The beginning of a text file. Files of `/proc` and of cgroups have no length to go by.
fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    open(path)?.take(MOST_READ).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn open(path: &Path) -> Option<File> {
    File::open(path).ok()
}
