//! AWQ: codes of 4 bits with a scale and a zero point for each group of inputs, in the two layouts of AutoAWQ.
//!
//! ```text
//! gemm   P.qweight [K, N/8]   a word holds the codes of eight outputs, those at 0, 2, 4, 6, 1, 3, 5, 7 from its low bits on
//!        P.qzeros  [G, N/8]   alike
//!        P.scales  [G, N]     F16
//! gemv   P.qweight [N, K/8]   a word holds the codes of eight inputs in order
//!        P.qzeros  [N, W]     a row is the stream of an output's zero points; the first G count
//!        P.scales  [N, 8·W]   alike
//! value = f32(code − zero point) · scale                            (quantized-bases.md 10)
//! ```
//!
//! AWQ multiplies inputs by factors that it folds into the layers before, so that its weights stand in another basis than those of
//! the model it was made from: only an adapter that was trained on such a checkpoint fits it.
//!
//! Encoded again with the scales and zero points that are there, the layout `gemm` in the order of its bytes
//! ([`codes_across`](crate::encodings::codes_across)).

use crate::encodings::awq_tensors::{Along, AwqLayout, AwqTensors, IN_WORD, METHOD};
use crate::encodings::codes_across::{CodesAcross, nearest_code};
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, ToEncode, WrittenOrder};
use crate::encodings::logical::{Candidate, Detected, Logical};
use crate::encodings::number::number;
use crate::encodings::scheme::{Auxiliary, Scheme};
use crate::encodings::window::{PartWindow, most_units, units};
use crate::encodings::words::{WORD_BYTES, word};
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;

/// AWQ in one of its layouts.
pub(crate) struct Awq(AwqLayout);

/// A stored row for each input.
pub(crate) static GEMM: Awq = Awq(AwqLayout { name: "awq_gemm", version: "gemm", along: Along::Outputs });
/// A stored row for each output.
pub(crate) static GEMV: Awq = Awq(AwqLayout { name: "awq_gemv", version: "gemv", along: Along::Inputs });

/// The first as it is stored.
pub(crate) static GEMM_ACROSS: CodesAcross = CodesAcross {
    name: "awq_gemm_across",
    scheme: &SCHEME,
    bits: BITS as u64,
    along_outputs: Some(&FIELD),
    kept_scales: KEPT_SCALES,
};

const KEPT_SCALES: &str =
    "AWQ makes scales from inputs that it sees, which no file holds: they stay as they are";

static SCHEME: Scheme = Scheme {
    title: "AWQ",
    methods: &[METHOD],
    // The layout `gemv_fast`, which is not read, has words of 16 bits.
    dtypes: &[Dtype::I32, Dtype::I16],
    is_turned: true,
    data: QWEIGHT,
    auxiliary: &[
        Auxiliary { ending: ".qzeros", data: QWEIGHT },
        Auxiliary { ending: ".scales", data: QWEIGHT },
    ],
    plain_lists: &["modules_to_not_convert"],
    side_files: &["quant_config.json"],
    builds: &["-awq"],
    ..Scheme::NONE
};

/// What the data is called in the place of `.weight`.
const QWEIGHT: &[&str] = &[".qweight"];

const CODES: usize = 0;
const SCALES: usize = 1;
/// Bits of a code, and the largest.
const BITS: u32 = 4;
const MOST: u32 = 15;
/// Which of a word's fields each of eight outputs is in.
const FIELD: [u32; IN_WORD as usize] = [0, 4, 1, 5, 2, 6, 3, 7];

