//! LoKr: `W + s·(w₁ ⊗ w₂)`, a Kronecker product, on linear layers and convolutions.
//!
//! Source: Yeh et al. 2023 (arXiv:2309.14859, LyCORIS), section 4; PEFT: `lokr/layer.py`, `LoKrLayer.get_delta_weight`,
//! `make_kron`, `make_weight_cp` (peft-methods.md 4.12). `s = alpha/r` even where neither factor is a product (LyCORIS has
//! 1 there). `w₁` is `lokr_w1 [a, c]` or `lokr_w1_a [a, r]·lokr_w1_b [r, c]`; `w₂` is one of ([`Second`]):
//!
//! - `lokr_w2 [k, n, kernel]`, all of it, with as many axes as the layer;
//! - `lokr_w2_a [k, r]·lokr_w2_b [r, n·kernel]`;
//! - `lokr_w2_a [r, k]` and `lokr_w2_b [r, n]` around the core `lokr_t2 [r, r, kernel]` ([`Core`]).
//!
//! The delta at output `i·k + p` and input `j·n + q` is `w₁[i, j]·w₂[p, q]`, where the kernel counts as part of the inputs
//! of `w₂`. One oddity is PEFT's, in training as in its merge: for a convolution of one dimension with all of `w₂`, whose
//! shape has three axes, `torch.kron` puts the missing axis of `w₁` in front, so that `w₁` meets the inputs and the kernel
//! and the result is only reshaped. What comes out has `w₁` and `w₂` interleaved the other way round: output `p·a + i`,
//! input `q·c + j`.
//!
//! Rounding: `w₁`, `w₂` in f32, their product rounded, times `s` rounded, added to the running value, as in PEFT.

use std::ops::Range;

use crate::adapters::claim::context::Claiming;
use crate::adapters::peft::config::Field;
use crate::adapters::peft::keys::Tail;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::kernels::dispatch::Kernels;
use crate::kernels::product::Matrix;
use crate::ops::op::{Factor, Op};

use crate::adapters::claim::Method;
use crate::adapters::claim::lycoris;
use crate::adapters::claim::lycoris::{Core, Layer};
use crate::ops::block::{Block, FactorView};

/// A Kronecker product.
pub(crate) struct Lokr;

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("alpha", Field::Fine),
    ("rank_pattern", Field::Fine),
    ("alpha_pattern", Field::Fine),
    // The shapes tell what is a product, how sizes were split, and whether there is a core.
    ("use_effective_conv2d", Field::Fine),
    ("decompose_both", Field::Fine),
    ("decompose_factor", Field::Fine),
    ("init_weights", Field::Fine),
    ("rank_dropout", Field::Fine),
    ("rank_dropout_scale", Field::Fine),
    ("module_dropout", Field::Fine),
];

const fn tail(role: &'static str) -> Tail {
    Tail { role, ending: "" }
}

/// In the order of an op's factors, each as far as it is there.
const TAILS: [Tail; 7] = [
    tail(".lokr_w1"),
    tail(".lokr_w1_a"),
    tail(".lokr_w1_b"),
    tail(".lokr_w2"),
    tail(".lokr_w2_a"),
    tail(".lokr_w2_b"),
    tail(".lokr_t2"),
];

impl Method for Lokr {
    fn name(&self) -> &'static str {
        "lokr"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &["LOKR"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        for (module, tensors) in lycoris::take(claiming, &TAILS) {
            if let Err(error) = claim_module(claiming, &module, tensors) {
                claiming.refuse(error);
            }
        }
    }

    fn rooms(&self) -> usize {
        2
    }

    fn rank(&self, op: &Op) -> u64 {
        Sizes::of(&op.settings).second_rank as u64
    }

    fn apply(&self, block: &mut Block<'_>) {
        let kron = Kron::of(block.settings, block.factors);
        let (axes, elements, kernels) = (block.axes(), block.elements(), block.kernels);
        let (delta, room) = block.scratch.split_at_mut(elements);
        match kron.second {
            Second::Interleaved(w2) => kron.interleave(w2, axes, delta),
            _ => kron.fill(axes, kernels, delta, room),
        }
        block.add_scaled();
    }
}

