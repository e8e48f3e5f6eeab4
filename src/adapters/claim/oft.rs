//! OFT: `W·blockdiag(R)ᵀ`, every row rotated block by block, on linear layers and convolutions of two dimensions (rows with
//! the kernel in them); of an embedding `W·blockdiag(R)`.
//!
//! Source: Qiu et al. 2023 (arXiv:2306.07280), equation 3, and Qiu et al. 2025 (arXiv:2506.19847) for the series. PEFT:
//! `oft/layer.py`, `OFTRotationModule.get_weight` and `merge` of each layer (peft-methods.md 5.1). A row of `oft_R
//! [blocks, b(b−1)/2]` is the part above the diagonal of a skew `Q`. With `coft`, `Q` is first shortened to the length
//! `eps/√blocks`. Then either `R = (I − Q)(I + Q)⁻¹`, or with `use_cayley_neumann` a series that goes the other way:
//! `I + 2Q + 2Q² + … + Qⁿ⁻¹` of `n` terms, where three are no fewer than four, two are `I + 2Q` and less is `I`. With
//! `block_share` one block serves all of a row. There is no scale. Adapters work on what those before them left.
//!
//! Rounding: `R` in f64, rounded to f32 once when the factor is read; the product in f32 over the whole block. The room that
//! this takes is behind the blocks, in the factor's own slot.

use crate::adapters::claim::context::Claiming;
use crate::adapters::claim::edits::{Change, Claimed};
use crate::adapters::peft::config::{AdapterConfig, Field};
use crate::adapters::peft::keys::Tail;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::kernels::product::Matrix;
use crate::model::tied::is_head;
use crate::ops::op::{Factor, Need, Op};
use crate::ops::placement::Placement;
use crate::tensor::shape::Shape;

use crate::adapters::claim::Method;
use crate::ops::block::Block;

/// A rotation of rows.
pub(crate) struct Oft;

const FIELDS: &[(&str, Field)] = &[
    // The shapes tell the size of a block; PEFT moves these to sizes that divide a row.
    ("r", Field::Fine),
    ("oft_block_size", Field::Fine),
    ("block_share", Field::Fine),
    ("coft", Field::Fine),
    ("eps", Field::Fine),
    ("use_cayley_neumann", Field::Fine),
    ("num_cayley_neumann_terms", Field::Fine),
    ("bias", Field::Only(&["none", "all", "oft_only"], "is none of `none`, `all`, `oft_only`")),
    ("init_weights", Field::Fine),
    ("module_dropout", Field::Fine),
    // Storage tells; PEFT sets it to false for linear layers.
    ("fan_in_fan_out", Field::Flag),
];

const R: Tail = Tail { role: ".oft_R", ending: ".weight" };
const EMBEDDING_R: Tail = Tail { role: ".oft_embedding_R", ending: ".weight" };
/// What PEFT wrote up to 0.15, whole matrices.
const OLD: [Tail; 2] = [Tail { role: ".oft_r", ending: "" }, Tail { role: ".oft_r", ending: ".weight" }];

/// Terms of a series beyond these change nothing if it converges.
const MOST_TERMS: f64 = 1000.0;
/// Rows of a rotation that are made at a time.
const ROWS: usize = 8;

impl Method for Oft {
    fn name(&self) -> &'static str {
        "oft"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &["OFT"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        let old: Vec<usize> = OLD.iter().flat_map(|&tail| claiming.take(tail).into_values()).collect();
        let modules = [(R, false), (EMBEDDING_R, true)].map(|(tail, is_embedding)| {
            claiming.take(tail).into_iter().map(move |(module, r)| (module, r, is_embedding))
        });
        let modules: Vec<(String, usize, bool)> = modules.into_iter().flatten().collect();
        let making = refused(claiming, &old).map_or_else(|| Making::read(&claiming.adapter.config), Err);
        let making = match making {
            Ok(making) => making,
            Err(error) => return claiming.refuse(error),
        };
        if let Some(terms) = making.series.filter(|_| !modules.is_empty()) {
            tell(claiming, terms);
        }
        for (module, r, is_embedding) in modules {
            if let Err(error) = claim_module(claiming, &module, r, is_embedding, making) {
                claiming.refuse(error);
            }
        }
    }

