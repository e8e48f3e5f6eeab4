//! Merging blocks whose ops all have a formula of sums and products: each element is evaluated in f64 with a bound of its
//! error, and where both ends of the bound do not round to one code, alone, and at last without any error.

use crate::error::Result;
use crate::error::run::RunError;
use crate::kernels::dispatch::Kernels;
use crate::kernels::exact::Number;
use crate::kernels::exact::ball::Ball;
use crate::kernels::exact::dyadic::Dyadic;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::exact::lanes::Lanes;
use crate::kernels::task::CpuTask;
use crate::ops::formula::{Polynomial, Spot};
use crate::ops::placement::Window;
use crate::schedule::cut::Output;
use crate::schedule::region::{out_encoding, start_encoding};

use crate::pipeline::apply::{Encoded, Piece, TileJob};
use crate::pipeline::scratch::{Buffers, ExactRows, TileOp, WorkerScratch};

/// Elements that are looked at together for open ones.
const LOOKED_AT: usize = 64;

impl TileJob<'_> {
    /// The format that the tile is rounded to, if all its ops have a formula.
    pub(crate) fn exact(&self, ops: &[TileOp]) -> Option<FloatFormat> {
        let format = out_encoding(self.merged.tensor).float_format()?;
        let has_formula = |of: &TileOp| self.op(of).delta().polynomial().is_some();
        let is_merged = self.merged.output == Output::Encoded && !ops.is_empty();
        (is_merged && ops.iter().all(has_formula)).then_some(format)
    }

    /// Merges a block, and adds to the outcome.
    pub(crate) fn merge_exactly(
        &self,
        format: FloatFormat,
        piece: &Piece,
        data: &mut [u8],
        scratch: &mut WorkerScratch,
    ) -> Result<()> {
        let elements = piece.elements();
        let finite = self.decode(piece, data, &mut scratch.buffers.original[..elements]);
        if !finite && start_encoding(self.merged.start).plain().is_none() {
            return Err(RunError::NonFiniteCodes { tensor: self.merged.tensor.name.clone() }.into());
        }
        let mut measured = piece.rows.clone();
        let is_measured = measured.any(|row| self.is_measured(&scratch.ops, row, &piece.cols));
        scratch.applied.clear();
        let sum = if is_measured { self.apply(piece, scratch) } else { None };
        self.evaluate(format, piece, scratch);
        let encoded = self.encode(piece, finite, data, &mut scratch.buffers)?;
        self.settle(format, (piece, finite), data, scratch)?;
        self.measure(piece, sum, encoded.is_cast, scratch);
        // What the first rounding changed is not what is changed now.
        self.count_block(piece, Encoded { changed: None, ..encoded }, scratch);
        Ok(())
    }

    /// Evaluates all formulas in order: leaves the end of each bound that is nearer to zero in the values, and the other in
    /// `exact.ends`.
    fn evaluate(&self, format: FloatFormat, piece: &Piece, scratch: &mut WorkerScratch) {
        let WorkerScratch { buffers, ops, exact, .. } = scratch;
        let (place, elements, width) = (piece.place(self.rect), piece.elements(), piece.cols.len());
        let original = &buffers.original[..elements];
        exact.begin(original);
        for of in ops.iter() {
            let Some(window) = of.grid.window(&place) else { continue };
            let op = self.op(of);
            let (factors, formula) = (self.views(of), op.delta().polynomial().expect("it has a formula"));
            for row in 0..window.rows.len() {
                let (mut col, start) = (0, start_of(&window, row, width));
                while col < window.cols.len() {
                    let at = start + col * window.cols.step as usize;
                    let rest = col..window.cols.len();
                    let (original, scale) = (&original[at..], op.scale);
                    let mut spot =
                        Spot { window: &window, factors: &factors, scale, original, row, cols: rest };
                    spot.cols.end = spot.cols.end.min(col + formula.run(&spot));
                    col = spot.cols.end;
                    exact.apply(self.kernels, formula, &spot, at);
                }
            }
        }
        exact.write_ends(self.kernels, format, &mut buffers.values[..elements]);
    }

    /// Evaluates again what is open, one by one, and puts it in place.
    fn settle(
        &self,
        format: FloatFormat,
        (piece, finite): (&Piece, bool),
        data: &mut [u8],
        scratch: &mut WorkerScratch,
    ) -> Result<()> {
        let elements = piece.elements();
        let encoding = out_encoding(self.merged.tensor);
        let WorkerScratch { buffers, ops, exact, .. } = scratch;
        let ExactRows { ends, codes, .. } = exact;
        let size = format.width as usize / 8;
        encoding.round_flat(self.kernels, &mut ends[..elements], &mut codes[..elements * size]);
        for first in (0..elements).step_by(LOOKED_AT) {
            let run = first..(first + LOOKED_AT).min(elements);
            let pairs = buffers.values[run.clone()].iter().zip(&ends[run.clone()]);
            let differ = pairs.fold(0, |all, (near, far)| all | (near.to_bits() ^ far.to_bits()));
            if differ != 0 || !finite {
                for i in run {
                    let is_open = buffers.values[i].to_bits() != ends[i].to_bits();
                    if is_open || !buffers.original[i].is_finite() {
                        self.settle_one(format, piece, i, data, (buffers, ops))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Evaluates one element of a block again, and puts it in place.
    fn settle_one(
        &self,
        format: FloatFormat,
        piece: &Piece,
        i: usize,
        data: &mut [u8],
        (buffers, ops): (&mut Buffers, &[TileOp]),
    ) -> Result<()> {
        let (row, col) = (i / piece.cols.len(), i % piece.cols.len());
        let (mut value, mut code) = ([buffers.original[i]], [0; 4]);
        let size = format.width as usize / 8;
        if value[0].is_finite() {
            let exact = self.code(format, piece, (row, col), &buffers.original, ops);
            if !format.is_finite(exact) {
                let tensor = self.merged.tensor.name.clone();
                return Err(RunError::NonFiniteResult { tensor }.into());
            }
            (value, code) = ([format.value(exact)], exact.to_le_bytes());
        } else {
            let encoding = out_encoding(self.merged.tensor);
            encoding.round_flat(self.kernels, &mut value, &mut code[..size]);
        }
        buffers.values[i] = value[0];
        let at = (piece.rows.start + row) * self.rect.width() as usize + piece.cols.start + col;
        data[self.layout.out.clone()][at * size..][..size].copy_from_slice(&code[..size]);
        Ok(())
    }

    /// The code of one element.
    fn code(
        &self,
        format: FloatFormat,
        piece: &Piece,
        at: (usize, usize),
        original: &[f32],
        ops: &[TileOp],
    ) -> u32 {
        let near: Ball =
            self.element(piece, at, original, ops, |formula, spot, running| formula.ball(spot, running));
        near.round(format).unwrap_or_else(|| {
            let exact: Dyadic = self
                .element(piece, at, original, ops, |formula, spot, running| formula.dyadic(spot, running));
            exact.round(format)
        })
    }

    /// One element, by all formulas that fall on it, in order.
    fn element<N: Number>(
        &self,
        piece: &Piece,
        (row, col): (usize, usize),
        original: &[f32],
        ops: &[TileOp],
        apply: impl Fn(&dyn Polynomial, &Spot<'_>, N) -> N,
    ) -> N {
        let original = &original[row * piece.cols.len() + col..][..1];
        let one = Piece {
            rows: piece.rows.start + row..piece.rows.start + row + 1,
            cols: piece.cols.start + col..piece.cols.start + col + 1,
        };
        let place = one.place(self.rect);
        ops.iter().fold(N::of(original[0]), |running, of| {
            let Some(window) = of.grid.window(&place) else { return running };
            let (op, factors) = (self.op(of), self.views(of));
            let formula = op.delta().polynomial().expect("it has a formula");
            let spot =
                Spot { window: &window, factors: &factors, scale: op.scale, original, row: 0, cols: 0..1 };
            apply(formula, &spot, running)
        })
    }
}

/// Where a row of a window begins in its block.
fn start_of(window: &Window, row: usize, width: usize) -> usize {
    (window.rows.at as usize + row * window.rows.step as usize) * width + window.cols.at as usize
}

impl ExactRows {
    /// Running values as they are before any op.
    fn begin(&mut self, original: &[f32]) {
        for (middle, value) in self.middles.iter_mut().zip(original) {
            *middle = f64::from(*value);
        }
        self.radii[..original.len()].fill(0.0);
    }

    /// Applies a formula to the running values that begin at `at`.
    fn apply(&mut self, kernels: Kernels, formula: &dyn Polynomial, spot: &Spot<'_>, at: usize) {
        let (count, step) = (spot.cols.len(), spot.window.cols.step as usize);
        let mut running = Lanes::of(0.0);
        if step == 1 {
            running.middles[..count].copy_from_slice(&self.middles[at..at + count]);
            running.radii[..count].copy_from_slice(&self.radii[at..at + count]);
            let running = formula.lanes(kernels, spot, running);
            self.middles[at..at + count].copy_from_slice(&running.middles[..count]);
            self.radii[at..at + count].copy_from_slice(&running.radii[..count]);
            return;
        }
        for lane in 0..count {
            running.middles[lane] = self.middles[at + lane * step];
            running.radii[lane] = self.radii[at + lane * step];
        }
        let running = formula.lanes(kernels, spot, running);
        for lane in 0..count {
            self.middles[at + lane * step] = running.middles[lane];
            self.radii[at + lane * step] = running.radii[lane];
        }
    }

    /// Both ends of each bound in f32, the one nearer to zero apart.
    fn write_ends(&mut self, kernels: Kernels, format: FloatFormat, nearer: &mut [f32]) {
        let ExactRows { middles, radii, ends, .. } = self;
        // f64: as many steps as the roundings of an end take. In front of a second rounding the ends must not be rounded
        // onto a tie: there they are more than a step of f32 further out.
        let (relative, tiny) = match format {
            FloatFormat::F32 => (2.0 * f64::EPSILON, 0.0),
            _ => (2.0 * f64::from(f32::EPSILON), f64::from(f32::from_bits(2))),
        };
        kernels.run(EndsTask { middles, radii, relative, tiny, nearer, farther: ends });
    }
}

/// The ends of bounds.
struct EndsTask<'t> {
    middles: &'t [f64],
    radii: &'t [f64],
    /// What a radius has besides, by the size of the number, and in any case; a value without error is its own end.
    relative: f64,
    tiny: f64,
    nearer: &'t mut [f32],
    farther: &'t mut [f32],
}

impl CpuTask for EndsTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let numbers = self.middles.iter().zip(self.radii);
        for (((middle, radius), nearer), farther) in numbers.zip(self.nearer).zip(self.farther) {
            let more = radius * (1.0 + self.relative) + middle.abs() * self.relative + self.tiny;
            let radius = if *radius == 0.0 { 0.0 } else { more };
            let (low, high) = ((middle - radius) as f32, (middle + radius) as f32);
            let is_negative = *middle < 0.0;
            *nearer = if is_negative { high } else { low };
            *farther = if is_negative { low } else { high };
        }
    }
}
