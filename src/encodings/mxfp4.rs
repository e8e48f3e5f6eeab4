//! MXFP4 as gpt-oss stores its experts: E2M1 codes, and a power of two for every 32 of them.
//!
//! `P_blocks [E, R, K/32, 16]` holds two codes in a byte, the one of the even column in the low half; `P_scales
//! [E, R, K/32]` holds E8M0 exponents. `value = code · 2^(scale − 127)` (quantized-bases.md 6.2). **The running model's
//! parameter, and so the decoded tensor, is the transpose: `[E, K, R]`**, under the name P. A row of it is one value out of
//! each of R stored rows; tiles are read as short runs at equal distances, and never reach from one expert into the next.
//!
//! Encoded again as it is stored, output by output: a new scale is made by the rule of compressed-tensors, as that of the publisher
//! is not known.

use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::kernels::dispatch::Kernels;
use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

use crate::encodings::codes::{CodeFormat, E2M1};
use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, WrittenOrder};
use crate::encodings::logical::{Candidate, Detected, Logical, LogicalFields};
use crate::encodings::number::power_of;
use crate::encodings::requantize::shared_exponent;
use crate::encodings::scaled::{Again, POWERS, Product, Scaled};
use crate::encodings::scheme::{Auxiliary, Scheme};
use crate::encodings::transposed::exchanged;

/// E2M1 codes with a scale for every 32 inputs, stored by output.
pub(crate) struct Mxfp4;

const CODES: usize = 0;
const SCALES: usize = 1;
/// Values that share a scale.
const BLOCK: u64 = 32;
/// Values in a byte.
const PAIR: u64 = 2;

static SCHEME: Scheme = Scheme {
    title: "MXFP4",
    methods: &["mxfp4"],
    dtypes: &[Dtype::U8],
    data: &["_blocks"],
    auxiliary: &[Auxiliary { ending: "_scales", data: &["_blocks"] }],
    plain_lists: &["modules_to_not_convert"],
    ..Scheme::NONE
};

/// As it is stored: a row for each output. Nothing is detected as this.
pub(crate) static BY_OUTPUT: Scaled = Scaled {
    name: "mxfp4_by_output",
    scheme: &SCHEME,
    data: &[Dtype::U8],
    codes: CodeFormat::E2m1,
    scales: POWERS,
    product: Product::Scale,
    again: Again::With(|of| shared_exponent(of.largest, 1 << 21, 2)),
    has_stacks: true,
    ending: "_blocks",
    find: |_, _| Ok(None),
};

