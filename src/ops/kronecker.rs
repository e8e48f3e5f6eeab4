//! A Kronecker product: `W + s·(w₁ ⊗ w₂)`, on linear layers and convolutions.
//!
//! FactorSource: Yeh et al. 2023 (arXiv:2309.14859, LyCORIS), section 4. `w₁ [a, c]` is whole or a product, `w₂` one of
//! [`SecondForm`]. The delta at output `i·k + p` and input `j·n + q` is `w₁[i, j]·w₂[p, q]`, where the kernel counts as part
//! of the inputs of `w₂`. One form is interleaved the other way round: output `p·a + i`, input `q·c + j` (PEFT's, for a
//! convolution of one dimension; see [`crate::ops::kronecker::SecondForm::Interleaved`]).
//!
//! Rounding: once, at the end. With a core, and beside a delta without a formula: `w₁`, `w₂` in f32, their product rounded, times `s` rounded, added to the running value, as in PEFT.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::kernels::dispatch::Kernels;
use crate::kernels::exact::Number;
use crate::kernels::fused::made::Factors;
use crate::kernels::product::Matrix;
use crate::ops::Delta;
use crate::ops::block::{Block, FactorView};
use crate::ops::cp_core::{Core, CoreSizes};
use crate::ops::factor::Factor;
use crate::ops::formula::{FactorPairs, Formula, Polynomial, Spot, position};
use crate::ops::placement::Window;

/// A Kronecker product: the sizes of its two factors, and how they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kronecker {
    /// Rows and columns of `w₁`.
    pub first: [usize; 2],
    /// Rank of `w₁`, if it is a product.
    pub first_rank: Option<usize>,
    /// Rows and columns of `w₂`, the kernel among the columns.
    pub second: [usize; 2],
    /// How `w₂` is stored.
    pub form: SecondForm,
}

/// How `w₂` is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SecondForm {
    /// All of it.
    Whole,
    /// All of it, of a convolution of one dimension, whose three axes PEFT's `torch.kron` interleaves with those of `w₁`.
    Interleaved {
        /// Places of the kernel.
        kernel: usize,
    },
    /// A product `a [k, rank]·b [rank, n]`.
    Product {
        /// Its rank.
        rank: usize,
    },
    /// `a [rank, k]` and `b [rank, n]` around a core.
    Core(CoreSizes),
}

impl SecondForm {
    fn rank(self) -> Option<usize> {
        match self {
            SecondForm::Whole | SecondForm::Interleaved { .. } => None,
            SecondForm::Product { rank } | SecondForm::Core(CoreSizes { rank, .. }) => Some(rank),
        }
    }
}

impl Formula for Kronecker {
    #[inline(always)]
    fn apply<N: Number>(&self, spot: &Spot<'_, N>, running: N) -> N {
        // No index is computed here, as divisions take longer than all else.
        let second = match self.form {
            SecondForm::Whole | SecondForm::Interleaved { .. } => {
                let w2 = spot.factors[spot.factors.len() - 1].data;
                let n = self.second[1];
                let (down, along) = if spot.window.rows.axis == Some(1) { (1, n) } else { (n, 1) };
                spot.values(&w2[spot.offset + spot.row * down + spot.cols.start * along..], along)
            }
            SecondForm::Product { .. } | SecondForm::Core(_) => spot.product(1),
        };
        running.plus(&second.times(&spot.product(0)).scaled(spot.scale))
    }

