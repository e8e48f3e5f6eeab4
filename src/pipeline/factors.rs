//! Factors: raw bytes in a buffer become f32 values there, once, in the worker that needs them first.
//!
//! The reader leaves the bytes of a factor at the end of where its values go, and they are decoded from the front: a value
//! is never longer in the file than in memory, so that none is overwritten before it is decoded.

use std::ops::Range;
use std::sync::PoisonError;

use smallvec::SmallVec;

use crate::encodings;
use crate::encodings::encoding::Encoding;
use crate::error::Error;
use crate::error::adapter::AdapterError;
use crate::kernels::dispatch::Kernels;
use crate::memory::pool::Lease;
use crate::ops::block::FactorView;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::plan::out_tensor::Plan;
use crate::schedule::region::FactorBlock;
use crate::tensor::dtype::bytes_of;
use crate::threads::{Mutex, OnceLock};

/// Views of the factors of one op, in its order. More than so many would be allocated.
pub(crate) type FactorViews<'b> = SmallVec<[FactorView<'b>; 8]>;

/// A factor that holds a value which is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NonFinite {
    op: usize,
    factor: usize,
}

impl NonFinite {
    /// The error, which names the adapter and its tensor. `ops` are those that the factors were prepared for.
    pub(crate) fn error(self, plan: &Plan, ops: &[Op]) -> Error {
        let claim = &plan.claims[ops[self.op].claim.0 as usize];
        let adapter = plan.adapters[claim.adapter as usize].name.clone();
        let key = claim.keys.get(self.factor).unwrap_or(&claim.module).to_string();
        AdapterError::NonFiniteFactor { adapter, key }.into()
    }
}

/// The factors that the tiles of a band share.
pub(crate) struct BandFactors<'s, 'm> {
    /// What lies where in the factor buffer.
    blocks: Vec<FactorBlock>,
    /// The buffer as it was read, until a worker takes it to prepare it; none if no op has such factors.
    raw: Mutex<Option<Lease<'s, 'm>>>,
    prepared: OnceLock<Result<Option<Lease<'s, 'm>>, NonFinite>>,
}

impl<'s, 'm> BandFactors<'s, 'm> {
    /// Factors that are read and not prepared.
    pub(crate) fn new(blocks: Vec<FactorBlock>, raw: Option<Lease<'s, 'm>>) -> BandFactors<'s, 'm> {
        BandFactors { blocks, raw: Mutex::new(raw), prepared: OnceLock::new() }
    }

    /// The values. The first worker that asks prepares them; others wait for it meanwhile.
    ///
    /// # Errors
    /// The first factor with a value that is not finite, the same for whoever asks.
    pub(crate) fn prepared(&self, ops: &[Op], kernels: Kernels) -> Result<FactorRegion<'_>, NonFinite> {
        let prepared = self.prepared.get_or_init(|| {
            let mut buffer = self.raw.lock().unwrap_or_else(PoisonError::into_inner).take();
            prepare(ops, &self.blocks, buffer.as_deref_mut().unwrap_or_default(), kernels).map(|()| buffer)
        });
        match prepared {
            Ok(buffer) => {
                Ok(FactorRegion { blocks: &self.blocks, bytes: buffer.as_deref().unwrap_or_default() })
            }
            Err(non_finite) => Err(*non_finite),
        }
    }
}

/// Prepared factors: which blocks, and the bytes that they lie in.
#[derive(Clone, Copy)]
pub(crate) struct FactorRegion<'b> {
    /// The blocks, in the order of ops.
    pub(crate) blocks: &'b [FactorBlock],
    /// The region.
    pub(crate) bytes: &'b [u8],
}

impl<'b> FactorRegion<'b> {
    /// Which of the blocks are those of an op.
    pub(crate) fn blocks_of(&self, op: usize) -> Range<usize> {
        let first = self.blocks.partition_point(|block| block.op < op);
        first..first + self.blocks[first..].partition_point(|block| block.op == op)
    }

    /// The view of one block, which is of `factor`.
    pub(crate) fn view(&self, factor: &Factor, block: &FactorBlock) -> FactorView<'b> {
        FactorView {
            data: bytemuck::cast_slice(&self.bytes[block.at.clone()]),
            axis: factor.index().map(|index| index.axis),
            first: block.positions.start,
            stride: block.runs.position_stride as usize,
            inner: factor.values() as usize,
            inner_stride: block.runs.inner_stride as usize,
        }
    }
}

/// Bytes of one value of a factor in its file.
pub(crate) fn value_bytes(factor: &Factor) -> usize {
    bytes_of(factor.tensor.dtype, 1).expect("plain floats are whole bytes") as usize
}

/// Where in its region the bytes of a block are read to.
pub(crate) fn raw_range(factor: &Factor, block: &FactorBlock) -> Range<usize> {
    let values = (block.runs.len * block.runs.count) as usize;
    let end = block.at.start + values * size_of::<f32>();
    end - values * value_bytes(factor)..end
}

