//! Numbers of the formulas against exact sums: what rounds exactly, and bounds that hold.

use crate::kernels::dispatch::{Kernels, Precision};
use crate::kernels::exact::Number;
use crate::kernels::exact::ball::Ball;
use crate::kernels::exact::dyadic::Dyadic;
use crate::kernels::exact::float_format::FloatFormat;
use crate::kernels::exact::lanes::{LANES_MOST, Lanes};
use crate::kernels::fused::made::{Factors, MadeProduct, ProductScratch};
use crate::kernels::fused::vector::{CpuProof, FormulaVector, Real};
use crate::kernels::product::Matrix;
use crate::kernels::task::VectorTask;
use crate::kernels::tests::Bits;
use crate::kernels::tests::fused::assert_rounded;
use crate::kernels::tests::rational::Rational;

const FORMATS: [FloatFormat; 3] = [FloatFormat::BF16, FloatFormat::F16, FloatFormat::F32];
/// Terms of a sum.
const RANK: usize = 5;
/// Columns: more than one word of open ones, and no whole number of vectors.
const WIDE: usize = 67;

/// Formulas of the kinds that deltas have.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// W + s·(B·A)
    Added,
    /// W + W·s·(B·A)
    Share,
    /// W + s·(B·A)·(C·D)
    Hadamard,
    /// W·l, where l is a value of D
    Scaled,
    /// D in place of W
    Replaced,
}

const KINDS: [Kind; 5] = [Kind::Added, Kind::Share, Kind::Hadamard, Kind::Scaled, Kind::Replaced];

/// Bases, a scale, and two times two factors: `left [1, RANK]`, `right [RANK, WIDE]`.
#[derive(Clone)]
struct Sample {
    bases: Vec<f32>,
    scale: f32,
    lefts: [Vec<f32>; 2],
    rights: [Vec<f32>; 2],
}

impl Sample {
    fn factors(&self) -> [Factors<'_>; 2] {
        [0, 1].map(|i| Factors {
            left: Matrix::row_major(&self.lefts[i], 1, RANK),
            right: Matrix::row_major(&self.rights[i], RANK, WIDE),
        })
    }

