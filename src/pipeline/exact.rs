//! Merging blocks whose ops all have a formula of sums and products: each element is evaluated in vectors with a bound of its
//! error, and where not all numbers within the bound round to one code, alone, and at last without any error.

use smallvec::SmallVec;

use crate::error::Result;
use crate::error::run::RunError;
use crate::kernels::exact::Number;
use crate::kernels::exact::ball::Ball;
use crate::kernels::exact::dyadic::Dyadic;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::fused::made::{Factors, MadeProduct};
use crate::kernels::fused::near::WORD;
use crate::ops::formula::{FormulaRows, PRODUCTS_MOST, Polynomial, Precise, Spot};
use crate::ops::op::Op;
use crate::ops::placement::Window;
use crate::schedule::budget::FORMULA_COLS;
use crate::schedule::region::{out_encoding, start_encoding};

use crate::pipeline::apply::{Piece, TileJob};
use crate::pipeline::factors::FactorViews;
use crate::pipeline::scratch::{Buffers, FormulaScratch, TileOp, WorkerScratch};

/// Which elements of a row are open, 64 to a word.
type OpenRow = [u64; FORMULA_COLS / WORD];

impl TileJob<'_> {
    /// Merges a block, and adds to the outcome.
    pub(crate) fn merge_exactly(
        &self,
        format: FloatFormat,
        (piece, is_measured): (&Piece, bool),
        data: &mut [u8],
        scratch: &mut WorkerScratch,
    ) -> Result<()> {
        let finite = self.decode_base(format, piece, data, &mut scratch.buffers)?;
        scratch.applied.clear();
        let sum = if is_measured { self.apply(piece, scratch) } else { None };
        let WorkerScratch { buffers, ops, singles, doubles, outcome, .. } = scratch;
        outcome.changed += match format.width {
            16 => self.evaluate(format, (piece, finite), data, (buffers, ops, singles))?,
            _ => self.evaluate(format, (piece, finite), data, (buffers, ops, doubles))?,
        };
        if is_measured {
            self.decode_codes(format, piece, data, &mut scratch.buffers);
            self.measure(piece, sum, self.is_cast(), scratch);
        }
        Ok(())
    }

    /// Decodes what a block starts from, and puts what the base would be where the output goes; true if all of it is finite.
    pub(crate) fn decode_base(
        &self,
        format: FloatFormat,
        piece: &Piece,
        data: &mut [u8],
        buffers: &mut Buffers,
    ) -> Result<bool> {
        let finite = self.decode_start(piece, data, &mut buffers.original[..piece.elements()])?;
        self.put_base(format, piece, data, buffers);
        Ok(finite)
    }

    /// Decodes the output of a block into its values.
    pub(crate) fn decode_codes(
        &self,
        format: FloatFormat,
        piece: &Piece,
        data: &[u8],
        buffers: &mut Buffers,
    ) {
        let values = buffers.values[..piece.elements()].chunks_exact_mut(piece.cols.len());
        for (row, values) in piece.rows.clone().zip(values) {
            let codes = &data[self.codes_of(format, row, piece)];
            out_encoding(self.merged.tensor).decode_flat(self.kernels, codes, values);
        }
    }

    /// Whether the output is of another type than what it starts from.
    pub(crate) fn is_cast(&self) -> bool {
        start_encoding(self.merged.start).name() != out_encoding(self.merged.tensor).name()
    }

    /// Where the codes of a row of a block lie.
    fn codes_of(&self, format: FloatFormat, row: usize, piece: &Piece) -> std::ops::Range<usize> {
        let (size, start) = (format.width as usize / 8, self.layout.out.start);
        let row = row * self.rect.width() as usize;
        start + (row + piece.cols.start) * size..start + (row + piece.cols.end) * size
    }

    /// Where the output is no change of the base's own bytes, puts there what the base would be: what changes is counted by it.
    fn put_base(&self, format: FloatFormat, piece: &Piece, data: &mut [u8], buffers: &mut Buffers) {
        if !self.is_cast() && self.layout.out.start == 0 {
            return;
        }
        let elements = piece.elements();
        let rounded = if self.is_cast() { &mut buffers.rounded } else { &mut buffers.values };
        rounded[..elements].copy_from_slice(&buffers.original[..elements]);
        for (row, values) in piece.rows.clone().zip(rounded[..elements].chunks_exact_mut(piece.cols.len())) {
            let codes = &mut data[self.codes_of(format, row, piece)];
            out_encoding(self.merged.tensor).round_flat(self.kernels, values, codes);
        }
    }

    /// Evaluates all formulas in order, puts the codes in place, and returns how many changed.
    fn evaluate<T: Precise>(
        &self,
        format: FloatFormat,
        (piece, finite): (&Piece, bool),
        data: &mut [u8],
        (buffers, ops, formulas): (&mut Buffers, &[TileOp], &mut FormulaScratch<T>),
    ) -> Result<u64> {
        let (width, original) = (piece.cols.len(), &buffers.original[..piece.elements()]);
        if self.kernels.has_vectors() {
            self.apply_formulas(piece, original, ops, formulas);
        }
        let mut changed = 0;
        for (i, row) in piece.rows.clone().enumerate() {
            let (of_row, original) = (i * width..(i + 1) * width, &original[i * width..][..width]);
            let (codes, mut open) = (&mut data[self.codes_of(format, row, piece)], OpenRow::default());
            let open = &mut open[..width.div_ceil(WORD)];
            let numbers = [&formulas.middles[of_row.clone()], &formulas.radii[of_row]];
            changed += T::round(self.kernels, format, numbers, codes, open);
            if !finite {
                for (col, _) in original.iter().enumerate().filter(|(_, value)| !value.is_finite()) {
                    open[col / WORD] |= 1 << (col % WORD);
                }
            }
            changed += self.settle(format, (piece, row), codes, open, (original, ops))?;
        }
        Ok(changed)
    }

    /// Applies the formulas of all ops to running values that begin as the original ones.
    fn apply_formulas<T: Precise>(
        &self,
        piece: &Piece,
        original: &[f32],
        ops: &[TileOp],
        formulas: &mut FormulaScratch<T>,
    ) {
        let (place, width) = (piece.place(self.rect), piece.cols.len());
        let FormulaScratch { middles, radii, products } = formulas;
        for (middle, value) in middles.iter_mut().zip(original) {
            *middle = T::of(*value);
        }
        radii[..original.len()].fill(T::default());
        for of in ops {
            let Some(window) = of.grid.window(&place) else { continue };
            let (op, factors) = (self.op(of), self.views(of));
            let formula = formula_of(op);
            each_extent(formula, &window, |window| {
                let pairs = formula.products(&factors, window);
                for (pair, scratch) in pairs.into_iter().zip(&mut *products) {
                    self.kernels.make_product(pair, scratch);
                }
                let made: SmallVec<[MadeProduct<'_, T>; PRODUCTS_MOST]> =
                    products.iter().map(|product| product.made()).collect();
                let rows = FormulaRows {
                    window,
                    factors: &factors,
                    products: &made,
                    scale: op.scale,
                    original,
                    middles,
                    radii,
                    width,
                };
                T::evaluate(formula, self.kernels, rows);
            });
        }
    }

    /// Evaluates again what is open in a row, one by one, and puts it in place. Returns how many codes changed.
    fn settle(
        &self,
        format: FloatFormat,
        (piece, row): (&Piece, usize),
        codes: &mut [u8],
        open: &mut [u64],
        (original, ops): (&[f32], &[TileOp]),
    ) -> Result<u64> {
        let (mut changed, size) = (0, format.width as usize / 8);
        for (word, bits) in open.iter_mut().enumerate() {
            while *bits != 0 {
                let col = word * WORD + bits.trailing_zeros() as usize;
                *bits &= *bits - 1;
                if let Some(value) = original.get(col) {
                    let new = self.settled(format, (row, piece.cols.start + col), *value, ops)?;
                    let code = &mut codes[col * size..][..size];
                    changed += u64::from(*code != new[..size]);
                    code.copy_from_slice(&new[..size]);
                }
            }
        }
        Ok(changed)
    }

    /// The code of one element. What is not finite in the base stays so.
    fn settled(
        &self,
        format: FloatFormat,
        at: (usize, usize),
        original: f32,
        ops: &[TileOp],
    ) -> Result<[u8; 4]> {
        if !original.is_finite() {
            let mut code = [0; 4];
            let encoding = out_encoding(self.merged.tensor);
            encoding.round_flat(self.kernels, &mut [original], &mut code[..format.width as usize / 8]);
            return Ok(code);
        }
        let near: Ball =
            self.element(at, original, ops, |formula, spot, running| formula.ball(spot, running));
        let code = near.round(format).unwrap_or_else(|| {
            let exact: Dyadic =
                self.element(at, original, ops, |formula, spot, running| formula.dyadic(spot, running));
            exact.round(format)
        });
        if !format.is_finite(code) {
            return Err(RunError::NonFiniteResult { tensor: self.merged.tensor.name.to_string() }.into());
        }
        Ok(code.to_le_bytes())
    }

    /// One element, by all formulas that fall on it, in order.
    fn element<N>(
        &self,
        (row, col): (usize, usize),
        original: f32,
        ops: &[TileOp],
        apply: impl Fn(&dyn Polynomial, &Spot<'_, N>, N) -> N,
    ) -> N
    where
        N: for<'p> Number<Cpu = (), Product<'p> = Factors<'p>>,
    {
        let place = Piece { rows: row..row + 1, cols: col..col + 1 }.place(self.rect);
        ops.iter().fold(N::of((), original), |running, of| {
            let Some(window) = of.grid.window(&place) else { return running };
            let (op, factors): (&Op, FactorViews<'_>) = (self.op(of), self.views(of));
            let formula = formula_of(op);
            let products = formula.products(&factors, &window);
            let spot = Spot {
                cpu: (),
                window: &window,
                factors: &factors,
                products: &products,
                offset: formula.offset(&window),
                scale: op.scale,
                original: &[original],
                row: 0,
                cols: 0..1,
            };
            apply(formula, &spot, running)
        })
    }
}

/// The formula of an op in a tensor that is merged by formulas.
fn formula_of(op: &Op) -> &dyn Polynomial {
    op.delta().polynomial().expect("all ops of the tensor have formulas")
}

/// Cuts a window into parts that a formula can be evaluated on.
fn each_extent(formula: &dyn Polynomial, window: &Window, mut each: impl FnMut(&Window)) {
    let [rows, cols] = [window.rows.len(), window.cols.len()];
    let mut top = 0;
    while top < rows {
        let (mut left, mut high) = (0, 1);
        while left < cols {
            let rest = window.part(top..rows, left..cols);
            let [down, along] = formula.extent(&rest);
            high = down;
            each(&rest.part(0..down, 0..along));
            left += along;
        }
        top += high;
    }
}