/// Decodes the factors of a region where they lie, and makes of them what their methods want.
///
/// # Errors
/// The first that holds a value which is not finite.
pub(crate) fn prepare(
    ops: &[Op],
    blocks: &[FactorBlock],
    region: &mut [u8],
    kernels: Kernels,
) -> Result<(), NonFinite> {
    for block in blocks {
        let (op, factor) = (&ops[block.op], &ops[block.op].factors[block.factor]);
        let encoding = encodings::plain(factor.tensor.dtype).expect("factors of other types are refused");
        let raw = raw_range(factor, block);
        let bytes = &mut region[block.at.start..raw.end];
        let raw_at = raw.start - block.at.start;
        if !widen_in_place(encoding, kernels, bytes, raw_at, value_bytes(factor)) {
            return Err(NonFinite { op: block.op, factor: block.factor });
        }
        if factor.prepared_len().is_some()
            && let Some(preparation) = op.delta().preparation()
        {
            preparation.prepare(bytemuck::cast_slice_mut(&mut region[block.at.clone()]));
        }
    }
    Ok(())
}

/// Decodes the plain numbers that lie from `raw_at` to the end of `bytes` to f32 from its start; true if all are finite.
fn widen_in_place(
    encoding: &dyn Encoding,
    kernels: Kernels,
    bytes: &mut [u8],
    raw_at: usize,
    size: usize,
) -> bool {
    const STEP: usize = 512;
    let (mut raw, mut values) = ([0; STEP * size_of::<f32>()], [0.0; STEP]);
    let count = (bytes.len() - raw_at) / size;
    let mut finite = true;
    for first in (0..count).step_by(STEP) {
        let n = STEP.min(count - first);
        let (raw, values) = (&mut raw[..n * size], &mut values[..n]);
        raw.copy_from_slice(&bytes[raw_at + first * size..raw_at + (first + n) * size]);
        finite &= encoding.decode_flat(kernels, raw, values);
        bytes[first * size_of::<f32>()..(first + n) * size_of::<f32>()]
            .copy_from_slice(bytemuck::cast_slice(values));
    }
    finite
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::pool::{PAGE, PoolLayout, PoolMemory};
    use crate::ops::low_rank::LowRank;
    use crate::ops::placement::Placement;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    #[test]
    fn widening_in_place_overwrites_nothing_it_still_needs() {
        for n in [0usize, 1, 2, 511, 512, 513, 1500] {
            let expected: Vec<f32> = (0..n).map(|i| i as f32 - 700.0).collect();
            let mut bytes = vec![0u8; n * 4];
            for (i, value) in expected.iter().enumerate() {
                bytes[n * 2 + 2 * i..][..2].copy_from_slice(&half::f16::from_f32(*value).to_le_bytes());
            }
            let encoding = encodings::find("f16").expect("in the table");
            assert!(widen_in_place(encoding, Kernels::scalar(), &mut bytes, n * 2, 2));
            let values: Vec<f32> =
                bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            assert_eq!(values, expected);
        }
    }

    #[test]
    fn a_band_is_prepared_once_whoever_asks() {
        let layout = PoolLayout { slab_bytes: 0, slabs: 0, slot_bytes: PAGE, slots: 1 };
        let shape = Shape::new(&[2, 3]).expect("small");
        let tensor = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F16, shape };
        let factors = vec![Factor::along(1, tensor, 1, 2, 3)];
        let runs = factors[0].runs(&(0..3));
        let (file, at, positions) = (FileId(0), 0..24, 0..3);
        let blocks = vec![FactorBlock { op: 0, factor: 0, positions, at, file, offset: 0, runs }];
        let raw = raw_range(&factors[0], &blocks[0]);
        assert_eq!(raw, 12..24, "at the end of where the values go");
        let op = Op::new(LowRank::ADDED, Placement::matrix(2, 3, false), factors, 1.0);
        for (fifth, is_finite) in [(5.0, true), (f32::NAN, false)] {
            let mut memory = PoolMemory::new(layout).expect("small");
            let pool = memory.pool();
            let mut lease = pool.slots.lease(|| false).expect("free");
            for (value, to) in [1.0, 2.0, 3.0, 4.0, fifth, 6.0].iter().zip(lease[raw.clone()].chunks_mut(2)) {
                to.copy_from_slice(&half::f16::from_f32(*value).to_le_bytes());
            }
            let band = BandFactors::new(blocks.clone(), Some(lease));
            let ask = || band.prepared(std::slice::from_ref(&op), Kernels::scalar());
            std::thread::scope(|scope| {
                for asking in [0; 4].map(|_| scope.spawn(|| ask().is_ok())) {
                    assert_eq!(asking.join().expect("no panic"), is_finite);
                }
            });
            match ask() {
                Ok(region) => {
                    let view = region.view(&op.factors[0], &region.blocks[0]);
                    assert_eq!((view.at(1, 1), view.data.len()), (5.0, 6));
                }
                Err(non_finite) => assert_eq!(non_finite, NonFinite { op: 0, factor: 0 }),
            }
            assert_eq!(pool.held() > 0, is_finite, "what cannot be prepared holds no memory");
        }
    }
}
