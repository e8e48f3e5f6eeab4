//! Packed integers as compressed-tensors stores them (`pack-quantized`; Kimi K2): codes of 3, 4 or 8 bits, a scale for each
//! group of columns, and zero points where the quantization is not symmetric.
//!
//! A row of `X.weight_packed [N, ⌈K·b/32⌉]` is a stream of b-bit fields, the least significant first, in little-endian
//! words, so that it can be read byte by byte. **A field is the code + 2^(b−1)**, not its two's complement, and so are zero
//! points, which are packed *down the rows*: `[⌈N·b/32⌉, groups]`. `value = f32(code − zero) · scale` (quantized-bases.md
//! 5). K follows from the groups; where one scale serves a whole row, from the data of `X.weight_shape`.
//!
//! Decoding only: at 4 bits hardly any of a delta would survive the rounding (quantized-bases.md 15.3).

use std::ops::Range;

use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, ToEncode};
use crate::encodings::logical::{Candidate, Detected, Logical};
use crate::encodings::packed_config::{GroupScheme, Strategy};
use crate::encodings::scheme::{Auxiliary, Scheme};

/// Fields of so many bits.
pub(crate) struct PackedInt {
    /// Its name in plans.
    name: &'static str,
    /// Bits of a field.
    bits: u32,
}

/// 3 bits, packed without gaps: fields cross words.
pub(crate) static INT3: PackedInt = PackedInt { name: "packed_int3", bits: 3 };
/// 4 bits.
pub(crate) static INT4: PackedInt = PackedInt { name: "packed_int4", bits: 4 };
/// 8 bits.
pub(crate) static INT8: PackedInt = PackedInt { name: "packed_int8", bits: 8 };

const CODES: usize = 0;
const SCALES: usize = 1;
/// Bits of a word.
const WORD: u64 = 32;

static SCHEME: Scheme = Scheme {
    title: "packed integers of compressed-tensors",
    methods: &["compressed-tensors"],
    dtypes: &[Dtype::I32],
    data: PACKED,
    auxiliary: &[
        Auxiliary { ending: ".weight_scale", data: PACKED },
        Auxiliary { ending: ".weight_zero_point", data: PACKED },
        Auxiliary { ending: ".weight_shape", data: PACKED },
        Auxiliary { ending: ".weight_g_idx", data: PACKED },
    ],
    unused: &[
        Auxiliary { ending: ".input_scale", data: PACKED },
        Auxiliary { ending: ".activation_scale", data: PACKED },
        Auxiliary { ending: ".input_zero_point", data: PACKED },
        Auxiliary { ending: ".input_global_scale", data: PACKED },
        Auxiliary { ending: ".output_scale", data: PACKED },
    ],
    plain_lists: &["ignore"],
    ..Scheme::NONE
};

/// What the data is called in the place of `.weight`.
const PACKED: &[&str] = &[".weight_packed"];

