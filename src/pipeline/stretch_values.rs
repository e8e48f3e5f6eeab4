//! [`StretchValues`]: what workers hash of a tile, so that the writer need not.

use std::ops::Range;

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt};

use crate::pipeline::section_hash::STRETCH;
use crate::pipeline::sections::SectionSpan;

/// The values of the whole stretches among some bytes of a file.
#[derive(Debug, Default)]
pub(crate) struct StretchValues {
    runs: Vec<StretchRun>,
    values: Vec<ChainingValue>,
}

/// Stretches of one section that follow each other.
#[derive(Debug)]
struct StretchRun {
    /// Which section of the file.
    section: usize,
    /// Which stretch of it the first is.
    first: u64,
    /// Which of the values are theirs.
    values: Range<usize>,
}

impl StretchValues {
    /// Computes those among `bytes`, which are these spans of a file, one after the other.
    pub(crate) fn compute(&mut self, bytes: &[u8], spans: impl Iterator<Item = SectionSpan>) {
        self.clear();
        let mut rest = bytes;
        for span in spans {
            let (own, behind) = rest.split_at(rest.len().min(span.bytes as usize));
            self.add(own, &span);
            rest = behind;
        }
    }

    fn add(&mut self, bytes: &[u8], span: &SectionSpan) {
        // The value of one that is all of a section is another; that is left to the writer.
        if span.len <= STRETCH {
            return;
        }
        let (first, start) = (span.at.div_ceil(STRETCH), self.values.len());
        let before = (first * STRETCH - span.at).min(bytes.len() as u64);
        let stretches = bytes[before as usize..].chunks_exact(STRETCH as usize);
        self.values.extend((first..).zip(stretches).map(|(place, stretch)| {
            let mut hasher = Hasher::new();
            hasher.set_input_offset(place * STRETCH);
            hasher.update(stretch).finalize_non_root()
        }));
        if self.values.len() > start {
            let values = start..self.values.len();
            self.runs.push(StretchRun { section: span.section, first, values });
        }
    }

    /// Forgets them.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.values.clear();
    }

    /// The value of a stretch.
    pub(crate) fn of(&self, section: usize, stretch: u64) -> Option<ChainingValue> {
        let run = self.runs.iter().find(|run| run.section == section)?;
        let place = usize::try_from(stretch.checked_sub(run.first)?).ok()?;
        self.values[run.values.clone()].get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_stretches_of_sections_longer_than_one_have_values() {
        let mut values = StretchValues::default();
        let many: Vec<u8> = (0..5 * STRETCH).map(|i| ((i * i) >> 7) as u8).collect();
        let mut found = |bytes: u64, at: u64, len: u64| {
            values.compute(&many, [SectionSpan { section: 3, len, start: at, at, bytes }].into_iter());
            let held: Vec<u64> = (0..9).filter(|&stretch| values.of(3, stretch).is_some()).collect();
            assert!((0..9).all(|stretch| values.of(2, stretch).is_none()));
            held
        };
        assert_eq!(found(3 * STRETCH, 0, 9 * STRETCH), [0, 1, 2]);
        assert!(found(STRETCH, 0, STRETCH).is_empty(), "one that is all of its section has another value");
        assert_eq!(found(3 * STRETCH, 2 * STRETCH, 9 * STRETCH), [2, 3, 4]);
        assert_eq!(found(3 * STRETCH, 2 * STRETCH + 1, 9 * STRETCH), [3, 4]);
        assert!(found(STRETCH, 2 * STRETCH + 1, 9 * STRETCH).is_empty());
        assert!(found(10, 2 * STRETCH - 1, 9 * STRETCH).is_empty());
    }
}