/// The sizes of a product, as its op's settings keep them.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// Rows and columns of `w₁`.
    first: [usize; 2],
    /// Rank of `w₁`; 0 if it is whole.
    first_rank: usize,
    /// Rows and columns of `w₂`, the kernel among the columns.
    second: [usize; 2],
    /// Rank of `w₂`; 0 if it is whole.
    second_rank: usize,
    /// Places of the kernel.
    kernel: usize,
    /// Whether `w₂` has three axes.
    is_interleaved: bool,
}

impl Sizes {
    fn settings(self) -> Vec<f64> {
        let Sizes { first, first_rank, second, second_rank, kernel, is_interleaved } = self;
        let all = [first[0], first[1], first_rank, second[0], second[1], second_rank, kernel];
        all.into_iter().chain([usize::from(is_interleaved)]).map(|size| size as f64).collect()
    }

    fn of(settings: &[f64]) -> Sizes {
        let sizes: Vec<usize> = settings.iter().map(|&size| size as usize).collect();
        let &[a, c, first_rank, k, n, second_rank, kernel, is_interleaved] = sizes.as_slice() else {
            unreachable!("the claim wrote eight")
        };
        let is_interleaved = is_interleaved != 0;
        Sizes { first: [a, c], first_rank, second: [k, n], second_rank, kernel, is_interleaved }
    }
}