    fn rooms(&self) -> usize {
        2
    }

    fn rank(&self, op: &Op) -> u64 {
        Rotation::of(&op.settings).side as u64
    }

    fn prepare(&self, op: &Op, _: usize, values: &mut [f32]) {
        let Rotation { making, side, blocks, .. } = Rotation::of(&op.settings);
        let (rotations, room) = values.split_at_mut(blocks * side * side);
        let packed = side * (side - 1) / 2;
        // From the last block to the first: each ends behind all that is packed before it.
        for block in (0..blocks).rev() {
            let skew = &rotations[block * packed..(block + 1) * packed];
            let shrink = making.eps.map_or(1.0, |eps| shrink(skew, eps / (blocks as f64).sqrt()));
            let at = block * side * side;
            match making.series {
                Some(terms) => {
                    let dense = &mut room[..side * side];
                    unpack(skew, side, |i, value| dense[i] = value);
                    series(dense, side, shrink, terms, &mut rotations[at..at + side * side]);
                }
                None => {
                    let (_, dense, _) = bytemuck::pod_align_to_mut::<f32, f64>(room);
                    let dense = &mut dense[..side * side];
                    // I − Q
                    unpack(skew, side, |i, value| dense[i] = -f64::from(value) * shrink);
                    cayley(dense, side, &mut rotations[at..at + side * side]);
                }
            }
        }
    }

    fn apply(&self, block: &mut Block<'_>) {
        let rotation = Rotation::of(block.settings);
        let (side, size) = (rotation.side, rotation.side * rotation.side);
        let (rows, cols) = (block.window.rows.len(), block.window.cols.len());
        assert_eq!(cols, rotation.width, "the op asked for whole rows");
        let (start, col_stride) = block.row(0);
        let row_stride = block.window.rows.step as usize * block.width;
        let (delta, rotated) = block.scratch.split_at_mut(rows * cols);
        let rotated = &mut rotated[..rows * side];
        for (part, first) in (0..cols).step_by(side).enumerate() {
            let r = &block.factors[0].data[part % rotation.blocks * size..][..size];
            let r = Matrix::row_major(r, side, side);
            let r = if rotation.is_embedding { r } else { r.transposed() };
            let at = start + first * col_stride;
            let values = &mut block.values[at..];
            block.kernels.product(
                Matrix { data: values, rows, cols: side, row_stride, col_stride },
                r,
                rotated,
            );
            for (p, rotated) in rotated.chunks_exact(side).enumerate() {
                let delta = &mut delta[p * cols + first..][..side];
                for (q, (delta, new)) in delta.iter_mut().zip(rotated).enumerate() {
                    let value = &mut values[p * row_stride + q * col_stride];
                    *delta = new - *value;
                    *value = *new;
                }
            }
        }
    }
}

/// How rotations are made, as the config says.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Making {
    /// Terms of the series; none for the exact rotation.
    series: Option<usize>,
    /// What `Q` is shortened to, times the root of the number of blocks, if it is.
    eps: Option<f64>,
}

impl Making {
    fn read(config: &AdapterConfig) -> Result<Making> {
        let number = |name: &str, default: f64, is_fine: fn(f64) -> bool, why: &str| match config.get(name) {
            None => Ok(default),
            Some(value) => {
                value.as_f64().filter(|&number| is_fine(number)).ok_or_else(|| config.bad(name, value, why))
            }
        };
        let flag = |name: &str, default: bool| match config.get(name) {
            None => Ok(default),
            Some(value) => {
                value.as_bool().ok_or_else(|| config.bad(name, value, "is neither true nor false"))
            }
        };
        let is_series = flag("use_cayley_neumann", true)?;
        let terms = number(
            "num_cayley_neumann_terms",
            5.0,
            |terms| terms.fract() == 0.0 && terms <= MOST_TERMS,
            "is not a whole number up to 1000",
        )?;
        let eps = number("eps", 6e-5, |_| true, "is not a number")?;
        let is_short = flag("coft", false)?;
        Ok(Making { series: is_series.then_some(terms.max(0.0) as usize), eps: is_short.then_some(eps) })
    }

