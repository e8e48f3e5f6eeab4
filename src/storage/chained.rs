//! Several files read as one: the bytes of one behind those of the other.

use crate::error::Result;
use crate::storage::source::Source;
use crate::storage::times::FileTimes;

/// Files one behind the other.
pub(crate) struct Chained {
    /// Each with the offset that its first byte has here; none without one.
    parts: Vec<(u64, Box<dyn Source>)>,
    len: u64,
}

impl Chained {
    /// All of `sources`, in that order.
    pub(crate) fn new(sources: Vec<Box<dyn Source>>) -> Chained {
        let mut len = 0;
        let mut parts = Vec::with_capacity(sources.len());
        for source in sources {
            let start = len;
            len += source.len();
            parts.push((start, source));
        }
        Chained { parts, len }
    }
}

impl Source for Chained {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let (mut buf, mut at) = (buf, offset);
        let first = self.parts.partition_point(|(start, source)| start + source.len() <= offset);
        for (i, (start, source)) in self.parts.iter().enumerate().skip(first) {
            let left = start + source.len() - at;
            let is_last = i + 1 == self.parts.len();
            // What goes past the end of all is an error of the last.
            let n = if is_last { buf.len() } else { buf.len().min(left as usize) };
            let (here, rest) = buf.split_at_mut(n);
            source.read_at(here, at - start)?;
            (buf, at) = (rest, at + n as u64);
            if buf.is_empty() {
                return Ok(());
            }
        }
        match self.parts.last() {
            Some((start, source)) if !buf.is_empty() => source.read_at(buf, at - start),
            _ => Ok(()),
        }
    }

    fn done_before(&self, offset: u64) {
        for (start, source) in self.parts.iter().filter(|(start, _)| *start < offset) {
            source.done_before((offset - start).min(source.len()));
        }
    }

    fn check_unchanged(&self) -> Result<()> {
        self.parts.iter().try_for_each(|(_, source)| source.check_unchanged())
    }

    fn times(&self) -> Option<FileTimes> {
        let mut all = self.parts.iter().map(|(_, source)| source.times());
        let first = all.next()??;
        all.try_fold(first, |times, other| times.with(other?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::files::write_small;
    use crate::storage::location::Location;
    use crate::storage::memory::Memory;
    use crate::storage::store::Store;

    #[test]
    fn a_change_of_one_is_a_change_of_all() {
        let folder = tempfile::tempdir().unwrap();
        let all = Location::of_path(folder.path());
        for name in ["a", "b"] {
            write_small(&all, name, b"bytes").unwrap();
        }
        let open = || Chained::new(["a", "b"].map(|name| all.open(name).unwrap()).into_iter().collect());
        let chained = open();
        chained.check_unchanged().unwrap();
        let before = chained.times().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        write_small(&all, "b", b"other").unwrap();
        assert!(chained.check_unchanged().is_err());
        let after = open().times().unwrap();
        assert!(after.changed > before.changed && before.is_older_than(&after));
        let memory = Memory::new();
        write_small(&memory, "m", b"m").unwrap();
        assert_eq!(Chained::new(vec![memory.open("m").unwrap()]).times(), None, "nobody tells");
    }

    #[test]
    fn bytes_of_several_files_are_one_row() {
        let all = Location::new(Memory::new());
        for (name, bytes) in [("a", &b"ab"[..]), ("b", b""), ("c", b"cde")] {
            write_small(&all, name, bytes).unwrap();
        }
        let sources = ["a", "b", "c"].map(|name| all.open(name).unwrap());
        let chained = Chained::new(sources.into_iter().collect());
        assert_eq!(chained.len(), 5);
        for from in 0..5 {
            for to in from..=5 {
                let mut buf = vec![0; to - from];
                chained.read_at(&mut buf, from as u64).unwrap();
                assert_eq!(buf, b"abcde"[from..to], "{from}..{to}");
            }
        }
        assert!(chained.read_at(&mut [0; 2], 4).is_err() && chained.read_at(&mut [0; 1], 9).is_err());
        chained.done_before(3);
    }
}
