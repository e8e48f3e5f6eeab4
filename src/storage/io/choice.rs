//! [`IoChoice`]: which way files are read and written, and why.

use std::fmt;

use serde::Serialize;

use crate::storage::io::direct::Direct;
use crate::storage::io::parallel::Parallel;
use crate::storage::io::settings::IoMode;

/// Page cache that a limit leaves less room for than this is reclaimed all the while, which takes longer than the merge.
const LITTLE: u64 = 64 << 20;

/// Which way files are read and written, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IoChoice {
    /// The way.
    pub mode: IoMode,
    /// Why.
    pub reason: String,
    /// Whether it is worth a word: it was asked for, or a limit asks for it.
    #[serde(skip)]
    pub is_unusual: bool,
}

impl IoChoice {
    /// What was asked for; else past the page cache where a limit leaves little `room` for that, and several reads at once
    /// where the base is on a `network` file system. Limit and file system are named as messages name them.
    pub(crate) fn new(asked: Option<IoMode>, room: Option<(u64, &str)>, network: Option<&str>) -> IoChoice {
        if let Some(mode) = asked {
            return IoChoice { mode, reason: "--io".to_owned(), is_unusual: true };
        }
        match room {
            Some((room, limit)) if room < LITTLE => {
                let reason = format!("little page cache fits the {limit}");
                IoChoice { mode: IoMode(&Direct), reason, is_unusual: true }
            }
            _ => match network {
                Some(name) => {
                    let reason = format!("the base is on {name}");
                    IoChoice { mode: IoMode(&Parallel), reason, is_unusual: true }
                }
                None => {
                    let reason = "no cgroup limit is tight".to_owned();
                    IoChoice { mode: IoMode::default(), reason, is_unusual: false }
                }
            },
        }
    }
}

impl fmt::Display for IoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} I/O ({})", self.mode.name(), self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_passed_where_a_limit_is_tight_unless_asked_otherwise() {
        let limit = "cgroup limit of 64 MB";
        let name =
            |asked, room: Option<u64>| IoChoice::new(asked, room.map(|room| (room, limit)), None).mode.name();
        assert_eq!(name(None, None), "buffered");
        assert_eq!(name(None, Some(0)), "direct");
        assert_eq!(name(None, Some(LITTLE - 1)), "direct");
        assert_eq!(name(None, Some(LITTLE)), "buffered");
        for mode in IoMode::names() {
            assert_eq!(name(IoMode::find(mode), Some(0)), mode);
        }
        let on_network = |room| IoChoice::new(None, Some((room, limit)), Some("NFS")).to_string();
        assert_eq!(on_network(LITTLE), "parallel I/O (the base is on NFS)");
        assert!(on_network(0).starts_with("direct"));
        let shown = IoChoice::new(None, Some((0, limit)), None).to_string();
        assert_eq!(shown, "direct I/O (little page cache fits the cgroup limit of 64 MB)");
    }
}
