//! Makes factors whose rows are made of entries in any order: strip by strip of rows, for each of which all entries are gone through.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::ops::derived::scatter::{NO_COLUMN, Scatter, decoded, each_entry, entries};
use crate::pipeline::repack::STRIP;
use crate::schedule::repack::DerivedFactor;
use crate::storage::sink::Scratch;
use crate::storage::source::Source;
use crate::tensor::dtype::bytes_of;

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
    let mut read = |tensor: &crate::tensor::reference::TensorRef, range: std::ops::Range<u64>| {
        cancel.check()?;
        let size = bytes_of(tensor.dtype, 1).expect("numbers are whole bytes");
        let mut bytes = vec![0; ((range.end - range.start) * size) as usize];
        sources[tensor.file.0 as usize].read_at(&mut bytes, tensor.offset + range.start * size)?;
        Ok(decoded(tensor.dtype, &bytes))
    };
    for first in (0..rows).step_by(at_once as usize) {
        let in_strip = first..rows.min(first + at_once);
        let strip = &mut strip[..((in_strip.end - first) * width) as usize];
        strip.as_chunks_mut().0.fill([NO_COLUMN, 0.0]);
        counts.fill(0);
        each_entry(scatter, (tensors, &places), &mut read, &mut |[row, column], value| {
            let row = row as u64;
            if !in_strip.contains(&row) {
                return;
            }
            let (row, count) = ((row - first) as usize, &mut counts[(row - first) as usize]);
            // All have room, as they were counted. Where a file has changed since, the run fails by that.
            let of_row = &mut strip[row * width as usize..(row + 1) * width as usize];
            if let Some(place) = of_row.as_chunks_mut().0.get_mut(*count) {
                *place = [column as f32, value as f32];
                *count += 1;
            }
        })?;
        for row in strip.chunks_exact_mut(width.max(1) as usize) {
            let by_column = |a: &[f32; 2], b: &[f32; 2]| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1]));
            row.as_chunks_mut::<2>().0.sort_unstable_by(by_column);
        }
        scratch.write_at(bytemuck::cast_slice(strip), factor.at + first * row_bytes)?;
    }
    Ok(())
}
