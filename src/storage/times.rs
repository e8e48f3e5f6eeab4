//! [`FileTimes`]: when a file was written and when anything of it changed last, for telling what is older than what.

/// When a file was written, and when it changed last, by one clock. Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileTimes {
    /// Which clock: times of two clocks say nothing about each other.
    pub clock: u64,
    /// When its bytes were written last, as whoever owns the file would have it.
    pub written: (i64, i64),
    /// When its bytes or its attributes changed last. Nobody can set this back.
    pub changed: (i64, i64),
    /// When a name that leads to it changed last.
    pub named: (i64, i64),
}

impl FileTimes {
    /// Whether the file has surely stood as it is since before the file of `mark` was written. What changed within the same
    /// tick of the clock may have done so after it.
    pub(crate) fn is_older_than(&self, mark: &FileTimes) -> bool {
        self.clock == mark.clock && self.changed.max(self.named) < mark.written.min(mark.changed)
    }

    /// Those of two files as of one; none where their clocks are not the same.
    pub(crate) fn with(self, other: FileTimes) -> Option<FileTimes> {
        (self.clock == other.clock).then(|| FileTimes {
            clock: self.clock,
            written: self.written.max(other.written),
            changed: self.changed.max(other.changed),
            named: self.named.max(other.named),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_surely_older_is() {
        let at = |clock, written, changed| FileTimes {
            clock,
            written: (written, 0),
            changed: (changed, 5),
            named: (0, 0),
        };
        let mark = at(0, 10, 20);
        assert!(at(0, 30, 9).is_older_than(&mark), "when it was written can be set to anything");
        for other in [at(0, 1, 10), at(0, 1, 15), at(1, 1, 1)] {
            assert!(!other.is_older_than(&mark), "{other:?}");
        }
        assert!(!FileTimes { named: (10, 0), ..at(0, 1, 1) }.is_older_than(&mark), "by another name");
        // A record that claims to be from the future.
        assert!(!at(0, 1, 25).is_older_than(&at(0, 99, 20)));
        assert_eq!(at(0, 1, 2).with(at(0, 3, 1)), Some(at(0, 3, 2)));
        assert_eq!(at(0, 1, 2).with(at(1, 3, 1)), None);
    }
}