impl Encoding for PackedInt {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&SCHEME)
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn detect(&self, found: &Candidate<'_>) -> Result<Option<Detected>> {
        let Some(module) = found.name.strip_suffix(".weight_packed") else { return Ok(None) };
        if found.tensor.dtype != Dtype::I32 {
            return Ok(None);
        }
        let name = format!("{module}.weight");
        let scheme = GroupScheme::of(found, module).map_err(|why| Candidate::wrong(&name, why))?;
        if scheme.bits != self.bits {
            return Ok(None);
        }
        let tensors = Tensors::of(found, module).map_err(|why| Candidate::wrong(&name, why))?;
        let input = match tensors.input(&scheme) {
            Some(input) => input,
            None => tensors.written_input(found, &name)?,
        };
        let block = tensors.check(&scheme, input).map_err(|why| Candidate::wrong(&name, why))?;
        tensors.check_written(input, found, &name)?;
        let shape = Shape::new(&[tensors.rows, input]).expect("its codes are on disk");
        let auxiliary = tensors.shape.into_iter().collect();
        let parts = [Some(found.tensor.clone()), Some(tensors.scale), tensors.zeros, tensors.order];
        let parts = parts.into_iter().flatten().collect();
        let logical = Logical { encoding: self.name.into(), shape, block, parts };
        Ok(Some(Detected { name, logical, auxiliary }))
    }

    fn decode_only(&self) -> Option<&'static str> {
        Some(
            "packed integers are not encoded again: most of a delta is smaller than half a quantization step",
        )
    }

    fn block_shape(&self, _: &Logical) -> (u64, u64) {
        (1, 1)
    }

    fn runs(&self, part: usize, place: Place<'_>) -> Runs {
        PackedLayout::of(self.bits, place).runs(part)
    }

    fn max_bytes(&self, part: usize, place: Place<'_>) -> u64 {
        // A rectangle elsewhere may begin and end within a byte, a group or a word.
        let layout = PackedLayout::of(self.bits, place);
        let runs = layout.runs(part);
        let (rows, cols) = (place.rect.height(), place.rect.width());
        let bits = u64::from(self.bits);
        match layout.kind(part) {
            PackedKind::Codes => rows * (cols * bits / 8 + 5).min(layout.codes_in_all),
            PackedKind::Scales => rows * layout.most_groups(cols) * layout.scale_bytes,
            PackedKind::Zeros => (rows * bits / WORD + 2) * layout.most_groups(cols) * 4,
            PackedKind::Order => runs.bytes(),
        }
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let layout = PackedLayout::of(self.bits, place);
        let row = layout.row(parts, at.row);
        let first = place.rect.cols.start + at.cols.start as u64;
        if layout.order.is_some() {
            return row.decode_reordered(&layout, first, out);
        }
        let (mut finite, mut done) = (true, 0);
        while done < out.len() {
            let col = first + done as u64;
            let group = col / layout.block.1;
            let end = ((group + 1) * layout.block.1 - first).min(out.len() as u64) as usize;
            let (scale, zero) = row.of_group(&layout, group);
            row.decode(&layout, col, (scale, zero), &mut out[done..end]);
            finite &= scale.is_finite();
            done = end;
        }
        finite
    }

    fn encode(&self, _: Kernels, _: &mut ToEncode<'_>, _: &mut [u8]) -> Narrowed {
        unreachable!("the plan refuses what is final")
    }
}

/// Something, or why it cannot be had.
type Or<T> = std::result::Result<T, String>;

/// The tensors of one weight.
struct Tensors {
    rows: u64,
    /// Words of a row of codes.
    words: u64,
    scale: TensorRef,
    zeros: Option<TensorRef>,
    /// The group of each column, where they are not in order.
    order: Option<TensorRef>,
    shape: Option<TensorRef>,
}

impl Tensors {
    fn of(found: &Candidate<'_>, module: &str) -> Or<Tensors> {
        let beside = |leaf: &str| (found.find)(&format!("{module}.{leaf}"));
        let &[rows, words] = found.tensor.shape.axes() else {
            return Err(format!("its codes have shape {}, where two axes are read", found.tensor.shape));
        };
        let scale = beside("weight_scale").ok_or_else(|| format!("it has no `{module}.weight_scale`"))?;
        if !matches!(scale.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
            let dtype = scale.dtype;
            return Err(format!("`{module}.weight_scale` has dtype {dtype:?}, expected F32, BF16 or F16"));
        }
        let of_type = |leaf: &str, dtypes: &[Dtype]| match beside(leaf) {
            Some(tensor) if !dtypes.contains(&tensor.dtype) => Err(format!(
                "`{module}.{leaf}` has dtype {:?}, expected {}",
                tensor.dtype,
                dtypes.iter().map(|dtype| format!("{dtype:?}")).collect::<Vec<_>>().join(" or ")
            )),
            tensor => Ok(tensor),
        };
        let zeros = of_type("weight_zero_point", &[Dtype::I32])?;
        let order = of_type("weight_g_idx", &[Dtype::I32])?;
        let shape = of_type("weight_shape", &[Dtype::I64, Dtype::I32])?;
        Ok(Tensors { rows, words, scale, zeros, order, shape })
    }

    /// Inputs of the weight, where headers say them.
    fn input(&self, scheme: &GroupScheme) -> Option<u64> {
        match (scheme.strategy, self.scale.shape.axes()) {
            (Strategy::Group(size), [.., groups]) => groups.checked_mul(size),
            _ => None,
        }
    }