    /// Of `w₁`, which has one element for all of the window, and of `w₂`, if that is a product.
    fn products<'b>(&self, factors: &'b [FactorView<'b>], window: &Window) -> FactorPairs<'b> {
        let kron = Kron::of(*self, factors);
        std::iter::once(kron.first_product(window)).chain(kron.second_product(window)).collect()
    }

    /// Where in `w₂` the window begins.
    fn offset(&self, window: &Window) -> usize {
        let (_, [p, q]) = self.indices(position(window, 0, 0));
        p * self.second[1] + q
    }

    /// As far as one block of `w₂` reaches, so that the element of `w₁` is one; where they are interleaved one element.
    fn extent(&self, window: &Window) -> [usize; 2] {
        if let SecondForm::Interleaved { .. } = self.form {
            return [1, 1];
        }
        let along = usize::from(window.rows.axis != Some(1));
        let position = position(window, 0, 0);
        let left = |axis: usize| self.second[axis] - position[axis] % self.second[axis];
        [left(1 - along).min(window.rows.len()), left(along).min(window.cols.len())]
    }
}

impl Delta for Kronecker {
    fn is_added(&self) -> bool {
        true
    }

    /// With a core it keeps the pinned arithmetic.
    fn polynomial(&self) -> Option<&dyn Polynomial> {
        let has_core = matches!(self.form, SecondForm::Core(_));
        (!has_core).then_some(self)
    }

    fn apply(&self, block: &mut Block<'_>) {
        let kron = Kron::of(*self, block.factors);
        let (axes, kernels) = (block.axes(), block.kernels);
        let (delta, made) = block.scratch.split_at_mut(block.window.elements() as usize);
        kron.write(axes, kernels, delta, made);
        block.add_scaled();
    }

    fn scratch_buffers(&self) -> usize {
        2
    }

    fn inner_dimension(&self, _: &[Factor]) -> u64 {
        self.form.rank().max(self.first_rank).unwrap_or(0) as u64
    }

    fn rank(&self, _: &[Factor]) -> Option<u64> {
        self.first_rank.or(self.form.rank()).map(|rank| rank as u64)
    }
}

impl Kronecker {
    /// Rows and columns in `w₁` and in `w₂` of an element.
    fn indices(&self, [out, input]: [usize; 2]) -> ([usize; 2], [usize; 2]) {
        let ([a, c], [k, n]) = (self.first, self.second);
        if let SecondForm::Interleaved { kernel } = self.form {
            let (column, x) = (input / kernel, input % kernel);
            return ([out % a, column % c], [out / a, column / c * kernel + x]);
        }
        ([out / k, input / n], [out % k, input % n])
    }
}

/// The two factors of a Kronecker product.
struct Kron<'k> {
    sizes: Kronecker,
    first: First<'k>,
    second: Second<'k>,
}

/// `w₁`.
enum First<'k> {
    /// All of it.
    Whole(&'k [f32]),
    /// A product.
    Product(Matrix<'k>, Matrix<'k>),
}

