//! [`PartNumber`]: which part of how many, and what its files are called.

use std::fmt;

use crate::plan::share::ShardRange;
use crate::storage::location::Location;

/// The most parts that a merge has: array jobs have no more tasks.
const MOST: u32 = 100_000;

/// One part of a merge that is made in several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartNumber {
    /// Which, from 0.
    index: u32,
    /// Of how many.
    count: u32,
}

impl PartNumber {
    /// The most parts that a merge has.
    pub const MOST: u32 = MOST;

    /// Part `index`, counted from 0, of `count`; none if there is no such part.
    pub fn new(index: u32, count: u32) -> Option<PartNumber> {
        (index < count && count <= MOST).then_some(PartNumber { index, count })
    }

    /// Which, from 0.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Of how many.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Its directory below `parts`.
    pub(crate) fn place(&self, parts: &Location) -> Location {
        parts.join(&format!("part-{:05}-of-{:05}", self.index, self.count))
    }

    /// The number of parts that a name below the directory of parts speaks of.
    pub(crate) fn count_in(name: &str) -> Option<u32> {
        let (_, count) = name.strip_prefix("part-")?.split_once("-of-")?;
        let digits = count.find(|c: char| !c.is_ascii_digit()).unwrap_or(count.len());
        count[..digits].parse().ok()
    }
}

impl fmt::Display for PartNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// The name of the file in which a part has its stretch of a shard.
pub(crate) fn stretch_name(range: &ShardRange) -> String {
    format!("shard-{:05}-from-{:06}", range.shard, range.tensors.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_below_their_count() {
        let shown = |index, count| PartNumber::new(index, count).map(|part| part.to_string());
        assert_eq!(shown(0, 1).as_deref(), Some("0/1"));
        assert_eq!(shown(3, 4).as_deref(), Some("3/4"));
        assert_eq!([shown(4, 4), shown(0, 0), shown(0, MOST + 1)], [const { None }; 3]);
    }

    #[test]
    fn names_tell_their_count() {
        for (name, count) in [
            ("part-00001-of-00004", Some(4)),
            ("part-00001-of-00004.partial", Some(4)),
            ("part-00001-of-00012.partial-1-2-3", Some(12)),
            ("part-1", None),
            ("job.json", None),
        ] {
            assert_eq!(PartNumber::count_in(name), count, "{name}");
        }
    }
}
