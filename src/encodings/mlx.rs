//! MLX: codes in rows of words, with a scale for each group of columns, and in its affine mode a bias.
//!
//! ```text
//! P.weight  [.., N, K·b/32]  U32   a row is the stream of an output's codes
//! P.scales  [.., N, K/g]           BF16, F16 or F32 (affine); bytes: E8M0 (mxfp4, mxfp8), E4M3 (nvfp4)
//! P.biases  [.., N, K/g]           as the scales (affine)
//! affine        value = (f32(code) · scale) + bias
//! mxfp4, nvfp4  value = E2M1(code) · scale
//! mxfp8         value = E4M3(code) · scale                                  (quantized-bases.md 12)
//! ```
//!
//! MLX rounds the product and the sum to the type of the model; here both are f32, and the result is rounded once.
//!
//! New scales and biases are those of MLX's `quantize`. It makes affine codes with both before they are rounded to what is
//! stored, and of two codes of E2M1 that are as near it takes the one nearer to 0.

use crate::encodings::codes::{CodeFormat, E2M1, E4M3_MOST, nearest_whole, put};
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, ToEncode};
use crate::encodings::logical::{Candidate, Detected, Logical};
use crate::encodings::mlx_tensors::{MlxMode, MlxTensors};
use crate::encodings::number::{number, power_of, rounded, store};
use crate::encodings::requantize::{OffsetKind, Offsets, Outgrown, Requantizer, e4m3_for_e2m1};
use crate::encodings::scheme::{Auxiliary, Scheme};
use crate::encodings::window::{PartWindow, most_units, units};
use crate::encodings::words::{WORD, WORD_BYTES, field, most_words, word, words_of};
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::kernels::float8::{E4M3, ceil_log2};
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;

/// One of MLX's modes.
pub(crate) struct Mlx(MlxMode);

/// Whole numbers with a scale and a bias.
pub(crate) static AFFINE: Mlx =
    Mlx(MlxMode { name: "mlx_affine", mode: "affine", codes: None, scales: None, fresh: affine_scale });
/// Floats of 4 bits whose scales are powers of two.
pub(crate) static MXFP4: Mlx = Mlx(MlxMode {
    name: "mlx_mxfp4",
    mode: "mxfp4",
    codes: Some(&E2M1),
    scales: Some(Dtype::F8_E8M0),
    fresh: |of| power_for(of.largest / E2M1_MOST),
});
/// Floats of 8 bits whose scales are powers of two.
pub(crate) static MXFP8: Mlx = Mlx(MlxMode {
    name: "mlx_mxfp8",
    mode: "mxfp8",
    codes: Some(&E4M3),
    scales: Some(Dtype::F8_E8M0),
    fresh: |of| power_for(of.largest / E4M3_MOST),
});
/// Floats of 4 bits whose scales are floats of 8.
pub(crate) static NVFP4: Mlx = Mlx(MlxMode {
    name: "mlx_nvfp4",
    mode: "nvfp4",
    codes: Some(&E2M1),
    scales: Some(Dtype::F8_E4M3),
    fresh: |of| e4m3_for_e2m1(of.largest / E2M1_MOST),
});

static SCHEME: Scheme = Scheme {
    title: "MLX",
    dtypes: &[Dtype::U32],
    auxiliary: &[
        Auxiliary { ending: ".scales", data: &[".weight"] },
        Auxiliary { ending: ".biases", data: &[".weight"] },
    ],
    ..Scheme::NONE
};

const CODES: usize = 0;
const SCALES: usize = 1;
const BIASES: usize = 2;

