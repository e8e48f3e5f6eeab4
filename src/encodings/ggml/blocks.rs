//! Blocks of ggml, the tensors of GGUF files: each type a row of facts.
//!
//! ```text
//! P   [.., N, K/values]   elements are blocks: codes of so many values along K, with their scales beside them
//! value = scale · code − min                                                          (quantized-bases.md 13)
//! ```
//!
//! A tile of any columns takes the blocks that these lie in. Encoded again, a block keeps its scales, and gets the nearest codes;
//! only where a value lies more than half a step beyond their ends all of it is made anew, by the rule of ggml's own quantizer.
//! Either way a block depends on nothing beside it.

use std::ops::Range;

use crate::encodings::encoding::{Encoding, Place, RowPiece, Runs, ToEncode};
use crate::encodings::ggml::code_layout::CodeLayout;
use crate::encodings::ggml::open_block::{MOST_VALUES, OpenBlock, magnitude};
use crate::encodings::logical::{Candidate, Detected, Logical, LogicalFields};
use crate::encodings::scheme::Scheme;
use crate::encodings::window::{PartWindow, most_units, units};
use crate::error::Result;
use crate::error::quantized::QuantizedProblem;
use crate::kernels::dispatch::Kernels;
use crate::kernels::outcome::Narrowed;
use crate::tensor::dtype::Dtype;
use crate::tensor::reference::TensorRef;
use crate::tensor::shape::Shape;

/// A rule for new blocks: from values, into the bytes of scales, which are zero, and into codes.
pub(crate) type NewBlock = fn(&[f32], &mut [u8], &mut [i8]);

/// One type.
pub(crate) struct Ggml {
    /// Its name in plans.
    pub name: &'static str,
    /// The elements of its tensors.
    pub dtype: Dtype,
    /// Where its codes are.
    pub codes: CodeLayout,
    /// Reads its scales, where the codes do not come with them.
    pub scales: fn(&[u8], &mut OpenBlock),
    /// Makes scales and codes of values, and stores the scales; none if it is decoded only.
    pub renew: Option<NewBlock>,
}

static SCHEME: Scheme = Scheme {
    title: "GGUF",
    stands_alone: true,
    dtypes: &[
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q5_0,
        Dtype::Q5_1,
        Dtype::Q8_0,
        Dtype::Q2_K,
        Dtype::Q3_K,
        Dtype::Q4_K,
        Dtype::Q5_K,
        Dtype::Q6_K,
        Dtype::IQ2_XXS,
        Dtype::IQ2_XS,
        Dtype::IQ3_XXS,
        Dtype::IQ1_S,
        Dtype::IQ4_NL,
        Dtype::IQ3_S,
        Dtype::IQ2_S,
        Dtype::IQ4_XS,
        Dtype::IQ1_M,
        Dtype::TQ1_0,
        Dtype::TQ2_0,
        Dtype::MXFP4,
        Dtype::NVFP4,
    ],
    ..Scheme::NONE
};

impl Ggml {
    fn bytes(&self) -> usize {
        self.dtype.bitsize() / 8
    }

    fn logical(&self, shape: Shape, parts: Vec<TensorRef>) -> Logical {
        let (encoding, block) = (self.name.into(), (1, self.dtype.values()));
        LogicalFields { encoding, shape, block, parts, constants: Vec::new() }.into()
    }

    /// Where a tile's blocks are in the tensor.
    fn window(&self, place: Place<'_>) -> PartWindow {
        let values = self.dtype.values();
        PartWindow {
            rows: place.rect.rows.clone(),
            cols: units(&place.rect.cols, values),
            cols_in_all: place.view.cols / values,
            size: self.bytes() as u64,
        }
    }

    /// Which of a tile's bytes hold some columns of a row, and how many values of the first block come before them.
    fn row_bytes(&self, place: Place<'_>, at: &RowPiece) -> (Range<usize>, usize) {
        let (window, values) = (self.window(place), self.dtype.values());
        let first = place.rect.cols.start + at.cols.start as u64;
        let blocks = units(&(first..first + at.cols.len() as u64), values);
        let row = place.rect.rows.start + at.row as u64;
        let start = window.at(row, blocks.start) * self.bytes();
        let len = (blocks.end - blocks.start) as usize * self.bytes();
        (start..start + len, (first % values) as usize)
    }

    fn open(&self, bytes: &[u8], block: &mut OpenBlock) {
        (self.scales)(bytes, block);
        self.codes.read(bytes, self.dtype.values() as usize, block);
    }

    /// Encodes the values of one block, and leaves what they are as it is encoded. False if they cannot be.
    fn encode_block(&self, (old, fresh): (&[u8], bool), values: &mut [f32], bytes: &mut [u8]) -> bool {
        let mut block = OpenBlock::EMPTY;
        if old.len() == bytes.len() && !fresh {
            bytes.copy_from_slice(old);
            self.open(old, &mut block);
            let mut was = [0.0; MOST_VALUES];
            let was = &mut was[..values.len()];
            block.decode(was);
            if !are_finite(values) || !are_finite(was) {
                return false;
            }
            if was == values {
                values.copy_from_slice(was);
                return true;
            }
            if block.change(&self.codes.set(), was, values) {
                self.codes.write(&block.codes[..values.len()], bytes);
                block.decode(values);
                return true;
            }
        }
        are_finite(values) && self.renew_block(&mut block, values, bytes)
    }

