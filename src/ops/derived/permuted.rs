//! Entries of a sparse matrix that stand in a random order, which a seed tells ([`first_places`]): as they are, or each spread over its
//! neighbors by a wavelet.
//!
//! The source are the values. A wavelet's matrix is longer and wider by two less than its filter has values, and even; it has four quarters, of
//! which each takes the low-pass or the high-pass filter along either axis, and what they add up to is cut to the size of the weight.

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::kernels::mersenne::first_places;
use crate::ops::derived::bad_source::BadSource;
use crate::ops::derived::scatter::{PutEntry, Scatter};
use crate::ops::derived::wavelets::{high_pass, low_pass};
use crate::ops::derived::{DerivedFrom, Recipe};

/// Entries in a random order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Permuted {
    /// What the order is drawn by.
    pub seed: u32,
    /// Rows and columns of the matrix.
    pub size: [u64; 2],
    /// The wavelet that entries are spread by, if they are.
    pub wavelet: Option<String>,
}

/// Bytes that the place of an entry takes while the order is drawn: in a list, and twice in a table.
const PLACE_BYTES: u64 = 8 + 2 * 40;

impl Recipe for Permuted {
    fn make(&self, _: usize, _: &DerivedFrom<'_>, _: &mut [f32]) -> Result<(), BadSource> {
        Ok(())
    }

    fn scatter(&self) -> Option<&dyn Scatter> {
        Some(self)
    }
}

impl Scatter for Permuted {
    fn numbers(&self, _: u64) -> SmallVec<[(usize, u64); 3]> {
        smallvec![(0, 0)]
    }

    fn places(&self, entries: u64) -> Vec<u64> {
        first_places(self.seed, self.size[0] * self.size[1], entries as usize)
    }

    fn place_bytes(&self, entries: u64) -> u64 {
        entries.saturating_mul(PLACE_BYTES)
    }

    fn put(&self, numbers: &[f64], place: u64, put: &mut PutEntry<'_>) {
        let (value, at) = (numbers[0], [place / self.size[1], place % self.size[1]]);
        match self.wavelet.as_deref().and_then(low_pass) {
            None => put(at.map(|at| at as f64), value),
            Some(low) => self.spread(low, value, at, put),
        }
    }
}

impl Permuted {
    /// Puts what an entry comes to all around it.
    fn spread(&self, low: &[f64], value: f64, at: [u64; 2], put: &mut PutEntry<'_>) {
        let [row, column] = [0, 1].map(|axis| Coefficient::of(self.size[axis], at[axis], low.len() as u64));
        // What lies right of the middle is high along columns' axis, which is the rows'; what lies below it along the other.
        for (y, down) in column_of(row, column.is_high, low, self.size[0]) {
            for (x, along) in column_of(column, row.is_high, low, self.size[1]) {
                put([y as f64, x as f64], value * down * along);
            }
        }
    }
}

/// A coefficient along one axis.
#[derive(Clone, Copy)]
struct Coefficient {
    /// Which one, from the start of its half.
    number: u64,
    /// Whether it is in the second half.
    is_high: bool,
}

impl Coefficient {
    /// The one that stands at `at` of an axis of so many elements, for a filter of so many values.
    fn of(len: u64, at: u64, taps: u64) -> Coefficient {
        let padded = (len + taps - 2).next_multiple_of(2);
        let (at, half) = (at + (padded - len) / 2, padded / 2);
        Coefficient { number: at % half, is_high: at >= half }
    }
}

/// The elements of an axis that a coefficient reaches, and what it is multiplied by for each.
fn column_of(
    of: Coefficient,
    is_high: bool,
    low: &[f64],
    len: u64,
) -> impl Iterator<Item = (u64, f64)> + use<'_> {
    let cut = low.len() as u64 - 2;
    let taps = (0..low.len()).map(move |tap| {
        let by = if is_high { high_pass(low, tap) } else { low[tap] };
        ((2 * of.number + tap as u64).checked_sub(cut), by)
    });
    taps.filter_map(move |(at, by)| at.filter(|&at| at < len).map(|at| (at, by)))
}