impl Encoding for Mxfp4 {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&SCHEME)
    }

    fn name(&self) -> &'static str {
        "mxfp4"
    }

    fn detect(&self, found: &Candidate<'_>) -> Result<Option<Detected>> {
        if found.tensor.dtype != Dtype::U8 {
            return Ok(None);
        }
        let is_said = found.method() == Some("mxfp4");
        if let Some(name) = found.name.strip_suffix("_scales") {
            let data = format!("{name}_blocks");
            if is_said && (found.find)(&data).is_none() {
                let auxiliary = found.name.to_owned();
                return Err(Candidate::wrong(name, QuantizedProblem::NoData { auxiliary, data }));
            }
            return Ok(None);
        }
        let Some(name) = found.name.strip_suffix("_blocks") else { return Ok(None) };
        let wrong = |why| Candidate::wrong(name, why);
        let (codes_name, scales_name) = (found.name.to_owned(), format!("{name}_scales"));
        let Some(scale) = (found.find)(&scales_name) else {
            let missing = QuantizedProblem::NoAuxiliary { name: scales_name };
            return if is_said { Err(wrong(missing)) } else { Ok(None) };
        };
        if !is_said {
            return Err(wrong(QuantizedProblem::Method {
                scheme: SCHEME.title,
                tensors: vec![codes_name, scales_name],
                found: found.method().map(str::to_owned),
                expected: "mxfp4",
            }));
        }
        let &[experts, rows, blocks, bytes] = found.tensor.shape.axes() else {
            let found = found.tensor.shape.clone();
            return Err(wrong(QuantizedProblem::NotFourAxes { name: codes_name, found }));
        };
        if found.tensor.shape.elements() == 0 {
            return Err(wrong(QuantizedProblem::Empty));
        }
        if bytes * PAIR != BLOCK {
            let expected = BLOCK / PAIR;
            return Err(wrong(QuantizedProblem::BlockBytes { name: codes_name, found: bytes, expected }));
        }
        if scale.dtype != Dtype::U8 {
            let expected = &[Dtype::U8];
            return Err(wrong(QuantizedProblem::Dtype { name: scales_name, found: scale.dtype, expected }));
        }
        if scale.shape.axes() != [experts, rows, blocks] {
            let (found, expected) = (scale.shape, vec![experts, rows, blocks]);
            return Err(wrong(QuantizedProblem::Shape { name: scales_name, found, expected }));
        }
        let inputs = blocks.checked_mul(BLOCK);
        let shape = inputs.and_then(|inputs| Shape::new(&[experts, inputs, rows]));
        let logical = LogicalFields {
            encoding: self.name().into(),
            shape: shape.ok_or_else(|| wrong(QuantizedProblem::TooLarge))?,
            block: (BLOCK, 1),
            parts: vec![found.tensor.clone(), scale],
            constants: Vec::new(),
        };
        Ok(Some(Detected { name: name.to_owned(), logical: logical.into(), auxiliary: Vec::new() }))
    }

    fn across(&self, logical: &Logical) -> Option<(WrittenOrder, Logical)> {
        let fields = LogicalFields {
            encoding: BY_OUTPUT.name.into(),
            shape: exchanged(logical.shape())?,
            block: (1, BLOCK),
            parts: logical.parts().to_vec(),
            constants: Vec::new(),
        };
        Some((WrittenOrder::Exchanged, fields.into()))
    }

    fn row_group(&self, logical: &Logical) -> u64 {
        let &[_, inputs, _] = logical.shape().axes() else { unreachable!("it was detected so") };
        inputs
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        let at = StoredBlocks::of(part, place);
        Runs { first: at.first, len: at.len, count: place.rect.width(), stride: at.stride }.joined()
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        // A tile that starts elsewhere may begin and end within a byte or a block.
        let (per, stored) = (values_of(part), StoredBlocks::of(part, place));
        place.rect.width() * ((place.rect.height().max(1) - 1).div_ceil(per) + 1).min(stored.stride)
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let (codes_at, scales_at) = (StoredBlocks::of(CODES, place), StoredBlocks::of(SCALES, place));
        let row = codes_at.row + at.row as u64;
        let (codes, scales) = parts.split_at((codes_at.len * place.rect.width()) as usize);
        let of_row = |stored: &StoredBlocks, part: usize| (row / values_of(part) - stored.start) as usize;
        let (code, scale) = (of_row(&codes_at, CODES), of_row(&scales_at, SCALES));
        let codes = codes[at.cols.start * codes_at.len as usize..].chunks_exact(codes_at.len as usize);
        let scales = scales[at.cols.start * scales_at.len as usize..].chunks_exact(scales_at.len as usize);
        let shift = 4 * (row % PAIR);
        let mut finite = true;
        for ((out, codes), scales) in out.iter_mut().zip(codes).zip(scales) {
            *out = E2M1[usize::from(codes[code] >> shift & 15)] * power_of(scales[scale]);
            finite &= out.is_finite();
        }
        finite
    }
}

/// Values along K for a byte of a part.
fn values_of(part: usize) -> u64 {
    if part == CODES { PAIR } else { BLOCK }
}

/// Where a part's bytes of a tile are.
struct StoredBlocks {
    /// The first row of the tile in its expert.
    row: u64,
    /// The byte of a stored row that holds it.
    start: u64,
    /// The first byte of the tile in the part.
    first: u64,
    /// Bytes of a stored row that the tile takes.
    len: u64,
    /// Bytes of a stored row.
    stride: u64,
}

impl StoredBlocks {
    fn of(part: usize, place: Place<'_>) -> StoredBlocks {
        let Place { logical, view, rect, .. } = place;
        let &[_, inputs, outputs] = logical.shape().axes() else { unreachable!("it was detected so") };
        debug_assert_eq!(view.cols, outputs, "the plan cuts such a weight by its last axis");
        let (expert, row, per) = (rect.rows.start / inputs, rect.rows.start % inputs, values_of(part));
        let end = row + rect.height();
        debug_assert!(end <= inputs, "a tile is of one expert");
        let (start, stride) = (row / per, inputs / per);
        let first = (expert * outputs + rect.cols.start) * stride + start;
        StoredBlocks { row, start, first, len: end.div_ceil(per) - start, stride }
    }
}
