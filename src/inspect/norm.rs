//! The Frobenius norm of a product of two factors, without the product.
//!
//! For `A [rank, in]` and `B [out, rank]`, ‖B·A‖² = Σ (BᵀB)∘(A·Aᵀ): two matrices of rank × rank, each a sum over positions
//! of one factor, which is streamed. Sums run in f64. Since the square is what is summed, a product that cancels to below
//! 10⁻⁸ of ‖A‖·‖B‖ is not told from zero.
//!
//! Memory is fixed whatever the shapes: factors pass through a panel of some inner indices × some positions, and ranks above
//! [`BLOCK`] are done in pairs of blocks, at the price of reading a block once for each pair it is in.

use std::ops::Range;

use crate::encodings;
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::storage::source::Source;
use crate::tensor::dtype::bytes_of;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// Inner indices of one block.
const BLOCK: usize = 256;
/// Values of a panel: a pair of blocks with 128 positions each, or a few ranks with thousands.
const PANEL: usize = 1 << 16;

/// Ranks above this get no norm: the work grows with the square of the rank, and no adapter needs one as large.
const MOST_RANK: usize = 1 << 14;

/// Norms of products whose factors lie in one file.
pub(crate) struct Norms<'s> {
    source: &'s dyn Source,
    kernels: Kernels,
    bytes: Vec<u8>,
    values: Vec<f32>,
    panel: Vec<f64>,
}

/// ProductSizes of a pair of factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProductSizes {
    /// Inner dimension.
    pub rank: u64,
    /// Rows of B.
    pub out: u64,
    /// Columns of A; those of a convolution's kernel together.
    pub input: u64,
}

/// The sizes of `A [rank, in…]` and `B [out, rank, 1…]`, if they fit each other.
pub(crate) fn sizes(a: &Shape, b: &Shape) -> Option<ProductSizes> {
    let (&[rank, _, ..], &[out, b_rank, ref rest @ ..]) = (a.axes(), b.axes()) else { return None };
    let fits = rank == b_rank && rank > 0 && rest.iter().all(|&axis| axis == 1);
    (fits && out > 0 && a.elements() > 0).then(|| ProductSizes { rank, out, input: a.elements() / rank })
}

/// One factor as `rank` values at each of `positions` places.
struct StreamedFactor<'f> {
    tensor: &'f TensorRef,
    rank: usize,
    positions: u64,
    /// Whether the values of one inner index lie next to each other, as in A; else those of one position do, as in B.
    inner_major: bool,
}

