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
//! Decoding only: at few bits hardly any of a delta would survive the rounding.

use crate::encodings::codes::E2M1;
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs};
use crate::encodings::logical::{Candidate, Detected, Logical};
use crate::encodings::mlx_tensors::{MlxMode, MlxTensors};
use crate::encodings::number::number;
use crate::encodings::scheme::{Auxiliary, Scheme};
use crate::encodings::window::{PartWindow, most_units, units};
use crate::encodings::words::{WORD_BYTES, field, most_words, word, words_of};
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::kernels::float8::E4M3;
use crate::tensor::dtype::Dtype;

/// One of MLX's modes.
pub(crate) struct Mlx(MlxMode);

/// Whole numbers with a scale and a bias.
pub(crate) static AFFINE: Mlx =
    Mlx(MlxMode { name: "mlx_affine", mode: "affine", codes: None, scales: None });
/// Floats of 4 bits whose scales are powers of two.
pub(crate) static MXFP4: Mlx =
    Mlx(MlxMode { name: "mlx_mxfp4", mode: "mxfp4", codes: Some(&E2M1), scales: Some(Dtype::F8_E8M0) });
/// Floats of 8 bits whose scales are powers of two.
pub(crate) static MXFP8: Mlx =
    Mlx(MlxMode { name: "mlx_mxfp8", mode: "mxfp8", codes: Some(&E4M3), scales: Some(Dtype::F8_E8M0) });
/// Floats of 4 bits whose scales are floats of 8.
pub(crate) static NVFP4: Mlx =
    Mlx(MlxMode { name: "mlx_nvfp4", mode: "nvfp4", codes: Some(&E2M1), scales: Some(Dtype::F8_E4M3) });

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

    fn decode_only(&self, _: &Logical) -> Option<&'static str> {
        Some("MLX is not encoded again: most of a delta is smaller than half a step between its codes")
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
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

    fn window(&self, part: usize) -> &PartWindow {
        match part {
            CODES => &self.codes,
            SCALES | BIASES => &self.scales,
            _ => unreachable!("it was detected with three parts at the most"),
        }
    }
}