/// `w₂`.
enum Second<'k> {
    /// One that stands in blocks, each times an element of `w₁`.
    Blocks(FactorSource<'k>),
    /// All of one that is interleaved with `w₁`, and the places of its kernel.
    Interleaved(&'k [f32], usize),
}

/// What pieces of a `w₂` come from.
enum FactorSource<'k> {
    /// All of it.
    Whole(&'k [f32]),
    /// A product.
    Product(Matrix<'k>, Matrix<'k>),
    /// `a [rank, k]`, and the core with the other.
    Core(&'k [f32], Core<'k>),
}

impl<'k> Kron<'k> {
    /// Reads the factors in the order of their op: `w₁`, then `w₂`, each as far as it has parts.
    fn of(sizes: Kronecker, factors: &'k [FactorView<'k>]) -> Kron<'k> {
        let product = |of: &'k [FactorView<'k>], [rows, cols]: [usize; 2], rank| {
            (Matrix::row_major(of[0].data, rows, rank), Matrix::row_major(of[1].data, rank, cols))
        };
        let (first, rest) = match sizes.first_rank {
            None => (First::Whole(factors[0].data), &factors[1..]),
            Some(rank) => {
                let (a, b) = product(factors, sizes.first, rank);
                (First::Product(a, b), &factors[2..])
            }
        };
        let second = match sizes.form {
            SecondForm::Whole => Second::Blocks(FactorSource::Whole(rest[0].data)),
            SecondForm::Interleaved { kernel } => Second::Interleaved(rest[0].data, kernel),
            SecondForm::Product { rank } => {
                let (a, b) = product(rest, sizes.second, rank);
                Second::Blocks(FactorSource::Product(a, b))
            }
            SecondForm::Core(sizes) => {
                let core = Core { t: rest[2].data, b: rest[1].data, sizes };
                Second::Blocks(FactorSource::Core(rest[0].data, core))
            }
        };
        Kron { sizes, first, second }
    }

    /// The factors of `w₂` for a window within one block, if it is a product: its rows, or its columns where the delta is
    /// turned round.
    fn second_product(&self, window: &Window) -> Option<Factors<'k>> {
        let Second::Blocks(FactorSource::Product(a, b)) = &self.second else { return None };
        let (_, [p, q]) = self.sizes.indices(position(window, 0, 0));
        let is_turned = window.rows.axis == Some(1);
        let (left, row, right, col) =
            if is_turned { (b.transposed(), q, a.transposed(), p) } else { (*a, p, *b, q) };
        let left = Matrix { data: &left.data[row * left.row_stride..], rows: window.rows.len(), ..left };
        let right = Matrix { data: &right.data[col * right.col_stride..], cols: window.cols.len(), ..right };
        Some(Factors { left, right })
    }

    /// The factors of the element of `w₁` for a window: one row and one column for all of it, with 1 for a factor where `w₁` is
    /// stored whole.
    fn first_product(&self, window: &Window) -> Factors<'k> {
        let ([i, j], _) = self.sizes.indices(position(window, 0, 0));
        let (left, right) = match self.first {
            First::Whole(w1) => {
                let [a, c] = self.sizes.first;
                (Matrix::row_major(&w1[i * c + j..], a, 1), Matrix::row_major(&[1.0], 1, 1))
            }
            First::Product(a, b) => {
                (Matrix { data: &a.data[i * a.row_stride..], ..a }, Matrix { data: &b.data[j..], ..b })
            }
        };
        let left = Matrix { rows: window.rows.len(), row_stride: 0, ..left };
        Factors { left, right: Matrix { cols: window.cols.len(), col_stride: 0, ..right } }
    }

    /// Writes the window.
    fn write(&self, axes: FactorAxes, kernels: Kernels, delta: &mut [f32], made: &mut [f32]) {
        match &self.second {
            Second::Blocks(source) => self.fill(source, axes, kernels, delta, made),
            Second::Interleaved(w2, kernel) => self.interleave(w2, *kernel, axes, delta),
        }
    }

    /// Element (i, j) of `w₁`; a product is summed in f32, in increasing rank.
    fn first(&self, i: usize, j: usize) -> f32 {
        match self.first {
            First::Whole(w1) => w1[i * self.sizes.first[1] + j],
            First::Product(a, b) => {
                let term = |r: usize| a.data[i * a.row_stride + r] * b.data[r * b.row_stride + j];
                (0..a.cols).fold(0.0, |sum, r| sum + term(r))
            }
        }
    }

    /// Writes the window, piece by piece: in each the element of `w₁` is one.
    fn fill(
        &self,
        source: &FactorSource<'_>,
        [(outs, out_step), (ins, in_step)]: FactorAxes,
        kernels: Kernels,
        delta: &mut [f32],
        made: &mut [f32],
    ) {
        let [k, n] = self.sizes.second;
        for (i, rows, p) in pieces(&outs, k) {
            for (j, cols, q) in pieces(&ins, n) {
                let w1 = self.first(i, j);
                let (second, stride) = source.piece([k, n], &rows, &cols, kernels, made);
                for (row, second) in second.chunks(stride).take(rows.len()).enumerate() {
                    let delta = &mut delta[(p + row) * out_step + q * in_step..];
                    write_row(delta, in_step, w1, &second[..cols.len()]);
                }
            }
        }
    }

    /// Writes the window of a product whose axes PEFT interleaves.
    fn interleave(
        &self,
        w2: &[f32],
        kernel: usize,
        [(outs, out_step), (ins, in_step)]: FactorAxes,
        delta: &mut [f32],
    ) {
        let ([a, c], n) = (self.sizes.first, self.sizes.second[1]);
        for (row, out) in outs.enumerate() {
            let (p, i) = (out as usize / a, out as usize % a);
            let first: Vec<f32> = (0..c).map(|j| self.first(i, j)).collect();
            for (col, column) in ins.clone().enumerate() {
                let (input, x) = (column as usize / kernel, column as usize % kernel);
                let (q, j) = (input / c, input % c);
                delta[row * out_step + col * in_step] = first[j] * w2[p * n + q * kernel + x];
            }
        }
    }
}