/// The two factors of a Kronecker product.
struct Kron<'k> {
    sizes: Sizes,
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
    /// All of it.
    Whole(&'k [f32]),
    /// All of it, of a convolution of one dimension.
    Interleaved(&'k [f32]),
    /// A product.
    Product(Matrix<'k>, Matrix<'k>),
    /// `a [rank, k]`, and the core with the other.
    Core(&'k [f32], Core<'k>),
}

impl<'k> Kron<'k> {
    fn of(settings: &[f64], factors: &'k [FactorView<'k>]) -> Kron<'k> {
        let sizes = Sizes::of(settings);
        let product = |of: &'k [FactorView<'k>], [rows, cols]: [usize; 2], rank| {
            (Matrix::row_major(of[0].data, rows, rank), Matrix::row_major(of[1].data, rank, cols))
        };
        let (first, rest) = match sizes.first_rank {
            0 => (First::Whole(factors[0].data), &factors[1..]),
            rank => {
                let (a, b) = product(factors, sizes.first, rank);
                (First::Product(a, b), &factors[2..])
            }
        };
        let second = match (rest, sizes.second_rank) {
            ([w2], _) if sizes.is_interleaved => Second::Interleaved(w2.data),
            ([w2], _) => Second::Whole(w2.data),
            ([a, b, t], rank) => {
                Second::Core(a.data, Core { t: t.data, b: b.data, rank, kernel: sizes.kernel })
            }
            (_, rank) => {
                let (a, b) = product(rest, sizes.second, rank);
                Second::Product(a, b)
            }
        };
        Kron { sizes, first, second }
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
        [(outs, out_step), (ins, in_step)]: [(Range<u64>, usize); 2],
        kernels: Kernels,
        delta: &mut [f32],
        room: &mut [f32],
    ) {
        let [k, n] = self.sizes.second;
        for (i, rows, p) in pieces(&outs, k) {
            for (j, cols, q) in pieces(&ins, n) {
                let w1 = self.first(i, j);
                let width = cols.len();
                let (second, stride) = match self.second {
                    Second::Whole(w2) => (&w2[rows.start * n + cols.start..], n),
                    _ => {
                        self.make(&rows, &cols, kernels, &mut room[..rows.len() * width]);
                        (&room[..rows.len() * width], width)
                    }
                };
                for (row, second) in second.chunks(stride).take(rows.len()).enumerate() {
                    let delta = &mut delta[(p + row) * out_step + q * in_step..];
                    if in_step == 1 {
                        delta.iter_mut().zip(&second[..width]).for_each(|(d, w2)| *d = w1 * w2);
                    } else {
                        let delta = delta.iter_mut().step_by(in_step);
                        delta.zip(&second[..width]).for_each(|(d, w2)| *d = w1 * w2);
                    }
                }
            }
        }
    }

    /// Writes a piece of `w₂` that is not stored whole.
    fn make(&self, rows: &Range<usize>, cols: &Range<usize>, kernels: Kernels, piece: &mut [f32]) {
        match self.second {
            Second::Product(a, b) => {
                let a = Matrix { data: &a.data[rows.start * a.row_stride..], rows: rows.len(), ..a };
                let b = Matrix { data: &b.data[cols.start..], cols: cols.len(), ..b };
                kernels.product(a, b, piece);
            }
            Second::Core(a, core) => {
                let k = self.sizes.second[0];
                let mut partial = Vec::new();
                for (p, piece) in rows.clone().zip(piece.chunks_exact_mut(cols.len())) {
                    core.partial(|i| a[i * k + p], &mut partial);
                    let row = core.row(&partial, cols.start as u64..cols.end as u64);
                    piece.iter_mut().zip(row).for_each(|(to, value)| *to = value);
                }
            }
            Second::Whole(_) | Second::Interleaved(_) => unreachable!("it is stored"),
        }
    }

    /// Writes the window of a product whose axes PEFT interleaves.
    fn interleave(
        &self,
        w2: &[f32],
        [(outs, out_step), (ins, in_step)]: [(Range<u64>, usize); 2],
        delta: &mut [f32],
    ) {
        let ([a, c], n, kernel) = (self.sizes.first, self.sizes.second[1], self.sizes.kernel);
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

/// Cuts positions where a block of `size` ends: which block, where in it, and how far from the first position.
fn pieces(positions: &Range<u64>, size: usize) -> impl Iterator<Item = (usize, Range<usize>, usize)> + use<> {
    let (start, end) = (positions.start as usize, positions.end as usize);
    (start / size..end.div_ceil(size)).map(move |block| {
        let first = start.max(block * size);
        (block, first - block * size..end.min((block + 1) * size) - block * size, first - start)
    })
}

fn claim_module(claiming: &mut Claiming<'_>, module: &str, tensors: [Option<usize>; 7]) -> Result<()> {
    let present: Vec<usize> = tensors.into_iter().flatten().collect();
    let mut needed = [false; 7];
    for (whole, parts) in [(0, 1..3), (3, 4..7)] {
        let part = parts.clone().find_map(|slot| tensors[slot]);
        match (tensors[whole], part) {
            (Some(whole), Some(part)) => return Err(both(claiming, whole, part)),
            (None, Some(_)) => parts.take(2).for_each(|slot| needed[slot] = true),
            _ => needed[whole] = true,
        }
    }
    if let Some(missing) = (0..7).find(|&slot| needed[slot] && tensors[slot].is_none()) {
        claiming.lacks_partner(present[0], &TAILS[missing].key(module));
        return Ok(());
    }
    let Some(layer) = Layer::find(claiming, module, &present, "LoKr")? else { return Ok(()) };
    let kernel: u64 = layer.kernel().iter().product();
    let (first, first_rank) = match tensors {
        [Some(w1), ..] => (lycoris::matrix(claiming, w1, "[outs, ins]")?, None),
        [_, Some(a), Some(b), ..] => {
            let (shape, rank) = product(claiming, a, b)?;
            (shape, Some(rank))
        }
        _ => unreachable!("one or the other is there"),
    };
    let (second, second_rank) = match tensors[3..] {
        [Some(w2), ..] => (whole(claiming, w2, &layer)?, None),
        [_, Some(a), Some(b), None] => {
            let (shape, rank) = product(claiming, a, b)?;
            (shape, Some(rank))
        }
        [_, Some(a), Some(b), Some(t)] => {
            let (rank, outs) = lycoris::matrix(claiming, a, "[rank, outs]")?;
            let (_, ins) = lycoris::matrix(claiming, b, "[rank, ins]")?;
            lycoris::expect(claiming, b, &[rank, ins], a)?;
            lycoris::expect_core(claiming, t, rank, &layer)?;
            if layer.kernel().len() == 1 && rank == 1 && first.1 > 1 && outs > 1 && ins > 1 {
                return Err(no_view(claiming, t));
            }
            ((outs, ins * kernel), Some(rank))
        }
        _ => unreachable!("one or the other is there"),
    };
    if let (Some(first), Some(second)) = (first_rank, second_rank)
        && first != second
    {
        let (adapter, module) = (claiming.adapter.name.clone(), module.to_owned());
        return Err(ErrorKind::Rank { adapter, module, found: second, expected: first }.into());
    }
    let shape = (first.0 * second.0, first.1 * second.1);
    let factors = present.iter().map(|&i| Factor::whole(claiming.tensor(i).tensor.clone())).collect();
    let rank = first_rank.or(second_rank);
    let mut change = lycoris::change("lokr", claiming, module, shape, rank, factors)?;
    let sizes = Sizes {
        first: [first.0, first.1].map(|size| size as usize),
        first_rank: first_rank.unwrap_or(0) as usize,
        second: [second.0, second.1].map(|size| size as usize),
        second_rank: second_rank.unwrap_or(0) as usize,
        kernel: kernel as usize,
        is_interleaved: tensors[3].is_some() && layer.kernel().len() == 1,
    };
    change.settings = sizes.settings();
    layer.claim(claiming, module, &present, shape, change)
}

/// Outputs and inputs of a product `a [outs, rank]·b [rank, ins]`, and its rank.
fn product(claiming: &Claiming<'_>, a: usize, b: usize) -> Result<((u64, u64), u64)> {
    let (outs, rank) = lycoris::matrix(claiming, a, "[outs, rank]")?;
    let (_, ins) = lycoris::matrix(claiming, b, "[rank, ins]")?;
    lycoris::expect(claiming, b, &[rank, ins], a)?;
    Ok(((outs, ins), rank))
}

/// Outputs, and inputs with the kernel, of a second factor that is all there.
fn whole(claiming: &Claiming<'_>, w2: usize, layer: &Layer) -> Result<(u64, u64)> {
    match *claiming.tensor(w2).tensor.shape.axes() {
        [outs, ins, ref kernel @ ..] if outs > 0 && ins > 0 && kernel == layer.kernel() => {
            Ok((outs, ins * kernel.iter().product::<u64>()))
        }
        _ => {
            let kernel: String = layer.kernel().iter().map(|size| format!(", {size}")).collect();
            Err(claiming.factor_shape(w2, format!("[outs, ins{kernel}], both above zero")))
        }
    }
}

fn both(claiming: &Claiming<'_>, whole: usize, part: usize) -> Error {
    let (adapter, key) = (claiming.adapter.name.clone(), claiming.tensor(part).key.clone());
    let why = format!("`{}` is there too, and only one of them can be meant", claiming.tensor(whole).key);
    ErrorKind::Unclaimed { adapter, key, why }.into()
}

/// `torch.kron` fails on such a core, for how it lies in memory: measured with PEFT 0.21.2, it is so for rank 1 where `w₁` has
/// columns and `w₂` has outputs and inputs, all more than one.
fn no_view(claiming: &Claiming<'_>, t: usize) -> Error {
    let (adapter, key) = (claiming.adapter.name.clone(), claiming.tensor(t).key.clone());
    let why =
        "PEFT fails on a core of rank 1 of such a convolution of one dimension, in training as in merging";
    ErrorKind::Unclaimed { adapter, key, why: why.to_owned() }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small whole numbers, whose sums and products are exact in f32.
    fn values(n: usize, seed: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7 + seed * 5 + 3) % 11) as f32 - 5.0).collect()
    }

    /// The factor, its rows and its columns as a product, or a third of its kind.
    fn element(sizes: Sizes, data: &[Vec<f32>], o: usize, input: usize) -> f32 {
        let [a, c] = sizes.first;
        let [k, n] = sizes.second;
        let (i, p, column) = match sizes.is_interleaved {
            true => (o % a, o / a, input / sizes.kernel),
            false => (o / k, o % k, 0),
        };
        let (j, q) = match sizes.is_interleaved {
            true => (column % c, column / c * sizes.kernel + input % sizes.kernel),
            false => (input / n, input % n),
        };
        let (w1, rest) = match sizes.first_rank {
            0 => (data[0][i * c + j], &data[1..]),
            rank => ((0..rank).map(|r| data[0][i * rank + r] * data[1][r * c + j]).sum(), &data[2..]),
        };
        let w2: f32 = match (rest, sizes.second_rank) {
            ([w2], _) => w2[p * n + q],
            ([a, b], rank) => (0..rank).map(|r| a[p * rank + r] * b[r * n + q]).sum(),
            ([a, b, t], rank) => {
                let (input, x, inputs) = (q / sizes.kernel, q % sizes.kernel, n / sizes.kernel);
                let of = |r: usize, s: usize| {
                    t[(r * rank + s) * sizes.kernel + x] * a[r * k + p] * b[s * inputs + input]
                };
                (0..rank).flat_map(|r| (0..rank).map(move |s| of(r, s))).sum()
            }
            _ => unreachable!(),
        };
        w1 * w2
    }

    fn lengths(sizes: Sizes) -> Vec<usize> {
        let ([a, c], [k, n]) = (sizes.first, sizes.second);
        let mut lengths = match sizes.first_rank {
            0 => vec![a * c],
            rank => vec![a * rank, rank * c],
        };
        match (sizes.second_rank, sizes.kernel) {
            (0, _) => lengths.push(k * n),
            (rank, 1) => lengths.extend([k * rank, rank * n]),
            (rank, kernel) => {
                lengths.extend([rank * k, rank * n / kernel, rank * rank * kernel]);
            }
        }
        lengths
    }

    #[test]
    fn every_window_holds_its_part() {
        let sizes = |first_rank, second_rank, kernel, is_interleaved| Sizes {
            first: [3, 2],
            first_rank,
            second: [4, 2 * kernel],
            second_rank,
            kernel,
            is_interleaved,
        };
        for sizes in [
            sizes(0, 0, 1, false),
            sizes(2, 0, 1, false),
            sizes(0, 3, 1, false),
            sizes(0, 0, 3, false),
            sizes(0, 2, 3, false),
            sizes(2, 2, 3, false),
            sizes(0, 0, 3, true),
            sizes(2, 0, 1, true),
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
            let settings = sizes.settings();
            let kron = Kron::of(&settings, &views);
            let (height, width) = (12, 4 * sizes.kernel);
            for (top, bottom, left, right) in (0..height)
                .flat_map(|top| (top + 1..=height).map(move |bottom| (top, bottom)))
                .flat_map(|(top, bottom)| [(top, bottom, 0, width), (top, bottom, 1, width - 1)])
            {
                let (outs, ins) = (top as u64..bottom as u64, left as u64..right as u64);
                let (rows, cols) = (bottom - top, right - left);
                for turned in [false, true] {
                    let mut delta = vec![f32::NAN; rows * cols];
                    let mut room = vec![f32::NAN; rows * cols];
                    let (out_step, in_step) = if turned { (1, rows) } else { (cols, 1) };
                    let axes = [(outs.clone(), out_step), (ins.clone(), in_step)];
                    match kron.second {
                        Second::Interleaved(w2) => kron.interleave(w2, axes, &mut delta),
                        _ => kron.fill(axes, Kernels::scalar(), &mut delta, &mut room),
                    }
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
