//! Makes factors whose rows are made of entries in any order: strip by strip of rows, for each of which all entries are gone through.

use std::ops::Range;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::ops::derived::scatter::{NO_COLUMN, Scatter, each_entry, entries};
use crate::pipeline::stored_values::read_values;
use crate::schedule::repack::{DerivedFactor, STRIP};
use crate::storage::sink::Scratch;
use crate::storage::source::Source;
use crate::tensor::reference::TensorRef;

/// Writes one factor to its place in the scratch file.
///
/// # Errors
/// As reading and writing do; [`crate::error::kind::ErrorKind::Stopped`] when a signal came.
pub(crate) fn write_scattered(
    factor: &DerivedFactor,
    scatter: &dyn Scatter,
    sources: &[Box<dyn Source>],
    scratch: &dyn Scratch,
    cancel: &Cancel,
) -> Result<()> {
    let ([rows, width], tensors) = (factor.size, &factor.derivation.sources);
    let places = scatter.places(entries(tensors));
    let row_bytes = width * size_of::<f32>() as u64;
    let at_once = (STRIP / row_bytes.max(1)).clamp(1, rows.max(1));
    let mut strip = vec![0.0f32; (at_once * width) as usize];
    let mut counts = vec![0usize; at_once as usize];
    let mut read = |tensor: &TensorRef, range: Range<u64>| {
        cancel.check()?;
        read_values(sources[tensor.file.0 as usize].as_ref(), tensor, range)
    };
    for first in (0..rows).step_by(at_once as usize) {
        let in_strip = first..rows.min(first + at_once);
        let strip = &mut strip[..((in_strip.end - first) * width) as usize];
        strip.as_chunks_mut().0.fill([NO_COLUMN, 0.0]);
        counts.fill(0);
        each_entry(scatter, (tensors, &places), &mut read, &mut |[row, column], value| {
            if !in_strip.contains(&(row as u64)) {
                return;
            }
            let row = (row as u64 - first) as usize;
            let of_row = &mut strip[row * width as usize..(row + 1) * width as usize];
            // All have room, as they were counted. Where a file has changed since, the run fails by that.
            if let Some(place) = of_row.as_chunks_mut().0.get_mut(counts[row]) {
                *place = [column as f32, value as f32];
                counts[row] += 1;
            }
        })?;
        for row in strip.chunks_exact_mut(width.max(1) as usize) {
            sort(row.as_chunks_mut().0);
        }
        scratch.write_at(bytemuck::cast_slice(strip), factor.at + first * row_bytes)?;
    }
    Ok(())
}

/// Brings the entries of a row into the order of columns; of one column into that of values, so that there is one order.
fn sort(row: &mut [[f32; 2]]) {
    row.sort_unstable_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
}