impl FactorSource<'_> {
    /// A piece of `w₂ [k, n]`, and the elements from one of its rows to the next; what is not stored whole goes into `made`.
    fn piece<'p>(
        &'p self,
        [k, n]: [usize; 2],
        rows: &Range<usize>,
        cols: &Range<usize>,
        kernels: Kernels,
        made: &'p mut [f32],
    ) -> (&'p [f32], usize) {
        let made = &mut made[..rows.len() * cols.len()];
        match *self {
            FactorSource::Whole(w2) => return (&w2[rows.start * n + cols.start..], n),
            FactorSource::Product(a, b) => {
                let a = Matrix { data: &a.data[rows.start * a.row_stride..], rows: rows.len(), ..a };
                let b = Matrix { data: &b.data[cols.start..], cols: cols.len(), ..b };
                kernels.product(a, b, made);
            }
            FactorSource::Core(a, core) => {
                let mut partial = Vec::new();
                for (p, made) in rows.clone().zip(made.chunks_exact_mut(cols.len())) {
                    core.partial(|i| a[i * k + p], &mut partial);
                    let row = core.row(&partial, cols.start as u64..cols.end as u64);
                    made.iter_mut().zip(row).for_each(|(to, value)| *to = value);
                }
            }
        }
        (made, cols.len())
    }
}

/// Writes `w₁` times a row of `w₂`, to every `step`-th element.
fn write_row(delta: &mut [f32], step: usize, w1: f32, second: &[f32]) {
    if step == 1 {
        delta.iter_mut().zip(second).for_each(|(d, w2)| *d = w1 * w2);
    } else {
        delta.iter_mut().step_by(step).zip(second).for_each(|(d, w2)| *d = w1 * w2);
    }
}

/// The positions of a window on both axes, and the elements from one to the next.
type FactorAxes = [(Range<u64>, usize); 2];