    /// Holds the data of `weight_shape` against the inputs: padding may hide in the last word and in the last group.
    fn check_written(&self, input: u64, found: &Candidate<'_>, name: &str) -> Result<()> {
        if self.shape.is_none() {
            return Ok(());
        }
        let written = self.written_input(found, name)?;
        if written == input {
            return Ok(());
        }
        let stem = name.strip_suffix("weight").unwrap_or(name);
        let why = format!("`{stem}weight_shape` says {written} columns, and its groups make {input}");
        Err(Candidate::wrong(name, why))
    }

    /// Inputs of the weight as the data of `weight_shape` says.
    fn written_input(&self, found: &Candidate<'_>, name: &str) -> Result<u64> {
        let wrong = |why: String| Candidate::wrong(name, why);
        let stem = name.strip_suffix("weight").unwrap_or(name);
        let shape = self.shape.as_ref().ok_or_else(|| {
            wrong(format!("it has no `{stem}weight_shape`, and nothing else says how many columns it has"))
        })?;
        if shape.shape.axes() != [2] {
            return Err(wrong(format!("`{stem}weight_shape` has shape {}, expected [2]", shape.shape)));
        }
        let bytes = (found.read)(shape)?;
        let numbers: Vec<i64> = match shape.dtype {
            Dtype::I64 => bytes.as_chunks::<8>().0.iter().map(|n| i64::from_le_bytes(*n)).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|n| i32::from_le_bytes(*n).into()).collect(),
        };
        match numbers.as_slice() {
            [rows, input] if u64::try_from(*rows) == Ok(self.rows) && *input > 0 => Ok(*input as u64),
            numbers => Err(wrong(format!(
                "`{stem}weight_shape` holds {numbers:?}, and its codes have {} rows",
                self.rows
            ))),
        }
    }

    /// Holds every shape against the scheme; the rows and columns that share a scale.
    fn check(&self, scheme: &GroupScheme, input: u64) -> Or<(u64, u64)> {
        let bits = u64::from(scheme.bits);
        let words = input.checked_mul(bits).map(|bits| bits.div_ceil(WORD));
        if words != Some(self.words) || input == 0 {
            let expected = words.map_or_else(|| "fewer".to_owned(), |words| words.to_string());
            return Err(format!(
                "its codes have {} words in a row, expected {expected} for {input} columns of {bits} bits",
                self.words
            ));
        }
        // Before fields crossed words, a word held whole ones only.
        if !WORD.is_multiple_of(bits) && input.div_ceil(WORD / bits) == self.words {
            return Err(format!("{input} columns of {bits} bits are packed alike in two ways"));
        }
        let (scales, block) = match scheme.strategy {
            Strategy::Group(size) => ([self.rows, input / size], (1, size)),
            Strategy::Channel => ([self.rows, 1], (1, input)),
        };
        let expect = |what: &str, tensor: &TensorRef, axes: &[u64]| {
            if tensor.shape.axes() == axes {
                return Ok(());
            }
            Err(format!("`{what}` has shape {}, expected {axes:?}", tensor.shape))
        };
        expect("weight_scale", &self.scale, &scales)?;
        match (&self.zeros, scheme.symmetric) {
            (None, true) => {}
            (Some(zeros), false) => {
                expect("weight_zero_point", zeros, &[(self.rows * bits).div_ceil(WORD), scales[1]])?;
            }
            (None, false) => return Err("it is not symmetric, and has no `weight_zero_point`".to_owned()),
            (Some(_), true) => return Err("it is symmetric, and has a `weight_zero_point`".to_owned()),
        }
        match (&self.order, scheme.is_reordered, scheme.strategy) {
            (Some(order), _, Strategy::Group(_)) => expect("weight_g_idx", order, &[input])?,
            (Some(_), _, _) => return Err("it has a `weight_g_idx`, and no groups".to_owned()),
            (None, true, _) => {
                return Err(
                    "`actorder` says that its columns are out of order, and it has no `weight_g_idx`"
                        .to_owned(),
                );
            }
            (None, false, _) => {}
        }
        Ok(block)
    }
}

/// What a part is.
#[derive(Clone, Copy)]
enum PackedKind {
    Codes,
    Scales,
    Zeros,
    Order,
}