impl<'s> Norms<'s> {
    /// Norms of factors in `source`.
    pub(crate) fn new(source: &'s dyn Source) -> Norms<'s> {
        let (bytes, values, panel) = (vec![0; 4 * PANEL], vec![0.0; PANEL], vec![0.0; PANEL]);
        Norms { source, kernels: Kernels::detect(), bytes, values, panel }
    }

    /// ‖B·A‖; none if the shapes do not fit, a dtype is no plain float, or a value is not finite.
    ///
    /// # Errors
    /// As [`Source::read_at`].
    pub(crate) fn product(&mut self, a: &TensorRef, b: &TensorRef) -> Result<Option<f64>> {
        let Some(ProductSizes { rank, out, input }) = sizes(&a.shape, &b.shape) else { return Ok(None) };
        let Some(rank) = usize::try_from(rank).ok().filter(|&rank| rank <= MOST_RANK) else {
            return Ok(None);
        };
        let a = StreamedFactor { tensor: a, rank, positions: input, inner_major: true };
        let b = StreamedFactor { tensor: b, rank, positions: out, inner_major: false };
        let side = rank.min(BLOCK);
        let (mut gram_a, mut gram_b) = (vec![0.0; side * side], vec![0.0; side * side]);
        let mut square = 0.0;
        for p in blocks(rank) {
            for q in blocks(rank).filter(|q| q.start >= p.start) {
                if !(self.gram(&a, &p, &q, &mut gram_a)? && self.gram(&b, &p, &q, &mut gram_b)?) {
                    return Ok(None);
                }
                let sum: f64 = gram_a.iter().zip(&gram_b).map(|(a, b)| a * b).sum();
                square += if p == q { sum } else { 2.0 * sum };
            }
        }
        // The sum of a product that cancels may come out below zero.
        Ok(Some(square.max(0.0).sqrt()))
    }

    /// Inner products of the inner indices `p` with `q`, into rows of `q`; false if something cannot be read as numbers.
    fn gram(
        &mut self,
        factor: &StreamedFactor<'_>,
        p: &Range<usize>,
        q: &Range<usize>,
        gram: &mut [f64],
    ) -> Result<bool> {
        gram.fill(0.0);
        let is_same = p == q;
        let rows = if is_same { p.len() } else { p.len() + q.len() };
        let width = PANEL / rows;
        let mut at = 0;
        while at < factor.positions {
            let step = (factor.positions - at).min(width as u64) as usize;
            let loaded = self.load(factor, p, at, step, 0)?
                && (is_same || self.load(factor, q, at, step, p.len() * step)?);
            if !loaded {
                return Ok(false);
            }
            let (left, right) = self.panel[..rows * step].split_at(p.len() * step);
            let right = if is_same { left } else { right };
            for (row, x) in gram.chunks_exact_mut(q.len()).zip(left.chunks_exact(step)) {
                for (sum, y) in row.iter_mut().zip(right.chunks_exact(step)) {
                    *sum += dot(x, y);
                }
            }
            at += step as u64;
        }
        Ok(true)
    }

    /// Brings the inner indices `inner` at `step` positions from `at` into the panel, one index after the other.
    fn load(
        &mut self,
        factor: &StreamedFactor<'_>,
        inner: &Range<usize>,
        at: u64,
        step: usize,
        start: usize,
    ) -> Result<bool> {
        if factor.inner_major {
            for (row, i) in inner.clone().enumerate() {
                if !self.read(factor.tensor, i as u64 * factor.positions + at, step)? {
                    return Ok(false);
                }
                let values = self.values[..step].iter().map(|&value| f64::from(value));
                self.panel[start + row * step..][..step]
                    .iter_mut()
                    .zip(values)
                    .for_each(|(to, value)| *to = value);
            }
            return Ok(true);
        }
        // Positions of which all inner indices are wanted lie next to each other and are read at once.
        let together = if inner.len() == factor.rank { step } else { 1 };
        for first in (0..step).step_by(together) {
            let element = (at + first as u64) * factor.rank as u64 + inner.start as u64;
            if !self.read(factor.tensor, element, together * inner.len())? {
                return Ok(false);
            }
            for (x, position) in self.values[..together * inner.len()].chunks_exact(inner.len()).enumerate() {
                for (row, &value) in position.iter().enumerate() {
                    self.panel[start + row * step + first + x] = f64::from(value);
                }
            }
        }
        Ok(true)
    }

    /// Decodes `count` elements from `first` on into `values`; false if they are no plain floats or not finite.
    fn read(&mut self, tensor: &TensorRef, first: u64, count: usize) -> Result<bool> {
        let Some(encoding) = encodings::plain(tensor.dtype) else { return Ok(false) };
        let size = bytes_of(tensor.dtype, 1).expect("plain floats take whole bytes");
        let bytes = &mut self.bytes[..count * size as usize];
        self.source.read_at(bytes, tensor.offset + first * size)?;
        Ok(encoding.decode_flat(self.kernels, bytes, &mut self.values[..count]))
    }
}

/// Inner indices in blocks.
fn blocks(rank: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rank).step_by(BLOCK).map(move |start| start..(start + BLOCK).min(rank))
}