    /// Room behind the blocks, in f32: a matrix of f32, or of f64 that starts at a whole one.
    fn room(self, side: u64) -> u64 {
        if self.series.is_some() { side * side } else { 2 * side * side + 1 }
    }
}

/// An op's rotation, as its settings keep it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rotation {
    making: Making,
    /// Rows of a block.
    side: usize,
    /// Blocks that there are.
    blocks: usize,
    /// Elements of a row.
    width: usize,
    /// Whether rows are multiplied by the blocks and not by their transposes.
    is_embedding: bool,
}

impl Rotation {
    fn settings(self) -> Vec<f64> {
        let Rotation { making, side, blocks, width, is_embedding } = self;
        let terms = making.series.map_or(-1.0, |terms| terms as f64);
        let is_short = f64::from(u8::from(making.eps.is_some()));
        let is_embedding = f64::from(u8::from(is_embedding));
        vec![
            side as f64,
            blocks as f64,
            width as f64,
            is_embedding,
            terms,
            is_short,
            making.eps.unwrap_or(0.0),
        ]
    }

    fn of(settings: &[f64]) -> Rotation {
        let &[side, blocks, width, is_embedding, terms, is_short, eps] = settings else {
            unreachable!("the claim wrote seven")
        };
        let making = Making {
            series: (terms >= 0.0).then_some(terms as usize),
            eps: (is_short != 0.0).then_some(eps),
        };
        let [side, blocks, width] = [side, blocks, width].map(|size| size as usize);
        Rotation { making, side, blocks, width, is_embedding: is_embedding != 0.0 }
    }
}

/// What `Q` is multiplied by to be no longer than `most`. Its length is that of both its halves.
fn shrink(skew: &[f32], most: f64) -> f64 {
    let half: f64 = skew.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let length = (2.0 * half).sqrt();
    if length > most { most / length } else { 1.0 }
}

/// Gives every element of the skew matrix to `put`: its index, and its value; zeros on the diagonal.
fn unpack(packed: &[f32], side: usize, mut put: impl FnMut(usize, f32)) {
    let mut packed = packed.iter();
    for row in 0..side {
        put(row * side + row, 0.0);
        for col in row + 1..side {
            let value = *packed.next().expect("as many as there are above the diagonal");
            put(row * side + col, value);
            put(col * side + row, -value);
        }
    }
}

/// The series of `shrink · skew`, some rows at a time, by Horner's rule: row `i` is
/// `((eᵢ·Q·c + eᵢ·c')·Q + …)`, with powers of one matrix only, which is f32 as the file has it.
fn series(skew: &[f32], side: usize, shrink: f64, terms: usize, rotation: &mut [f32]) {
    let highest = match terms {
        0 | 1 => 0,
        2 => 1,
        terms => (terms - 1).max(3),
    };
    // The highest power has 1, but where it is the second term; the others 2, and the identity 1.
    let coefficient = |power: usize| if power == 0 || (power == highest && power > 1) { 1.0 } else { 2.0 };
    let (mut sums, mut next) = (vec![0.0; ROWS * side], vec![0.0; ROWS * side]);
    for (chunk, rotation) in rotation.chunks_mut(ROWS * side).enumerate() {
        let (sums, next) = (&mut sums[..rotation.len()], &mut next[..rotation.len()]);
        let diagonal = |row: usize| row * side + chunk * ROWS + row;
        let rows = rotation.len() / side;
        sums.fill(0.0);
        (0..rows).for_each(|row| sums[diagonal(row)] = coefficient(highest));
        for power in (0..highest).rev() {
            next.fill(0.0);
            for (k, skew) in skew.chunks_exact(side).enumerate() {
                for (sums, next) in sums.chunks_exact(side).zip(next.chunks_exact_mut(side)) {
                    let factor = sums[k] * shrink;
                    if factor != 0.0 {
                        next.iter_mut().zip(skew).for_each(|(next, q)| *next += factor * f64::from(*q));
                    }
                }
            }
            sums.copy_from_slice(next);
            (0..rows).for_each(|row| sums[diagonal(row)] += coefficient(power));
        }
        rotation.iter_mut().zip(sums.iter()).for_each(|(to, sum)| *to = *sum as f32);
    }
}