    /// The same with new scales.
    fn renew_block(&self, block: &mut OpenBlock, values: &mut [f32], bytes: &mut [u8]) -> bool {
        let Some(renew) = self.renew else { return false };
        bytes.fill(0);
        renew(values, bytes, &mut block.codes[..values.len()]);
        self.codes.write(&block.codes[..values.len()], bytes);
        self.open(bytes, block);
        let mut now = [0.0; MOST_VALUES];
        let now = &mut now[..values.len()];
        block.decode(now);
        // Where magnitudes overflow, ggml's rules make blocks of nothing, or cut values off.
        let is_lost = magnitude(values) > (4.0 * magnitude(now)).max(1.0);
        let fits = are_finite(now) && !is_lost;
        if fits {
            values.copy_from_slice(now);
        }
        fits
    }
}

fn are_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |finite, value| finite & value.is_finite())
}

impl Encoding for Ggml {
    fn scheme(&self) -> Option<&'static Scheme> {
        Some(&SCHEME)
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn detect(&self, found: &Candidate<'_>) -> Result<Option<Detected>> {
        let tensor = found.tensor;
        if tensor.dtype != self.dtype {
            return Ok(None);
        }
        let wrong = |why| Candidate::wrong(found.name, why);
        if tensor.shape.elements() == 0 {
            return Err(wrong(QuantizedProblem::Empty));
        }
        let (axes, values) = (tensor.shape.axes(), self.dtype.values());
        let (blocks, before) = axes.split_last().unwrap_or((&1, &[]));
        let cols = blocks.checked_mul(values);
        let shape = cols.and_then(|cols| Shape::new(&[before, &[cols]].concat()));
        let shape = shape.ok_or_else(|| wrong(QuantizedProblem::TooLarge))?;
        let logical = self.logical(shape, vec![tensor.clone()]);
        Ok(Some(Detected { name: found.name.to_owned(), logical, auxiliary: Vec::new() }))
    }

    fn unwritten(&self, dtype: Dtype, shape: &Shape) -> Option<Logical> {
        let is_whole = |cols: &u64| cols.is_multiple_of(dtype.values());
        let is_one = dtype == self.dtype && shape.axes().last().is_some_and(is_whole);
        is_one.then(|| self.logical(shape.clone(), Vec::new()))
    }

    fn decode_only(&self, _: &Logical) -> Option<&'static str> {
        const WHY: &str = "a type of GGUF whose codes are places in a grid is decoded only: \
                           which are best depends on weights that no file holds";
        self.renew.is_none().then_some(WHY)
    }

    fn block_shape(&self, logical: &Logical) -> (u64, u64) {
        logical.block()
    }

    fn runs(&self, _: usize, place: Place<'_>) -> Runs {
        self.window(place).runs()
    }

    fn max_bytes(&self, _: usize, place: Place<'_>) -> u64 {
        let window = self.window(place);
        let blocks = most_units(place.rect.width(), self.dtype.values(), window.cols_in_all);
        place.rect.height() * blocks * window.size
    }

    fn decode_row(&self, _: Kernels, parts: &[u8], place: Place<'_>, at: RowPiece, out: &mut [f32]) -> bool {
        let (bytes, mut skipped) = self.row_bytes(place, &at);
        let per_block = self.dtype.values() as usize;
        let (mut block, mut rest) = (OpenBlock::EMPTY, &mut *out);
        for bytes in parts[bytes].chunks_exact(self.bytes()) {
            self.open(bytes, &mut block);
            let (here, behind) = rest.split_at_mut(rest.len().min(per_block - skipped));
            if here.len() == per_block {
                block.decode(here);
            } else {
                let mut whole = [0.0; MOST_VALUES];
                block.decode(&mut whole[..per_block]);
                here.copy_from_slice(&whole[skipped..skipped + here.len()]);
            }
            (rest, skipped) = (behind, 0);
        }
        are_finite(out)
    }

    fn encode(&self, _: Kernels, block: &mut ToEncode<'_>, bytes: &mut [u8]) -> Narrowed {
        let (width, per_block) = (block.cols.len(), self.dtype.values() as usize);
        let mut finite = true;
        for (row, values) in block.rows.clone().zip(block.values.chunks_mut(width)) {
            let (range, _) = self.row_bytes(block.place, &RowPiece { row, cols: block.cols.clone() });
            // Where the tile starts from something else there are no blocks to keep the scales of.
            let old = block.source.get(range.clone()).unwrap_or_default();
            let blocks = bytes[range].chunks_exact_mut(self.bytes());
            for (i, (values, bytes)) in values.chunks_exact_mut(per_block).zip(blocks).enumerate() {
                let at = i * bytes.len();
                let old = old.get(at..at + bytes.len()).unwrap_or_default();
                finite &= self.encode_block((old, block.fresh), values, bytes);
            }
        }
        Narrowed { finite, changed: 0 }
    }
}