    fn value<N: Number>(
        &self,
        kind: Kind,
        cpu: N::Cpu,
        products: [N::Product<'_>; 2],
        cols: std::ops::Range<usize>,
    ) -> N {
        let base = N::load(cpu, &self.bases[cols.start..], 1, cols.len());
        let product = |i: usize| N::product(cpu, products[i], 0, cols.clone());
        let vector = || N::gather(cpu, cols.len(), |lane| self.rights[1][cols.start + lane]);
        match kind {
            Kind::Added => base.plus(&product(0).scaled(self.scale)),
            Kind::Share => base.clone().plus(&product(0).scaled(self.scale).times(&base)),
            Kind::Hadamard => base.plus(&product(0).times(&product(1)).scaled(self.scale)),
            Kind::Scaled => base.times(&vector()),
            Kind::Replaced => vector(),
        }
    }

    fn exact(&self, kind: Kind, col: usize) -> Rational {
        let (base, scale) = (self.bases[col], self.scale);
        let term = |i: usize, k: usize| [self.lefts[i][k], self.rights[i][k * WIDE + col]];
        let mut sum = Rational::of(if let Kind::Scaled | Kind::Replaced = kind { 0.0 } else { base });
        match kind {
            Kind::Scaled => sum.add_product(&[base, self.rights[1][col]]),
            Kind::Replaced => sum.add_product(&[self.rights[1][col]]),
            _ => {}
        }
        for [b, a] in (0..RANK).map(|k| term(0, k)) {
            match kind {
                Kind::Added => sum.add_product(&[b, a, scale]),
                Kind::Share => sum.add_product(&[b, a, scale, base]),
                Kind::Hadamard => {
                    for [d, c] in (0..RANK).map(|k| term(1, k)) {
                        sum.add_product(&[b, a, c, d, scale]);
                    }
                }
                Kind::Scaled | Kind::Replaced => {}
            }
        }
        sum
    }

    /// Holds what is exact to exact sums, and all else to that.
    fn check(&self) {
        for kind in KINDS {
            for (col, exact) in (0..WIDE).map(|col| (col, self.exact(kind, col))) {
                let dyadic: Dyadic = self.value(kind, (), self.factors(), col..col + 1);
                let ball: Ball = self.value(kind, (), self.factors(), col..col + 1);
                for format in FORMATS {
                    let code = dyadic.round(format);
                    // Of what is stored a zero keeps its sign.
                    if !matches!(kind, Kind::Replaced) || !exact.is_zero() {
                        assert_rounded(format, &exact, code);
                        assert!(
                            ball.round(format).is_none_or(|rounded| rounded == code),
                            "{ball:?} {format:?}"
                        );
                    }
                }
            }
            for kernels in Kernels::available().into_iter().filter(|kernels| kernels.has_vectors()) {
                self.check_lanes::<f32>(kernels, kind, &FORMATS[..2]);
                self.check_lanes::<f64>(kernels, kind, &FORMATS[2..]);
            }
        }
    }

    /// Holds numbers in vectors to be off by no more than they say, and what they are rounded to, to be right.
    fn check_lanes<T: Precision>(&self, kernels: Kernels, kind: Kind, formats: &[FloatFormat]) {
        let mut scratch = [0, 1].map(|_| ProductScratch::new(RANK, 1, WIDE));
        for (factors, scratch) in self.factors().into_iter().zip(&mut scratch) {
            kernels.make_product(factors, scratch);
        }
        let products = [scratch[0].made(), scratch[1].made()];
        let (mut middles, mut radii) = ([T::default(); WIDE], [T::default(); WIDE]);
        T::run(kernels, Task { sample: self, kind, products, middles: &mut middles, radii: &mut radii });
        for (col, (middle, radius)) in middles.iter().zip(&radii).enumerate() {
            let (middle, radius) = (middle.double(), radius.double());
            if middle.is_finite() && radius.is_finite() {
                let mut error = self.exact(kind, col);
                error.add_f64(-middle);
                let error = if error.is_positive() { error } else { error.negated() };
                let is_within = error.compare(&Rational::of_f64(radius)).is_le();
                assert!(is_within, "{kind:?} {col}: {middle:e} ± {radius:e} in {}", kernels.name());
            }
        }
        for &format in formats {
            let width = format.width as usize / 8;
            let (mut codes, mut open) = (vec![0x5a_u8; WIDE * width], [0; WIDE.div_ceil(64)]);
            let changed = T::round(kernels, format, [&middles, &radii], &mut codes, &mut open);
            let mut settled = 0;
            for (col, code) in codes.chunks_exact(width).enumerate() {
                let code = code.iter().rev().fold(0, |code, byte| code << 8 | u32::from(*byte));
                if open[col / 64] >> (col % 64) & 1 == 1 {
                    assert_eq!(code, 0x5a5a_5a5a >> (32 - format.width), "an open code stays");
                } else {
                    let exact: Dyadic = self.value(kind, (), self.factors(), col..col + 1);
                    let zero = exact.round(format) == 0 && code == format.sign();
                    let is_kept = matches!(kind, Kind::Replaced) && zero;
                    assert!(
                        is_kept || code == exact.round(format),
                        "{kind:?} {col} {format:?} {}",
                        kernels.name()
                    );
                    settled += 1;
                }
            }
            assert_eq!(changed, settled, "all codes differ from the former");
        }
    }
}

/// A sample to be evaluated in vectors.
struct Task<'t, T> {
    sample: &'t Sample,
    kind: Kind,
    products: [MadeProduct<'t, T>; 2],
    middles: &'t mut [T; WIDE],
    radii: &'t mut [T; WIDE],
}

impl<T: Real> VectorTask<T> for Task<'_, T> {
    #[inline(always)]
    fn run<V: FormulaVector<Value = T>>(self, cpu: CpuProof<V>) {
        for first in (0..WIDE).step_by(V::LANES) {
            let count = V::LANES.min(WIDE - first);
            let cols = first..first + count;
            let lanes: Lanes<V> = self.sample.value(self.kind, cpu, self.products, cols.clone());
            let (mut middles, mut radii) = ([T::default(); LANES_MOST], [T::default(); LANES_MOST]);
            lanes.write(&mut middles, &mut radii);
            self.middles[cols.clone()].copy_from_slice(&middles[..count]);
            self.radii[cols].copy_from_slice(&radii[..count]);
        }
    }
}

fn sample(stream: &mut Bits, value: impl Fn(&mut Bits) -> f32) -> Sample {
    let mut values = |count: usize| (0..count).map(|_| value(stream)).collect::<Vec<f32>>();
    Sample {
        bases: values(WIDE),
        scale: values(1)[0],
        lefts: [values(RANK), values(RANK)],
        rights: [values(RANK * WIDE), values(RANK * WIDE)],
    }
}