/// The exact rotation of `Q`, given `−Q` without its diagonal: `(I − Q)(I + Q)⁻¹ = 2·(I + Q)⁻¹ − I`, whose row `i` is
/// `2x − eᵢ` with `(I − Q)·x = eᵢ`, as `I − Q` is the transpose of `I + Q`. Elimination with the largest pivots; no skew `Q`
/// makes `I − Q` singular.
fn cayley(matrix: &mut [f64], side: usize, rotation: &mut [f32]) {
    (0..side).for_each(|i| matrix[i * side + i] += 1.0);
    let mut order: Vec<usize> = (0..side).collect();
    for k in 0..side {
        let size = |row: usize| matrix[row * side + k].abs();
        let best = (k + 1..side).fold(k, |best, row| if size(row) > size(best) { row } else { best });
        order.swap(k, best);
        let (above, below) = matrix.split_at_mut((k + 1) * side);
        let pivot = &mut above[k * side..];
        if best > k {
            pivot.swap_with_slice(&mut below[(best - k - 1) * side..(best - k) * side]);
        }
        for row in below.chunks_exact_mut(side) {
            let factor = row[k] / pivot[k];
            row[k] = factor;
            if factor != 0.0 {
                row[k + 1..]
                    .iter_mut()
                    .zip(&pivot[k + 1..])
                    .for_each(|(value, pivot)| *value -= factor * pivot);
            }
        }
    }
    let mut x = vec![0.0; side];
    for (i, rotation) in rotation.chunks_exact_mut(side).enumerate() {
        for (row, factors) in matrix.chunks_exact(side).enumerate() {
            let known: f64 = factors[..row].iter().zip(&x).map(|(factor, x)| factor * x).sum();
            x[row] = f64::from(u8::from(order[row] == i)) - known;
        }
        for (row, factors) in matrix.chunks_exact(side).enumerate().rev() {
            let known: f64 = factors[row + 1..].iter().zip(&x[row + 1..]).map(|(factor, x)| factor * x).sum();
            x[row] = (x[row] - known) / factors[row];
        }
        for (j, (to, x)) in rotation.iter_mut().zip(&x).enumerate() {
            *to = (2.0 * x - f64::from(u8::from(i == j))) as f32;
        }
    }
}

/// What is wrong with all of the adapter.
fn refused(claiming: &Claiming<'_>, old: &[usize]) -> Option<Error> {
    let adapter = claiming.adapter.name.clone();
    let retrain =
        "no later PEFT reads it: merge it with the version that it was trained with, or train it again";
    if claiming.adapter.config.get("oft_block_size").is_none() {
        let why = "without `oft_block_size` in the config is OFT as PEFT before 0.14 had it".to_owned();
        let error = Error::new(ErrorKind::PeftType { adapter, found: "OFT".to_owned(), why });
        return Some(error.hint(retrain));
    }
    if let Some(&first) = old.first() {
        let key = claiming.tensor(first).key.clone();
        let why = match old.len() {
            1 => "it is of OFT as PEFT up to 0.15 had it".to_owned(),
            several => format!("it and {} more are of OFT as PEFT up to 0.15 had it", several - 1),
        };
        return Some(Error::new(ErrorKind::Unclaimed { adapter, key, why }).hint(retrain));
    }
    let weight = claiming.adapter.weight;
    (weight != 1.0).then(|| {
        let (what, why) = (adapter.clone(), "OFT rotates, and a rotation has no scale".to_owned());
        Error::new(ErrorKind::Weighted { adapter, what, weight, why }).hint("use weight 1 for this adapter")
    })
}

/// Says what a series may surprise with.
fn tell(claiming: &mut Claiming<'_>, terms: usize) {
    let adapter = &claiming.adapter.name;
    if is_before_0_18(&claiming.adapter.config) {
        claiming.notice(format!(
            "`{adapter}` was trained with PEFT before 0.18, which made rotations from a slightly different series: PEFT warns of \
             this too, and merges it as shardfold does"
        ));
    }
    if terms < 2 {
        claiming.notice(format!(
            "`{adapter}` sets `num_cayley_neumann_terms` below 2, so that it rotates nothing, as in PEFT"
        ));
    }
}