impl Encoding for Mlx {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&SCHEME)
    }

    fn name(&self) -> &'static str {
        self.0.name
    }

    fn detect(&self, found: &Candidate<'_>) -> Result<Option<Detected>> {
        MlxTensors::detect(found, &self.0)
    }

    fn block_shape(&self, logical: &Logical) -> (u64, u64) {
        logical.block()
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        MlxTile::of(place).window(part).runs()
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        let tile = MlxTile::of(place);
        let (high, wide) = (place.rect.height(), place.rect.width());
        match part {
            CODES => high * most_words(wide, tile.bits, tile.codes.cols_in_all) * WORD_BYTES,
            _ => high * most_units(wide, tile.group, tile.scales.cols_in_all) * tile.scales.size,
        }
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let tile = MlxTile::of(place);
        let (codes, rest) = parts.split_at(tile.codes.bytes());
        let (scales, biases) = rest.split_at(tile.scales.bytes());
        let row = place.rect.rows.start + at.row as u64;
        let first = place.rect.cols.start + at.cols.start as u64;
        let dtype = self.0.scales.unwrap_or(tile.scale_dtype);
        let (mut finite, mut done) = (true, 0);
        while done < out.len() {
            let start = first + done as u64;
            let group = start / tile.group;
            let end = ((group + 1) * tile.group - first).min(out.len() as u64) as usize;
            let scale = number(dtype, scales, tile.scales.at(row, group));
            let code = |col| field(col, tile.bits, |at| word(codes, tile.codes.at(row, at)));
            let values = out[done..end].iter_mut().zip(start..);
            match self.0.codes {
                Some(table) => values.for_each(|(out, col)| *out = table[code(col) as usize] * scale),
                None => {
                    let bias = number(dtype, biases, tile.scales.at(row, group));
                    finite &= bias.is_finite();
                    values.for_each(|(out, col)| *out = code(col) as f32 * scale + bias);
                }
            }
            finite &= scale.is_finite() && out[done..end].iter().all(|value| value.is_finite());
            done = end;
        }
        finite
    }

    fn encode(&self, kernels: Kernels, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let (place, source, is_fresh) = (block.place, block.source, block.fresh);
        let tile = MlxTile::of(place);
        let top = place.rect.rows.start;
        let narrow = |bytes: &mut [u8], at: &RowPiece, values: &mut [f32]| {
            if tile.bits == 8 && self.0.codes.is_some() {
                return CodeFormat::E4m3.narrow(kernels, bytes, place, at, values);
            }
            for (value, col) in values.iter_mut().zip(at.cols.clone()) {
                let code = match self.0.codes {
                    Some(table) => nearest_float(table, *value, is_fresh),
                    None => nearest_whole(value.clamp(0.0, tile.most())) as usize,
                };
                put(bytes, tile.bit_of(at.row, col), tile.bits as u32, code as u16);
                *value = self.0.codes.map_or(code as f32, |table| table[code]);
            }
            true
        };
        let range = match self.0.codes {
            None => (-0.5, tile.most() + 0.5),
            Some(_) if tile.bits == 8 => CodeFormat::E4m3.range(false),
            Some(_) => CodeFormat::E2m1.range(false),
        };
        let biases = source.get(tile.codes.bytes() + tile.scales.bytes()..).unwrap_or_default();
        let read = |row, group| number(tile.scale_dtype, biases, tile.scales.at(row, group));
        let write = |bytes: &mut [u8], row, group, bias| {
            let (at, size) = (tile.scales.at(row, group), tile.scales.size as usize);
            store(tile.scale_dtype, &mut bytes[at * size..][..size], bias);
        };
        let fresh = |of: &Outgrown, scale| {
            let bias = affine_bias(of, scale);
            (bias, rounded(tile.scale_dtype, bias))
        };
        let code = |row: usize, col: usize| {
            let col = place.rect.cols.start + col as u64;
            field(col, tile.bits, |at| word(source, tile.codes.at(top + row as u64, at))) as f32
        };
        let (read, write, fresh) = (&read, &write, &fresh);
        let offsets = Offsets { part: BIASES, read, write, fresh, kind: OffsetKind::Bias(&code) };
        let (fresh, scales) = (Some(self.0.fresh), self.0.scales);
        let shared = Requantizer::new(tile.codes.bytes() as u64, range, &narrow);
        let may_vanish = scales == Some(Dtype::F8_E4M3);
        let offsets = self.0.codes.is_none().then_some(offsets);
        Requantizer { fresh, scales, may_vanish, number: tile.most(), offsets, ..shared }.encode(block, bytes)
    }
}