fn any(stream: &mut Bits) -> f32 {
    loop {
        let value = f32::from_bits(stream.next() as u32);
        if value.is_finite() {
            return value;
        }
    }
}

/// Weights of a model and a small delta, as most are: few may be left open.
fn usual(stream: &mut Bits) -> Sample {
    let mut values = |count: usize, size: f32| -> Vec<f32> {
        (0..count).map(|_| ((stream.next() >> 40) as f32 / (1 << 24) as f32 - 0.5) * size).collect()
    };
    let bases = values(WIDE, 0.1).iter().map(|value| half::bf16::from_f32(*value).to_f32()).collect();
    let lefts = [values(RANK, 0.02), values(RANK, 0.02)];
    Sample { bases, scale: 2.0, lefts, rights: [values(RANK * WIDE, 0.04), values(RANK * WIDE, 0.04)] }
}

#[test]
fn sums_are_rounded_right_and_bounds_hold() {
    let mut stream = Bits(21);
    for _ in 0..4 {
        usual(&mut stream).check();
        sample(&mut stream, Bits::value).check();
        sample(&mut stream, any).check();
    }
}

#[test]
fn huge_and_tiny_scales_are_rounded_right() {
    let mut stream = Bits(25);
    for scale in [0.0, f32::from_bits(1), 1.0e-44, 3.0e-38, 1.0e-20, 1.0e20, 3.0e38, -f32::MAX] {
        let mut made = sample(&mut stream, Bits::value);
        made.scale = scale;
        made.check();
        // Bases that are subnormal, in f32 and in each format, or zeros of either sign.
        for (i, base) in made.bases.iter_mut().enumerate() {
            *base = match i % 5 {
                0 => f32::from_bits((stream.next() % 200) as u32),
                1 => f32::from_bits((i as u32) << 15 | 0x8000_0000),
                2 => i as f32 * 2.0_f32.powi(-25),
                3 => 0.0,
                _ => -0.0,
            };
        }
        made.check();
    }
}

/// Products whose terms are zero: all that is exactly zero has no bound.
#[test]
fn zeros_are_exact() {
    let mut made = sample(&mut Bits(26), Bits::value);
    for zero in [0.0, -0.0] {
        for col in 0..WIDE {
            for k in 0..RANK {
                made.rights[col % 2][k * WIDE + col] = zero;
            }
            made.bases[col] = if col % 3 == 0 { zero } else { 0.5 };
        }
        made.check();
    }
}

#[test]
fn usual_weights_leave_few_open() {
    let made = usual(&mut Bits(27));
    for kernels in Kernels::available().into_iter().filter(|kernels| kernels.has_vectors()) {
        let mut scratch = [0, 1].map(|_| ProductScratch::<f32>::new(RANK, 1, WIDE));
        for (factors, scratch) in made.factors().into_iter().zip(&mut scratch) {
            kernels.make_product(factors, scratch);
        }
        let products = [scratch[0].made(), scratch[1].made()];
        for kind in [Kind::Added, Kind::Share, Kind::Hadamard] {
            let (mut middles, mut radii) = ([0.0; WIDE], [0.0; WIDE]);
            let task = Task { sample: &made, kind, products, middles: &mut middles, radii: &mut radii };
            f32::run(kernels, task);
            let (mut codes, mut open) = ([0; 2 * WIDE], [0_u64; WIDE.div_ceil(64)]);
            <f32 as Precision>::round(kernels, FloatFormat::BF16, [&middles, &radii], &mut codes, &mut open);
            let count: u32 = open.iter().map(|word| word.count_ones()).sum();
            assert!(count <= 1, "{kind:?}: {count} of {WIDE} are open");
        }
    }
}

/// A product whose rows are one row, and whose columns are one column.
#[test]
fn one_value_stands_for_all() {
    let made = usual(&mut Bits(29));
    let [Factors { left, right }, _] = made.factors();
    let one = Factors {
        left: Matrix { rows: 9, row_stride: 0, ..left },
        right: Matrix { cols: 300, col_stride: 0, ..right },
    };
    for kernels in Kernels::available().into_iter().filter(|kernels| kernels.has_vectors()) {
        let mut scratch = [0, 1].map(|_| ProductScratch::<f64>::new(RANK, 9, 300));
        kernels.make_product(Factors { left, right }, &mut scratch[0]);
        kernels.make_product(one, &mut scratch[1]);
        let (first, one) = (scratch[0].made(), scratch[1].made());
        let (values, row, cols) = first.row(0, 0).expect("it has rows");
        assert!(one.row(8, 299).is_none(), "it has none");
        assert_eq!(one.one_value(), [values[0], row, cols[0]]);
    }
}