/// PEFT writes its version from 0.18 on.
fn is_before_0_18(config: &AdapterConfig) -> bool {
    let version = config.text("peft_version").unwrap_or_default();
    let version = version.split('@').next().unwrap_or_default();
    let mut parts = version.split('.').map(|part| part.parse::<u64>().unwrap_or(0));
    let (major, minor) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let is_early =
        version.starts_with("0.18.0") && version.len() > "0.18.0".len() && !version.contains("post");
    (major, minor) < (0, 18) || is_early
}

fn claim_module(
    claiming: &mut Claiming<'_>,
    module: &str,
    r: usize,
    is_embedding: bool,
    making: Making,
) -> Result<()> {
    let Some(target) = claiming.target(&[r], module, "weight") else { return Ok(()) };
    let weight = claiming.weight(target);
    let (side, blocks) = packed(claiming, r)?;
    let (out, width) = rows(claiming, r, &weight.name, &weight.shape, is_embedding)?;
    let is_shared = claiming.adapter.config.is_set("block_share");
    if is_shared && blocks != 1 {
        let expected = format!("[1, {}], as the config sets `block_share`", side * (side - 1) / 2);
        return Err(claiming.factor_shape(r, expected));
    }
    let fits = if is_shared { width.is_multiple_of(side) } else { blocks.checked_mul(side) == Some(width) };
    if fits && side == 1 {
        claiming.notice(format!("`{}` has blocks of one element, which rotate nothing", weight.name));
        let keys = vec![claiming.tensor(r).key.clone()];
        claiming.claim(Claimed::change("oft", module, keys, target, Vec::new()));
        return Ok(());
    }
    if !fits {
        if !is_embedding && weight.shape.axes().len() == 2 && blocks * side == out {
            return Err(unfit(claiming, r, &weight.name, STORED_TRANSPOSED));
        }
        let expected =
            format!("blocks that make up rows of {width}, as `{}` is {}", weight.name, weight.shape);
        let error = claiming.factor_shape(r, expected);
        return Err(
            error.hint(format!("{blocks} of {side} · {side} make up {}", blocks.saturating_mul(side)))
        );
    }
    let tensor = claiming.tensor(r).clone();
    let made = blocks * side * side + making.room(side);
    let factors = vec![Factor { made: Some(made), ..Factor::whole(tensor.tensor) }];
    let mut change = Change::new("oft", Placement::matrix(out, width, false), factors, 1.0);
    change.need = Need::Rows;
    let [side, blocks, width] = [side, blocks, width].map(|size| size as usize);
    change.settings = Rotation { making, side, blocks, width, is_embedding }.settings();
    claiming.claim(Claimed::change("oft", module, vec![tensor.key], target, vec![change]));
    Ok(())
}

/// Rows of a block, and how many blocks the file has.
fn packed(claiming: &Claiming<'_>, r: usize) -> Result<(u64, u64)> {
    let found = match *claiming.tensor(r).tensor.shape.axes() {
        // Where nothing else divides a row, PEFT takes blocks of one element, which have nothing above their diagonal.
        [blocks, packed] if blocks > 0 => {
            let side = (1 + 8 * packed).isqrt().div_ceil(2);
            (side * (side - 1) / 2 == packed).then_some((side, blocks))
        }
        _ => None,
    };
    found.ok_or_else(|| claiming.factor_shape(r, "[blocks, b·(b - 1)/2] for blocks of b · b".to_owned()))
}

const STORED_TRANSPOSED: &str = "stored as [in, out]";

/// Rows of the base tensor and elements of each, if it is a layer that PEFT's OFT fits.
fn rows(
    claiming: &Claiming<'_>,
    r: usize,
    name: &str,
    shape: &Shape,
    is_embedding: bool,
) -> Result<(u64, u64)> {
    let is_shared = claiming.adapter.config.is_set("block_share");
    let layer = match *shape.axes() {
        [rows, cols] if is_embedding => return Ok((rows, cols)),
        [rows, cols] if claiming.names.conv1d() && !is_head(name) && (rows == cols || is_shared) => {
            STORED_TRANSPOSED
        }
        [rows, cols] => return Ok((rows, cols)),
        [_, _, high, wide] if high != wide && !is_embedding => "a convolution whose kernel is not square",
        // Its stored rows are single elements.
        [1, _, 1, 1] if !is_embedding => "a convolution of one output without a kernel",
        [rows, ref rest @ ..] if rest.len() == 3 && !is_embedding => {
            return Ok((rows, rest.iter().product()));
        }
        _ if is_embedding => "no embedding",
        _ => "neither a linear layer nor a convolution of two dimensions",
    };
    Err(unfit(claiming, r, name, layer))
}