/// Where everything of a tile lies, in its parts and in its bytes.
struct PackedLayout {
    bits: u64,
    block: (u64, u64),
    rows: Range<u64>,
    cols: Range<u64>,
    /// Bytes of a row of codes that the tile takes.
    codes: Range<u64>,
    codes_in_all: u64,
    /// Groups that the tile takes.
    groups: Range<u64>,
    groups_in_all: u64,
    scale_dtype: Dtype,
    scale_bytes: u64,
    /// The part of zero points, and the words of a column that the tile takes.
    zeros: Option<(usize, Range<u64>)>,
    /// The part that says the group of each column.
    order: Option<usize>,
}

impl PackedLayout {
    fn of(bits: u32, place: Place<'_>) -> PackedLayout {
        let Place { logical, view, rect } = place;
        let bits = u64::from(bits);
        let (rows, cols, input) = (rect.rows.clone(), rect.cols.clone(), view.cols);
        let codes_in_all = (input * bits).div_ceil(WORD) * 4;
        let end = if cols.end == input { codes_in_all } else { (cols.end * bits).div_ceil(8) };
        let is_of = |axes: usize| {
            let parts = logical.parts.iter().enumerate().skip(SCALES + 1);
            parts.into_iter().find(|(_, part)| part.shape.axes().len() == axes).map(|(i, _)| i)
        };
        let (zeros, order) = (is_of(2), is_of(1));
        let groups_in_all = input.div_ceil(logical.block.1.max(1));
        let groups = match order {
            Some(_) => 0..groups_in_all,
            None => cols.start / logical.block.1..cols.end.div_ceil(logical.block.1),
        };
        let scale_dtype = logical.parts[SCALES].dtype;
        let words = rows.start * bits / WORD..(rows.end * bits).div_ceil(WORD);
        PackedLayout {
            bits,
            block: logical.block,
            codes: cols.start * bits / 8..end,
            codes_in_all,
            groups,
            groups_in_all,
            scale_dtype,
            scale_bytes: scale_dtype.bitsize() as u64 / 8,
            zeros: zeros.map(|part| (part, words)),
            order,
            rows,
            cols,
        }
    }

    fn kind(&self, part: usize) -> PackedKind {
        match part {
            CODES => PackedKind::Codes,
            SCALES => PackedKind::Scales,
            _ if Some(part) == self.order => PackedKind::Order,
            _ => PackedKind::Zeros,
        }
    }

    /// The most groups that so many columns fall into.
    fn most_groups(&self, cols: u64) -> u64 {
        match self.order {
            Some(_) => self.groups_in_all,
            None => (cols / self.block.1 + 2).min(self.groups_in_all),
        }
    }

    fn runs(&self, part: usize) -> Runs {
        let height = self.rows.end - self.rows.start;
        let of_groups = |rows: Range<u64>, size: u64| Runs {
            first: (rows.start * self.groups_in_all + self.groups.start) * size,
            len: (self.groups.end - self.groups.start) * size,
            count: rows.end - rows.start,
            stride: self.groups_in_all * size,
        };
        let runs = match self.kind(part) {
            PackedKind::Codes => Runs {
                first: self.rows.start * self.codes_in_all + self.codes.start,
                len: self.codes.end - self.codes.start,
                count: height,
                stride: self.codes_in_all,
            },
            PackedKind::Scales => of_groups(self.rows.clone(), self.scale_bytes),
            PackedKind::Zeros => of_groups(self.zeros.as_ref().expect("it is one").1.clone(), 4),
            PackedKind::Order => {
                let len = (self.cols.end - self.cols.start) * 4;
                Runs { first: self.cols.start * 4, len, count: 1, stride: len }
            }
        };
        runs.joined()
    }

    /// A row of the tile in its bytes.
    fn row<'b>(&self, parts: &'b [u8], row: usize) -> PackedRow<'b> {
        let bytes = |part: usize| self.runs(part).bytes() as usize;
        let (codes, rest) = parts.split_at(bytes(CODES));
        let (scales, mut rest) = rest.split_at(bytes(SCALES));
        let mut of_part = |part: Option<usize>| {
            let (own, behind) = rest.split_at(part.map_or(0, bytes));
            rest = behind;
            own
        };
        let zeros = of_part(self.zeros.as_ref().map(|(part, _)| *part));
        let order = of_part(self.order);
        let len = (self.codes.end - self.codes.start) as usize;
        let groups = (self.groups.end - self.groups.start) as usize;
        let of_row = groups * self.scale_bytes as usize;
        PackedRow {
            codes: &codes[row * len..(row + 1) * len],
            scales: &scales[row * of_row..(row + 1) * of_row],
            zeros,
            order,
            at: self.rows.start + row as u64,
        }
    }
}