/// An inner product in eight lanes, so that it is the same on every CPU and can be vectorised.
fn dot(x: &[f64], y: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (x, y) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    let rest: f64 = x.remainder().iter().zip(y.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in x.zip(y) {
        for lane in 0..LANES {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::storage::memory::Memory;
    use crate::storage::store::Store;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::FileId;

    /// Numbers between −1 and 1 that look random.
    fn numbers(count: u64, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// The bytes of values in a dtype, and the values as they are then.
    fn encoded(dtype: Dtype, values: &[f32]) -> (Vec<u8>, Vec<f64>) {
        let one = |&value: &f32| match dtype {
            Dtype::BF16 => (bf16::from_f32(value).to_le_bytes().to_vec(), bf16::from_f32(value).to_f64()),
            Dtype::F16 => (f16::from_f32(value).to_le_bytes().to_vec(), f16::from_f32(value).to_f64()),
            _ => (value.to_le_bytes().to_vec(), f64::from(value)),
        };
        let (bytes, values): (Vec<_>, Vec<_>) = values.iter().map(one).unzip();
        (bytes.concat(), values)
    }

    /// What [`Norms::product`] gives for these values, and the values' own norm by a plain product.
    fn both(dtype: Dtype, a_axes: &[u64], b_axes: &[u64], a: &[f32], b: &[f32]) -> (Option<f64>, f64) {
        let ((a_bytes, a), (b_bytes, b)) = (encoded(dtype, a), encoded(dtype, b));
        let store = Memory::new();
        let bytes = [b"header".as_slice(), &a_bytes, &b_bytes].concat();
        let mut sink = store.create("file", bytes.len() as u64).expect("memory");
        sink.write(&bytes).expect("memory");
        sink.commit().expect("memory");
        let source = store.open("file").expect("it is there");
        let tensor = |offset, axes| TensorRef {
            file: FileId(0),
            offset,
            dtype,
            shape: Shape::new(axes).expect("small"),
        };
        let (a_ref, b_ref) = (tensor(6, a_axes), tensor(6 + a_bytes.len() as u64, b_axes));
        let norm = Norms::new(source.as_ref()).product(&a_ref, &b_ref).expect("memory can be read");
        let (rank, out) = (a_axes[0] as usize, b_axes[0] as usize);
        let input = a.len() / rank;
        let mut square = 0.0;
        for o in 0..out {
            for i in 0..input {
                let element: f64 = (0..rank).map(|k| b[o * rank + k] * a[k * input + i]).sum();
                square += element * element;
            }
        }
        (norm, square.sqrt())
    }

    #[test]
    fn the_norm_is_that_of_the_plain_product() {
        let cases: &[(Dtype, &[u64], &[u64])] = &[
            (Dtype::F32, &[1, 1], &[1, 1]),
            (Dtype::F32, &[3, 17], &[5, 3]),
            (Dtype::BF16, &[8, 64], &[96, 8]),
            (Dtype::F16, &[4, 33], &[20, 4]),
            (Dtype::F32, &[4, 3, 3, 2], &[7, 4, 1, 1]), // a convolution
            (Dtype::F32, &[2, 70_000], &[3, 2]),        // more positions than a panel
            (Dtype::BF16, &[300, 40], &[50, 300]),      // two blocks
            (Dtype::F32, &[600, 9], &[300, 600]),       // three, and positions in several panels
        ];
        for (i, (dtype, a_axes, b_axes)) in cases.iter().enumerate() {
            let numbers = |axes: &[u64], seed| numbers(axes.iter().product(), seed);
            let (a, b) = (numbers(a_axes, 2 * i as u64), numbers(b_axes, 2 * i as u64 + 1));
            let (norm, plain) = both(*dtype, a_axes, b_axes, &a, &b);
            let norm = norm.expect("shapes fit");
            assert!((norm - plain).abs() <= 1e-12 * plain, "{a_axes:?} {b_axes:?}: {norm}, not {plain}");
            assert!(plain > 0.0);
        }
    }

    #[test]
    fn zero_is_zero() {
        assert_eq!(both(Dtype::F32, &[2, 3], &[4, 2], &numbers(6, 1), &[0.0; 8]), (Some(0.0), 0.0));
    }

    #[test]
    fn what_has_no_norm_has_none() {
        let numbers = |n| numbers(n, 3);
        assert_eq!(both(Dtype::F32, &[2, 3], &[2, 4], &numbers(6), &numbers(8)).0, None, "ranks differ");
        assert_eq!(both(Dtype::F32, &[2, 3], &[4, 2], &[f32::NAN; 6], &numbers(8)).0, None, "not finite");
        let shape = |axes: &[u64]| Shape::new(axes).expect("small");
        for (a, b) in [(&[4][..], &[4, 4][..]), (&[0, 4], &[4, 0]), (&[2, 0], &[4, 2]), (&[2, 4], &[4, 2, 3])]
        {
            assert_eq!(sizes(&shape(a), &shape(b)), None, "{a:?} {b:?}");
        }
    }
}