/// Cuts positions where a block of `size` ends: which block, where in it, and how far from the first position.
fn pieces(positions: &Range<u64>, size: usize) -> impl Iterator<Item = (usize, Range<usize>, usize)> + use<> {
    let (start, end) = (positions.start as usize, positions.end as usize);
    (start / size..end.div_ceil(size)).map(move |block| {
        let first = start.max(block * size);
        (block, first - block * size..end.min((block + 1) * size) - block * size, first - start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, whose sums and products are exact in f32.
    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7 + seed * 5 + 3) % 11) as f32 - 5.0).collect()
    }

    /// The factor, its rows and its columns as a product, or a third of its kind.
    fn element(sizes: Kronecker, data: &[Vec<f32>], o: usize, input: usize) -> f32 {
        let [a, c] = sizes.first;
        let [k, n] = sizes.second;
        let (i, p, j, q) = if let SecondForm::Interleaved { kernel } = sizes.form {
            let column = input / kernel;
            (o % a, o / a, column % c, column / c * kernel + input % kernel)
        } else {
            (o / k, o % k, input / n, input % n)
        };
        let (w1, rest) = match sizes.first_rank {
            None => (data[0][i * c + j], &data[1..]),
            Some(rank) => ((0..rank).map(|r| data[0][i * rank + r] * data[1][r * c + j]).sum(), &data[2..]),
        };
        let w2: f32 = match sizes.form {
            SecondForm::Whole | SecondForm::Interleaved { .. } => rest[0][p * n + q],
            SecondForm::Product { rank } => {
                (0..rank).map(|r| rest[0][p * rank + r] * rest[1][r * n + q]).sum()
            }
            SecondForm::Core(CoreSizes { rank, kernel }) => {
                let (input, x, inputs) = (q / kernel, q % kernel, n / kernel);
                let of = |r: usize, s: usize| {
                    rest[2][(r * rank + s) * kernel + x] * rest[0][r * k + p] * rest[1][s * inputs + input]
                };
                (0..rank).flat_map(|r| (0..rank).map(move |s| of(r, s))).sum()
            }
        };
        w1 * w2
    }

    fn lengths(sizes: Kronecker) -> Vec<usize> {
        let ([a, c], [k, n]) = (sizes.first, sizes.second);
        let mut lengths = match sizes.first_rank {
            None => vec![a * c],
            Some(rank) => vec![a * rank, rank * c],
        };
        match sizes.form {
            SecondForm::Whole | SecondForm::Interleaved { .. } => lengths.push(k * n),
            SecondForm::Product { rank } => lengths.extend([k * rank, rank * n]),
            SecondForm::Core(CoreSizes { rank, kernel }) => {
                lengths.extend([rank * k, rank * n / kernel, rank * rank * kernel]);
            }
        }
        lengths
    }

    #[test]
    fn every_window_holds_its_part() {
        let sizes = |first_rank, form, kernel: usize| Kronecker {
            first: [3, 2],
            first_rank,
            second: [4, 2 * kernel],
            form,
        };
        for (sizes, kernel) in [
            (sizes(None, SecondForm::Whole, 1), 1),
            (sizes(Some(2), SecondForm::Whole, 1), 1),
            (sizes(None, SecondForm::Product { rank: 3 }, 1), 1),
            (sizes(None, SecondForm::Whole, 3), 3),
            (sizes(None, SecondForm::Core(CoreSizes { rank: 2, kernel: 3 }), 3), 3),
            (sizes(Some(2), SecondForm::Core(CoreSizes { rank: 2, kernel: 3 }), 3), 3),
            (sizes(None, SecondForm::Interleaved { kernel: 3 }, 3), 3),
            (sizes(Some(2), SecondForm::Interleaved { kernel: 1 }, 1), 1),
        ] {
            let lengths = lengths(sizes);
            let data: Vec<Vec<f32>> = lengths.iter().enumerate().map(|(i, &n)| values(n, i)).collect();
            let view = |data: &'_ Vec<f32>| FactorView {
                data: Box::leak(data.clone().into_boxed_slice()),
                axis: None,
                first: 0,
                stride: 0,
                inner: data.len(),
                inner_stride: 1,
            };
            let views: Vec<FactorView<'_>> = data.iter().map(view).collect();
            let kron = Kron::of(sizes, &views);
            let (height, width) = (12, 4 * kernel);
            for (top, bottom, left, right) in (0..height)
                .flat_map(|top| (top + 1..=height).map(move |bottom| (top, bottom)))
                .flat_map(|(top, bottom)| [(top, bottom, 0, width), (top, bottom, 1, width - 1)])
            {
                let (outs, ins) = (top as u64..bottom as u64, left as u64..right as u64);
                let (rows, cols) = (bottom - top, right - left);
                for turned in [false, true] {
                    let mut delta = vec![f32::NAN; rows * cols];
                    let mut made = vec![f32::NAN; rows * cols];
                    let (out_step, in_step) = if turned { (1, rows) } else { (cols, 1) };
                    let axes = [(outs.clone(), out_step), (ins.clone(), in_step)];
                    kron.write(axes, Kernels::scalar(), &mut delta, &mut made);
                    for (o, i) in (0..rows).flat_map(|o| (0..cols).map(move |i| (o, i))) {
                        let expected = element(sizes, &data, top + o, left + i);
                        let found = delta[o * out_step + i * in_step];
                        assert_eq!(found, expected, "{sizes:?} [{}, {}] {turned}", top + o, left + i);
                    }
                }
            }
        }
    }
}
