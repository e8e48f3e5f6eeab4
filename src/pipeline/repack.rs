//! Repacks factors into a scratch file before the run, strip by strip of rows, behind which stand those that are made.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::pipeline::derive::Making;
use crate::plan::out_tensor::Plan;
use crate::schedule::repack::{FactorRepack, STRIP, ScratchFactors, value_bytes};
use crate::storage::sink::Scratch;
use crate::storage::source::Source;
use crate::storage::store::Store;

/// Writes every repacked and every made factor into a scratch file beside what is in `store`; none if there is none.
///
/// # Errors
/// As reading and writing do; [`crate::error::kind::ErrorKind::Stopped`] when a signal came.
pub(crate) fn write_repacked(
    factors: &ScratchFactors,
    (plan, sources): (&Plan, &[Box<dyn Source>]),
    store: &dyn Store,
    cancel: &Cancel,
) -> Result<Option<Box<dyn Scratch>>> {
    if factors.bytes == 0 {
        return Ok(None);
    }
    let scratch = store.scratch("", factors.bytes)?;
    for repack in &factors.repacks {
        write_one(repack, sources[repack.tensor.file.0 as usize].as_ref(), scratch.as_ref(), cancel)?;
    }
    let making = Making { plan, sources, scratch: scratch.as_ref(), cancel };
    factors.derived.iter().try_for_each(|factor| making.write(factor))?;
    scratch.settle()?;
    Ok(Some(scratch))
}

fn write_one(
    repack: &FactorRepack,
    source: &dyn Source,
    scratch: &dyn Scratch,
    cancel: &Cancel,
) -> Result<()> {
    let size = value_bytes(repack);
    let row_bytes = repack.width() * size;
    let rows_at_once = (STRIP / row_bytes).clamp(1, repack.rows.max(1));
    let mut strip = vec![0; (rows_at_once * row_bytes) as usize];
    let mut part_of = vec![0; (rows_at_once * repack.inner * size) as usize];
    for first in (0..repack.rows).step_by(rows_at_once as usize) {
        cancel.check()?;
        let rows = rows_at_once.min(repack.rows - first);
        let strip = &mut strip[..(rows * row_bytes) as usize];
        source.read_at(strip, repack.tensor.offset + first * row_bytes)?;
        source.done_before(repack.tensor.offset + (first + rows) * row_bytes);
        for part in 0..repack.parts {
            let gathered = &mut part_of[..(rows * repack.inner * size) as usize];
            gather(repack, strip, part, size as usize, gathered);
            let at = repack.at + (part * repack.rows + first) * repack.inner * size;
            scratch.write_at(gathered, at)?;
        }
    }
    Ok(())
}

/// The values of one part in every row of a strip.
fn gather(repack: &FactorRepack, strip: &[u8], part: u64, size: usize, gathered: &mut [u8]) {
    let (inner, part) = (repack.inner as usize, part as usize);
    let rows = strip.chunks_exact(repack.width() as usize * size);
    for (row, to) in rows.zip(gathered.chunks_exact_mut(inner * size)) {
        if repack.is_grouped {
            to.copy_from_slice(&row[part * inner * size..(part + 1) * inner * size]);
        } else {
            let apart = repack.parts as usize * size;
            for (value, from) in to.chunks_exact_mut(size).zip(row[part * size..].chunks(apart)) {
                value.copy_from_slice(&from[..size]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::Memory;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    #[test]
    fn parts_lie_one_after_the_other() {
        // Rows of three parts of two values: 100 · row + column, behind a byte of something else.
        let (rows, parts, inner) = (700_000u64, 3, 2);
        let value = |row: u64, column: u64| ((100 * row + column) as u16).to_le_bytes();
        let bytes: Vec<u8> = std::iter::once(7)
            .chain((0..rows).flat_map(|row| (0..6).flat_map(move |c| value(row, c))))
            .collect();
        let store = Memory::new();
        let mut sink = store.create("f", bytes.len() as u64).expect("room");
        sink.write(&bytes).and_then(|()| sink.commit()).expect("room");
        let sources = vec![store.open("f").expect("there")];
        let shape = Shape::new(&[rows, parts * inner]).expect("fits");
        let tensor = TensorRef { file: FileId(0), offset: 1, dtype: Dtype::BF16, shape };
        for is_grouped in [false, true] {
            let repack = FactorRepack { tensor: tensor.clone(), rows, parts, inner, is_grouped, at: 0 };
            let factors =
                ScratchFactors { bytes: tensor.bytes(), repacks: vec![repack], ..Default::default() };
            let scratch = write_repacked(&factors, (&Plan::default(), &sources), &store, &Cancel::default());
            let scratch = scratch.expect("room").expect("one repack");
            let mut all = vec![0; scratch.len() as usize];
            scratch.read_at(&mut all, 0).expect("there");
            let column = |part: u64, k: u64| if is_grouped { part * inner + k } else { k * parts + part };
            let expected = (0..parts).flat_map(|part| {
                (0..rows).flat_map(move |row| (0..inner).flat_map(move |k| value(row, column(part, k))))
            });
            assert!(all.into_iter().eq(expected), "grouped: {is_grouped}");
        }
    }
}
