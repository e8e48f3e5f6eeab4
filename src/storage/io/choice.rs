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
    /// Whether it holds for local file systems only.
    #[serde(skip)]
    is_local: bool,
}

/// What decides it if nobody asks for a way. Limit and file system are named as messages name them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IoGrounds<'n> {
    /// The room that the tightest limit leaves for page cache, and that limit.
    pub(crate) room: Option<(u64, &'n str)>,
    /// The network file system that the base is on.
    pub(crate) network: Option<&'n str>,
    /// Whether the base is not in the page cache.
    pub(crate) is_cold: bool,
}

impl IoChoice {
    /// What was asked for; else past the page cache where a limit leaves little room for that, several reads at once where the
    /// base is on a network file system, and past the cache again where the base is not in it: each byte is read once, so
    /// that a cache only costs copies.
    pub(crate) fn new(asked: Option<IoMode>, grounds: IoGrounds<'_>) -> IoChoice {
        let unusual = |mode, reason| IoChoice { mode, reason, is_unusual: true, is_local: false };
        let usual = |mode, reason: &str| IoChoice {
            mode,
            reason: reason.to_owned(),
            is_unusual: false,
            is_local: true,
        };
        if let Some(mode) = asked {
            return unusual(mode, "--io".to_owned());
        }
        match grounds {
            IoGrounds { room: Some((room, limit)), .. } if room < LITTLE => {
                unusual(IoMode(&Direct), format!("little page cache fits the {limit}"))
            }
            IoGrounds { network: Some(name), .. } => {
                unusual(IoMode(&Parallel), format!("the base is on {name}"))
            }
            IoGrounds { is_cold: true, .. } => usual(IoMode(&Direct), "the base is not in the page cache"),
            _ => usual(IoMode::default(), "the base is in the page cache"),
        }
    }

    /// The way of what is written where the output is on a `network` file system, or on none.
    pub(crate) fn for_output(&self, network: Option<&str>) -> IoMode {
        if self.is_local && network.is_some() { IoMode::default() } else { self.mode }
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
        let grounds =
            |room: Option<u64>| IoGrounds { room: room.map(|room| (room, limit)), ..IoGrounds::default() };
        let name = |asked, room| IoChoice::new(asked, grounds(room)).mode.name();
        assert_eq!(name(None, None), "buffered");
        assert_eq!(name(None, Some(0)), "direct");
        assert_eq!(name(None, Some(LITTLE - 1)), "direct");
        assert_eq!(name(None, Some(LITTLE)), "buffered");
        for mode in IoMode::names() {
            assert_eq!(name(IoMode::find(mode), Some(0)), mode);
        }
        let on_network = |room| {
            IoChoice::new(None, IoGrounds { network: Some("NFS"), is_cold: true, ..grounds(Some(room)) })
        };
        assert_eq!(on_network(LITTLE).to_string(), "parallel I/O (the base is on NFS)");
        assert!(on_network(0).to_string().starts_with("direct"));
        let shown = IoChoice::new(None, grounds(Some(0))).to_string();
        assert_eq!(shown, "direct I/O (little page cache fits the cgroup limit of 64 MB)");
    }

    #[test]
    fn the_cache_is_passed_where_the_base_is_not_in_it_but_not_on_the_way_to_a_server() {
        let cold = IoChoice::new(None, IoGrounds { is_cold: true, ..IoGrounds::default() });
        assert_eq!(cold.to_string(), "direct I/O (the base is not in the page cache)");
        assert!(!cold.is_unusual);
        assert_eq!(
            (cold.for_output(None).name(), cold.for_output(Some("NFS")).name()),
            ("direct", "buffered")
        );
        let asked = IoChoice::new(IoMode::find("direct"), IoGrounds::default());
        assert_eq!(asked.for_output(Some("NFS")).name(), "direct");
        let warm = IoChoice::new(None, IoGrounds::default());
        assert_eq!(warm.to_string(), "buffered I/O (the base is in the page cache)");
    }
}