fn unfit(claiming: &Claiming<'_>, r: usize, name: &str, layer: &str) -> Error {
    let (adapter, key) = (claiming.adapter.name.clone(), claiming.tensor(r).key.clone());
    let why = format!("`{name}` is {layer}, which PEFT's OFT does not fit");
    ErrorKind::Unclaimed { adapter, key, why }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::op::ClaimId;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};

    /// Numbers between -1 and 1 times `size`.
    fn packed(blocks: usize, side: usize, size: f32) -> Vec<f32> {
        let mut state = 88172645463325252u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % 2001) as f32 / 1000.0 - 1.0
        };
        (0..blocks * side * (side - 1) / 2).map(|_| size * next()).collect()
    }

    type Square = Vec<Vec<f64>>;

    fn times(a: &Square, b: &Square) -> Square {
        let n = a.len();
        let element = |i: usize, j: usize| (0..n).map(|k| a[i][k] * b[k][j]).sum();
        (0..n).map(|i| (0..n).map(|j| element(i, j)).collect()).collect()
    }

    fn plus(a: &Square, b: &Square, factor: f64) -> Square {
        a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + factor * b).collect()).collect()
    }

    fn identity(n: usize) -> Square {
        (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect()
    }

    fn skew(packed: &[f32], side: usize, factor: f64) -> Square {
        let mut square = vec![vec![0.0; side]; side];
        let above = (0..side).flat_map(|i| (i + 1..side).map(move |j| (i, j)));
        for ((i, j), &value) in above.zip(packed) {
            (square[i][j], square[j][i]) = (f64::from(value) * factor, -f64::from(value) * factor);
        }
        square
    }

    fn largest(a: &Square) -> f64 {
        a.iter().flatten().fold(0.0, |most, value| value.abs().max(most))
    }

    /// What `prepare` makes of packed blocks.
    fn prepared(making: Making, side: usize, packed: &[f32]) -> Vec<Square> {
        let blocks = packed.len() / (side * (side - 1) / 2);
        let width = blocks * side;
        let settings = Rotation { making, side, blocks, width, is_embedding: false }.settings();
        assert_eq!(Rotation::of(&settings).making, making);
        let shape = Shape::new(&[blocks as u64, (side * (side - 1) / 2) as u64]).expect("small");
        let tensor = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F32, shape };
        let made = (blocks * side * side) as u64 + making.room(side as u64);
        let op = Op {
            claim: ClaimId(0),
            method: "oft".into(),
            placement: Placement::matrix(1, width as u64, false),
            factors: vec![Factor { made: Some(made), ..Factor::whole(tensor) }],
            scale: 1.0,
            need: Need::Rows,
            original: false,
            settings,
        };
        // At both evennesses, as a slot's start is not a multiple of eight by itself.
        let mut all = Vec::new();
        for skip in [0, 1] {
            let mut values = vec![f32::NAN; skip + made as usize];
            values[skip..skip + packed.len()].copy_from_slice(packed);
            Oft.prepare(&op, 0, &mut values[skip..]);
            all.push(values[skip..skip + blocks * side * side].to_vec());
        }
        assert_eq!(all[0], all[1]);
        let row = |row: &[f32]| row.iter().map(|&value| f64::from(value)).collect();
        all[0].chunks(side * side).map(|block| block.chunks(side).map(row).collect()).collect()
    }

    #[test]
    fn the_series_is_that_of_peft() {
        // Sides around the rows that are made at a time, and one block or several.
        for (side, blocks) in [(2, 5), (3, 1), (7, 2), (8, 3), (9, 2), (17, 1)] {
            let packed = packed(blocks, side, 0.2);
            for terms in 0..=9 {
                let making = Making { series: Some(terms), eps: None };
                let made = prepared(making, side, &packed);
                for (made, packed) in made.iter().zip(packed.chunks(side * (side - 1) / 2)) {
                    // As PEFT's loop has it.
                    let q = skew(packed, side, 1.0);
                    let mut r = identity(side);
                    if terms > 1 {
                        r = plus(&r, &q, 2.0);
                    }
                    if terms > 2 {
                        let mut power = times(&q, &q);
                        r = plus(&r, &power, 2.0);
                        for _ in 3..(terms - 1).max(3) {
                            power = times(&power, &q);
                            r = plus(&r, &power, 2.0);
                        }
                        r = plus(&r, &times(&power, &q), 1.0);
                    }
                    let off = largest(&plus(made, &r, -1.0));
                    assert!(off <= largest(&r) * 2f64.powi(-24), "{side} {terms}: {off}");
                }
            }
        }
    }

    #[test]
    fn the_exact_rotation_solves_its_equation() {
        // Larger elements than the identity's need other pivots than those on the diagonal.
        for (side, blocks, size) in [(2, 3, 0.1), (3, 2, 40.0), (8, 2, 1.0), (17, 2, 300.0), (33, 1, 0.01)] {
            let packed = packed(blocks, side, size);
            let made = prepared(Making { series: None, eps: None }, side, &packed);
            for (r, packed) in made.iter().zip(packed.chunks(side * (side - 1) / 2)) {
                let (q, one) = (skew(packed, side, 1.0), identity(side));
                let (plus_q, minus_q) = (plus(&one, &q, 1.0), plus(&one, &q, -1.0));
                let unit = 2f64.powi(-24);
                let off = largest(&plus(&times(r, &plus_q), &minus_q, -1.0));
                assert!(off <= side as f64 * unit * largest(&plus_q), "{side} {size}: {off}");
                let turned: Square = (0..side).map(|i| r.iter().map(|row| row[i]).collect()).collect();
                let off = largest(&plus(&times(r, &turned), &one, -1.0));
                assert!(off <= 2.0 * side as f64 * unit, "{side} {size}: no rotation, by {off}");
            }
        }
    }

    #[test]
    fn a_constraint_shortens_what_is_longer() {
        let (side, blocks) = (4, 3);
        let mut packed = packed(blocks, side, 0.5);
        packed[6..12].iter_mut().for_each(|value| *value *= 1e-3); // the second block is short already
        let eps = 0.1;
        for series in [Some(5), None] {
            let made = prepared(Making { series, eps: Some(eps) }, side, &packed);
            for (i, (r, packed)) in made.iter().zip(packed.chunks(6)).enumerate() {
                let length = packed.iter().map(|q| 2.0 * f64::from(*q).powi(2)).sum::<f64>().sqrt();
                let most = eps / 3f64.sqrt();
                let factor = if length > most { most / length } else { 1.0 };
                assert_eq!(factor == 1.0, i == 1);
                let q = skew(packed, side, factor);
                let q2 = times(&q, &q);
                // To the second order, with the sign that each kind has.
                let sign = if series.is_some() { 2.0 } else { -2.0 };
                let near = plus(&plus(&identity(side), &q, sign), &q2, 2.0);
                assert!(largest(&plus(r, &near, -1.0)) < 3.0 * most.powi(3));
            }
        }
    }

    #[test]
    fn versions() {
        let config = |version: serde_json::Value| {
            let fields = [("peft_version".to_owned(), version)].into_iter().collect();
            AdapterConfig::new("style".into(), fields)
        };
        for (version, early) in [
            ("0.17.1", true),
            ("0.18.0.dev0@abc", true),
            ("0.18.0rc1", true),
            ("0.18.0", false),
            ("0.18.0@abc", false),
            ("0.18.0.post1", false),
            ("0.18.1", false),
            ("0.21.2", false),
            ("1.0", false),
            ("", true),
        ] {
            assert_eq!(is_before_0_18(&config(version.into())), early, "{version}");
        }
        assert!(is_before_0_18(&config(serde_json::Value::Null)));
    }
}