/// The largest value of E2M1.
const E2M1_MOST: f32 = 6.0;

/// The least power of two that is not below a quotient. A group of zeros has 1.
fn power_for(quotient: f32) -> f32 {
    ceil_log2(quotient).map_or(1.0, |exponent| power_of((exponent.clamp(-127, 127) + 127) as u8))
}

/// The code of the value of a table of floats that is nearest to a number, of two that are as near the one nearer to 0. Zeros are
/// code 0, but for one that stays with the sign that it has.
fn nearest_float(table: &[f32], number: f32, is_fresh: bool) -> usize {
    let (half, magnitude) = (table.len() / 2, number.abs());
    let limits = table[..half].windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
    let code = limits.filter(|limit| *limit < magnitude).count();
    let is_negative = number.is_sign_negative() && (code > 0 || number == 0.0 && !is_fresh);
    if is_negative { code + half } else { code }
}

/// The end of a group of larger magnitude, of two that are as large the upper.
fn edge(of: &Outgrown) -> f32 {
    let (least, most) = of.ends;
    if least.abs() > most.abs() { least } else { most }
}

/// MLX's rule: steps go from the end of larger magnitude towards the other, and are as long that one of them is 0.
fn affine_scale(of: &Outgrown) -> f32 {
    let (least, most) = of.ends;
    let step = ((most - least) / of.number).max(1e-7);
    let step = if least.abs() > most.abs() { step } else { -step };
    let steps = (edge(of) / step).round_ties_even();
    if steps == 0.0 { step } else { edge(of) / steps }
}

/// The end where they begin, or 0 where it is less than half a step from there.
fn affine_bias(of: &Outgrown, step: f32) -> f32 {
    if (edge(of) / step).round_ties_even() == 0.0 { 0.0 } else { edge(of) }
}

/// What a tile needs of each part.
struct MlxTile {
    bits: u64,
    /// Columns of a group.
    group: u64,
    codes: PartWindow,
    /// Biases lie as scales do.
    scales: PartWindow,
    scale_dtype: Dtype,
}

impl MlxTile {
    fn of(place: Place<'_>) -> MlxTile {
        let Place { logical, view, rect, .. } = place;
        let (bits, group) = (logical.constants()[0] as u64, logical.block().1);
        let scale_dtype = logical.parts()[SCALES].dtype;
        let rows = rect.rows.clone();
        MlxTile {
            bits,
            group,
            codes: PartWindow {
                rows: rows.clone(),
                cols: words_of(&rect.cols, bits),
                cols_in_all: words_of(&(0..view.cols), bits).end,
                size: WORD_BYTES,
            },
            scales: PartWindow {
                rows,
                cols: units(&rect.cols, group),
                cols_in_all: view.cols / group,
                size: scale_dtype.bitsize() as u64 / 8,
            },
            scale_dtype,
        }
    }

    /// The largest code of whole numbers.
    fn most(&self) -> f32 {
        ((1 << self.bits) - 1) as f32
    }

    /// Where the code of a row and a column, both from the tile's first on, begins in its bytes. The tile begins with a word.
    fn bit_of(&self, row: usize, col: usize) -> usize {
        row * (self.codes.width() * WORD) as usize + col * self.bits as usize
    }

    fn window(&self, part: usize) -> &PartWindow {
        match part {
            CODES => &self.codes,
            SCALES | BIASES => &self.scales,
            _ => unreachable!("it was detected with three parts at the most"),
        }
    }
}