/// A base that takes the rest of the sum away, all of it or all but the smallest of its terms.
#[test]
fn cancellation_is_exact() {
    let mut stream = Bits(22);
    for tiny in [0.0, f32::from_bits(1), -2.0_f32.powi(-100)] {
        let mut made = sample(&mut stream, Bits::value);
        for col in 0..WIDE {
            let right = &mut made.rights[0];
            right[WIDE + col] = -right[col];
            right[2 * WIDE + col] = -made.bases[col];
            right[3 * WIDE + col] = tiny;
            right[4 * WIDE + col] = 0.0;
        }
        made.lefts[0] = vec![0.7, 0.7, 1.0, 1.0, 1.0];
        made.scale = 1.0;
        made.check();
        let value: Dyadic = made.value(Kind::Added, (), made.factors(), 0..1);
        assert_eq!(value.round(FloatFormat::F32), tiny.to_bits(), "what is left is the tiny term");
    }
}

/// Results that lie on ties of each format, and 2⁻¹⁰⁰ beside them.
#[test]
fn ties_are_settled_or_left_open() {
    for format in FORMATS {
        let half = 2.0_f32.powi(-(format.precision as i32));
        for beside in [0.0, 2.0_f32.powi(-100), -2.0_f32.powi(-100)] {
            let mut made = sample(&mut Bits(28), |_| 0.0);
            made.scale = 1.0;
            for col in 0..WIDE {
                made.bases[col] = 1.0 + (col / 2) as f32 * 2.0 * half;
                made.rights[0][col] = if col % 2 == 0 { half } else { -half };
                made.rights[0][WIDE + col] = beside;
                // What is replaced or multiplied lies on a tie too, of subnormal codes as well.
                made.rights[1][col] = match col % 3 {
                    0 => 1.0 + half,
                    1 => 1.0 + 3.0 * half,
                    _ => f32::from_bits(0x8000 * (1 + 2 * col as u32)),
                };
            }
            made.lefts[0][..2].fill(1.0);
            made.check();
        }
    }
}

/// Ties of each format, and what lies a little beside them.
#[test]
fn ties_go_to_even() {
    for format in FORMATS {
        let half = 2.0_f32.powi(-(format.precision as i32));
        for (steps, expected) in [(1.0, 0), (3.0, 2)] {
            for (beside, more) in [
                (0.0, 0),
                (2.0_f32.powi(-100), i64::from(steps < 2.0)),
                (-2.0_f32.powi(-100), -i64::from(steps > 2.0)),
            ] {
                let delta = Dyadic::of((), steps * half).plus(&Dyadic::of((), beside));
                let one = Dyadic::of((), 1.0).round(format);
                let code = Dyadic::of((), 1.0).plus(&delta).round(format);
                assert_eq!(i64::from(code) - i64::from(one), expected + more, "{format:?} {steps} {beside}");
                assert_eq!(
                    Dyadic::of((), -1.0).plus(&delta.times(&Dyadic::of((), -1.0))).round(format),
                    code | format.sign()
                );
            }
        }
    }
}

#[test]
fn an_f64_is_rounded_as_a_dyadic_is() {
    let mut stream = Bits(23);
    for format in FORMATS {
        for _ in 0..4000 {
            let [a, b] = [0, 0].map(|_| f32::from_bits(stream.next() as u32));
            if a.is_finite() && b.is_finite() {
                let product = Dyadic::of((), a).times(&Dyadic::of((), b));
                let rounded = format.round(f64::from(a) * f64::from(b));
                // A product of zero has a sign in f64.
                let zero =
                    if a * b == 0.0 && (a == 0.0 || b == 0.0) { rounded } else { product.round(format) };
                assert_eq!(rounded, zero, "{a} {b} {format:?}");
            }
        }
        for code in (0..format.infinity()).step_by(97) {
            assert_eq!(format.round(f64::from(format.value(code))), code, "{format:?}");
        }
    }
}
