//! Makes factors that no file holds before the run: of the first sources all values, of the others strips of rows.

use smallvec::SmallVec;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::ops::derived::DerivedFrom;
use crate::schedule::repack::{DerivedFactor, STRIP};
use crate::storage::sink::Scratch;
use crate::storage::source::Source;
use crate::tensor::dtype::bytes_of;
use crate::tensor::numbers::decoded;
use crate::tensor::reference::TensorRef;

/// Writes one factor to its place in the scratch file.
///
/// # Errors
/// As reading and writing do; [`crate::error::kind::ErrorKind::Stopped`] when a signal came.
pub(crate) fn write_derived(
    factor: &DerivedFactor,
    sources: &[Box<dyn Source>],
    scratch: &dyn Scratch,
    cancel: &Cancel,
) -> Result<()> {
    let [rows, width] = factor.size;
    let recipe = factor.derivation.recipe();
    let (whole, by_row) = factor.derivation.sources.split_at(recipe.whole());
    let whole = whole.iter().map(|tensor| read_rows(tensor, 0..1, 1, sources));
    let whole = whole.collect::<Result<Vec<Vec<f64>>>>()?;
    let widest = by_row.iter().map(row_values).chain([width]).max().unwrap_or(width).max(1);
    let at_once = (STRIP / (widest * size_of::<f64>() as u64)).clamp(1, rows.max(1));
    let mut made = vec![0.0f32; (at_once * width) as usize];
    for first in (0..rows).step_by(at_once as usize) {
        cancel.check()?;
        let strip = first..rows.min(first + at_once);
        let parts = by_row.iter().map(|tensor| read_rows(tensor, strip.clone(), rows_of(tensor), sources));
        let parts = parts.collect::<Result<Vec<Vec<f64>>>>()?;
        let made = &mut made[..((strip.end - strip.start) * width) as usize];
        for (row, values) in strip.clone().zip(made.chunks_exact_mut(width.max(1) as usize)) {
            let place = (row - first) as usize;
            let mut of_parts = SmallVec::<[&[f64]; 4]>::new();
            for (part, tensor) in parts.iter().zip(by_row) {
                let len = row_values(tensor) as usize;
                of_parts.push(&part[place * len..(place + 1) * len]);
            }
            recipe.make(row as usize, &DerivedFrom { whole: &whole, rows: &of_parts }, values);
        }
        let bytes: &[u8] = bytemuck::cast_slice(made);
        scratch.write_at(bytes, factor.at + first * width * size_of::<f32>() as u64)?;
    }
    Ok(())
}

/// Rows of a tensor: positions of its first axis.
fn rows_of(tensor: &TensorRef) -> u64 {
    tensor.shape.axes().first().copied().unwrap_or(1).max(1)
}

/// Values of a row.
fn row_values(tensor: &TensorRef) -> u64 {
    tensor.shape.elements() / rows_of(tensor)
}

/// Some of a tensor's `of` rows, decoded.
fn read_rows(
    tensor: &TensorRef,
    rows: std::ops::Range<u64>,
    of: u64,
    sources: &[Box<dyn Source>],
) -> Result<Vec<f64>> {
    let len = tensor.shape.elements() / of;
    let range = rows.start * len..rows.end * len;
    read_values(sources[tensor.file.0 as usize].as_ref(), tensor, range)
}

/// Some of a tensor's elements, decoded.
pub(crate) fn read_values(
    source: &dyn Source,
    tensor: &TensorRef,
    elements: std::ops::Range<u64>,
) -> Result<Vec<f64>> {
    let size = bytes_of(tensor.dtype, 1).expect("numbers are whole bytes");
    let mut bytes = vec![0; ((elements.end - elements.start) * size) as usize];
    source.read_at(&mut bytes, tensor.offset + elements.start * size)?;
    Ok(decoded(tensor.dtype, &bytes))
}
