//! Entries of sparse matrices, brought into rows: of each row as many places as the fullest row has, a column and a value in each.
//!
//! Adapters keep entries in any order, and a tile needs those of its rows. Where they stand is made of what sources hold for each of them, or
//! of a random order. They are gone through a few at a time, once for each strip of rows that is written.

use smallvec::SmallVec;

use crate::error::Result;
use crate::tensor::reference::TensorRef;

/// Entries that are gone through at a time.
const ENTRIES: u64 = 1 << 13;

/// What is added where: row and column, and the value. Numbers from a file are as they are there: whoever counts entries sees whether there are such places.
pub(crate) type PutEntry<'p> = dyn FnMut([f64; 2], f64) + 'p;

/// Reads values of a tensor, from an element on, and decodes them.
pub(crate) type ReadValues<'r> = dyn FnMut(&TensorRef, std::ops::Range<u64>) -> Result<Vec<f64>> + 'r;

/// Columns that no entry has: those of places that a row has no entry for, behind all others.
pub(crate) const NO_COLUMN: f32 = f32::MAX;

/// Where the entries of a factor stand.
pub(crate) trait Scatter {
    /// For each number that is known of an entry: its source, and the element of it that the first entry has.
    fn numbers(&self, entries: u64) -> SmallVec<[(usize, u64); 3]>;

    /// Places that no source has, of so many entries.
    fn places(&self, _entries: u64) -> Vec<u64> {
        Vec::new()
    }

    /// Bytes that those places take, and finding them.
    fn place_bytes(&self, _entries: u64) -> u64 {
        0
    }

    /// Puts all that one entry adds, of which these numbers are known, and its place.
    fn put(&self, numbers: &[f64], place: u64, put: &mut PutEntry<'_>);
}

/// Gives all that all entries add to `put`.
///
/// # Errors
/// As `read`.
pub(crate) fn each_entry(
    scatter: &dyn Scatter,
    (sources, places): (&[TensorRef], &[u64]),
    read: &mut ReadValues<'_>,
    put: &mut PutEntry<'_>,
) -> Result<()> {
    let entries = entries(sources);
    let numbers = scatter.numbers(entries);
    for first in (0..entries).step_by(ENTRIES as usize) {
        let count = ENTRIES.min(entries - first);
        let mut known = SmallVec::<[Vec<f64>; 3]>::new();
        for &(source, start) in &numbers {
            known.push(read(&sources[source], start + first..start + first + count)?);
        }
        for i in 0..count as usize {
            let of_entry: SmallVec<[f64; 3]> = known.iter().map(|known| known[i]).collect();
            let place = places.get(first as usize + i).copied().unwrap_or(0);
            scatter.put(&of_entry, place, put);
        }
    }
    Ok(())
}

/// How many entries there are: the last source has a value for each.
pub(crate) fn entries(sources: &[TensorRef]) -> u64 {
    sources.last().map_or(0, |values| values.shape.elements())
}