impl Encoding for Awq {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&SCHEME)
    }

    fn name(&self) -> &'static str {
        self.0.name
    }

    fn detect(&self, found: &Candidate<'_>) -> Result<Option<Detected>> {
        AwqTensors::detect(found, &self.0)
    }

    fn across(&self, logical: &Logical) -> Option<(WrittenOrder, Logical)> {
        matches!(self.0.along, Along::Outputs).then(|| GEMM_ACROSS.of(logical)).flatten()
    }

    fn keeps_scales(&self, _: &Logical) -> Option<&'static str> {
        Some(KEPT_SCALES)
    }

    fn is_kept(&self, _: &Logical, part: usize) -> bool {
        part != CODES
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        match self.0.along {
            Along::Outputs => (1, 1),
            Along::Inputs => (1, IN_WORD),
        }
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        AwqTile::of(self.0.along, place).window(part).runs()
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        let tile = AwqTile::of(self.0.along, place);
        let (high, wide) = (place.rect.height(), place.rect.width());
        let words_in_all = |window: &PartWindow| window.cols_in_all;
        let groups = most_units(wide, tile.group, tile.groups_in_all);
        match (part, self.0.along) {
            (CODES, Along::Outputs) => {
                wide * most_units(high, IN_WORD, words_in_all(&tile.codes)) * WORD_BYTES
            }
            (CODES, Along::Inputs) => {
                high * most_units(wide, IN_WORD, words_in_all(&tile.codes)) * WORD_BYTES
            }
            (SCALES, _) => groups * high * tile.scales.size,
            (_, Along::Outputs) => groups * most_units(high, IN_WORD, words_in_all(&tile.zeros)) * WORD_BYTES,
            (_, Along::Inputs) => high * most_units(groups, IN_WORD, words_in_all(&tile.zeros)) * WORD_BYTES,
        }
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let tile = AwqTile::of(self.0.along, place);
        let (codes, rest) = parts.split_at(tile.codes.bytes());
        let (scales, zeros) = rest.split_at(tile.scales.bytes());
        let output = place.rect.rows.start + at.row as u64;
        let first = place.rect.cols.start + at.cols.start as u64;
        let (mut finite, mut done) = (true, 0);
        while done < out.len() {
            let start = first + done as u64;
            let group = start / tile.group;
            let end =
                (((group + 1) * tile.group).min(place.view.cols) - first).min(out.len() as u64) as usize;
            let scale = number(tile.scale_dtype, scales, tile.scales_at(output, group));
            let zero = tile.field(zeros, &tile.zeros, output, group);
            let values = out[done..end].iter_mut().zip(start..);
            match self.0.along {
                Along::Outputs => {
                    let (mut at, width) =
                        (tile.codes.at(start, output / IN_WORD), tile.codes.width() as usize);
                    let shift = BITS * FIELD[(output % IN_WORD) as usize];
                    values.for_each(|(out, _)| {
                        *out = ((word(codes, at) >> shift & 15) as i32 - zero) as f32 * scale;
                        at += width;
                    });
                }
                Along::Inputs => values.for_each(|(out, input)| {
                    *out = (tile.field(codes, &tile.codes, output, input) - zero) as f32 * scale;
                }),
            }
            finite &= scale.is_finite();
            done = end;
        }
        finite
    }

    fn encode(&self, _: Kernels, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let (place, width) = (block.place, block.cols.len());
        let tile = AwqTile::of(self.0.along, place);
        let (_, rest) = block.source.split_at(tile.codes.bytes());
        let (scales, zeros) = rest.split_at(tile.scales.bytes());
        let mut finite = true;
        for (row, values) in block.rows.clone().zip(block.values.chunks_mut(width)) {
            let output = place.rect.rows.start + row as u64;
            let first = place.rect.cols.start + block.cols.start as u64;
            for (values, first) in
                values.chunks_mut(IN_WORD as usize).zip((first..).step_by(IN_WORD as usize))
            {
                let group = first / tile.group;
                let scale = number(tile.scale_dtype, scales, tile.scales_at(output, group));
                let zero = tile.field(zeros, &tile.zeros, output, group);
                let mut all = 0;
                for (value, field) in values.iter_mut().zip(0..) {
                    finite &= value.is_finite();
                    let code = nearest_code(*value, scale, zero, MOST);
                    *value = (code as i32 - zero) as f32 * scale;
                    all |= code << (BITS * field);
                }
                bytes.as_chunks_mut::<4>().0[tile.codes.at(output, first / IN_WORD)] = all.to_le_bytes();
            }
        }
        Narrowed { finite, changed: 0 }
    }
}

/// What a tile needs of each part.
struct AwqTile {
    along: Along,
    /// Inputs of a group.
    group: u64,
    groups_in_all: u64,
    codes: PartWindow,
    scales: PartWindow,
    scale_dtype: Dtype,
    zeros: PartWindow,
}

impl AwqTile {
    fn of(along: Along, place: Place<'_>) -> AwqTile {
        let Place { logical, view, rect, .. } = place;
        let group = logical.block().1;
        let groups = units(&rect.cols, group);
        let part = |part: usize| &logical.parts()[part];
        let scale_dtype = part(SCALES).dtype;
        // The last axis of a part is its columns, however far it is padded.
        let window = |of: usize, rows, cols, size| {
            let cols_in_all = *part(of).shape.axes().last().expect("it was detected with two axes");
            PartWindow { rows, cols, cols_in_all, size }
        };
        let (rows, size) = (rect.rows.clone(), scale_dtype.bitsize() as u64 / 8);
        let (codes, scales, zeros) = match along {
            Along::Outputs => (
                window(CODES, rect.cols.clone(), units(&rows, IN_WORD), WORD_BYTES),
                window(SCALES, groups.clone(), rows.clone(), size),
                window(2, groups, units(&rows, IN_WORD), WORD_BYTES),
            ),
            Along::Inputs => (
                window(CODES, rows.clone(), units(&rect.cols, IN_WORD), WORD_BYTES),
                window(SCALES, rows.clone(), groups.clone(), size),
                window(2, rows, units(&groups, IN_WORD), WORD_BYTES),
            ),
        };
        AwqTile { along, group, groups_in_all: view.cols.div_ceil(group), codes, scales, scale_dtype, zeros }
    }

    fn window(&self, part: usize) -> &PartWindow {
        match part {
            CODES => &self.codes,
            SCALES => &self.scales,
            _ => &self.zeros,
        }
    }

    fn scales_at(&self, output: u64, group: u64) -> usize {
        match self.along {
            Along::Outputs => self.scales.at(group, output),
            Along::Inputs => self.scales.at(output, group),
        }
    }

    /// The field of an output and an input (or group) in codes (or zero points).
    fn field(&self, bytes: &[u8], window: &PartWindow, output: u64, across: u64) -> i32 {
        let (word, field) = match self.along {
            Along::Outputs => {
                (word(bytes, window.at(across, output / IN_WORD)), FIELD[(output % IN_WORD) as usize])
            }
            Along::Inputs => (word(bytes, window.at(output, across / IN_WORD)), (across % IN_WORD) as u32),
        };
        (word >> (BITS * field) & 15) as i32
    }
}