/// One row of a tile.
struct PackedRow<'b> {
    codes: &'b [u8],
    scales: &'b [u8],
    /// The zero points of the whole tile.
    zeros: &'b [u8],
    order: &'b [u8],
    /// Which row of the weight it is.
    at: u64,
}

impl PackedRow<'_> {
    /// The scale of a group, and the field that stands for 0.
    fn of_group(&self, layout: &PackedLayout, group: u64) -> (f32, i32) {
        let i = (group - layout.groups.start) as usize;
        let scale = match layout.scale_dtype {
            Dtype::F32 => f32::from_le_bytes(self.scales.as_chunks().0[i]),
            Dtype::BF16 => half::bf16::from_le_bytes(self.scales.as_chunks().0[i]).to_f32(),
            _ => half::f16::from_le_bytes(self.scales.as_chunks().0[i]).to_f32(),
        };
        let zero = match &layout.zeros {
            None => 1 << (layout.bits - 1),
            Some((_, words)) => {
                // The stream runs down a column of words.
                let groups = (layout.groups.end - layout.groups.start) as usize;
                let word = |word: u64| {
                    if word >= words.end {
                        return 0;
                    }
                    let at = (word - words.start) as usize * groups + i;
                    u32::from_le_bytes(self.zeros.as_chunks().0[at])
                };
                let bit = self.at * layout.bits;
                let both = u64::from(word(bit / WORD)) | u64::from(word(bit / WORD + 1)) << WORD;
                (both >> (bit % WORD)) as i32 & layout.mask()
            }
        };
        (scale, zero)
    }

    /// Decodes columns from `first` on that share a scale.
    fn decode(&self, layout: &PackedLayout, first: u64, (scale, zero): (f32, i32), out: &mut [f32]) {
        let value = |field: i32| (field - zero) as f32 * scale;
        let bit = first * layout.bits - layout.codes.start * 8;
        let codes = &self.codes[(bit / 8) as usize..];
        match (layout.bits, bit % 8) {
            (8, _) => out.iter_mut().zip(codes).for_each(|(out, code)| *out = value((*code).into())),
            (4, 0) => {
                let (pairs, last) = out.as_chunks_mut::<2>();
                for ([low, high], code) in pairs.iter_mut().zip(codes) {
                    (*low, *high) = (value((code & 15).into()), value((code >> 4).into()));
                }
                if let [last] = last {
                    *last = value((codes[pairs.len()] & 15).into());
                }
            }
            _ => {
                for (i, out) in out.iter_mut().enumerate() {
                    *out = value(self.field(layout, bit + i as u64 * layout.bits));
                }
            }
        }
    }

    /// Decodes columns from `first` on, each of which says its group; false if one says none there is.
    fn decode_reordered(&self, layout: &PackedLayout, first: u64, out: &mut [f32]) -> bool {
        let order = self.order.as_chunks::<4>().0;
        let mut finite = true;
        for (i, out) in out.iter_mut().enumerate() {
            let col = first + i as u64;
            let group = i32::from_le_bytes(order[(col - layout.cols.start) as usize]);
            let Some(group) = u64::try_from(group).ok().filter(|group| *group < layout.groups_in_all) else {
                return false;
            };
            let (scale, zero) = self.of_group(layout, group);
            let field = self.field(layout, col * layout.bits - layout.codes.start * 8);
            *out = (field - zero) as f32 * scale;
            finite &= scale.is_finite();
        }
        finite
    }

    /// The field at a bit of the row's codes.
    fn field(&self, layout: &PackedLayout, bit: u64) -> i32 {
        let at = (bit / 8) as usize;
        let both = [self.codes[at], self.codes.get(at + 1).copied().unwrap_or(0)];
        i32::from(u16::from_le_bytes(both) >> (bit % 8)) & layout.mask()
    }
}

impl PackedLayout {
    fn mask(&self) -> i32 {
        (1 << self.bits) - 1
    }
}
