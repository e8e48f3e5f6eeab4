//! Blocks of ggml against a file in which its own quantizer stored one source as every type.

use super::kept::{SIZES, encode_in_tiles};
use super::*;
use crate::encodings::encoding::Encoding;
use crate::encodings::ggml::blocks::Ggml;
use crate::encodings::ggml::open_block::{GROUP, OpenBlock};
use crate::encodings::ggml::types::*;

const VECTOR: &str = "gguf_types";

/// All types with the numbers that ggml has for them.
const TYPES: [(u32, &Ggml); 23] = [
    (2, &Q4_0),
    (3, &Q4_1),
    (6, &Q5_0),
    (7, &Q5_1),
    (8, &Q8_0),
    (10, &Q2_K),
    (11, &Q3_K),
    (12, &Q4_K),
    (13, &Q5_K),
    (14, &Q6_K),
    (16, &IQ2_XXS),
    (17, &IQ2_XS),
    (18, &IQ3_XXS),
    (19, &IQ1_S),
    (20, &IQ4_NL),
    (21, &IQ3_S),
    (22, &IQ2_S),
    (23, &IQ4_XS),
    (29, &IQ1_M),
    (34, &TQ1_0),
    (35, &TQ2_0),
    (39, &MXFP4),
    (40, &NVFP4),
];

/// Tiles that begin and end inside blocks, at their ends, and beyond.
const PIECES: [(u64, u64); 8] = [(1, 1), (1, 7), (2, 33), (1, 100), (2, 32), (1, 200), (1, 256), (2, 1_000)];

/// What is still to be read of a GGUF file, from a place on.
struct GgufReader<'f>(&'f [u8], usize);

impl<'f> GgufReader<'f> {
    fn take(&mut self, count: usize) -> &'f [u8] {
        self.1 += count;
        &self.0[self.1 - count..self.1]
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn text(&mut self) -> String {
        let len = self.u64() as usize;
        String::from_utf8(self.take(len).to_vec()).unwrap()
    }

    fn skip_value(&mut self, kind: u32) {
        match kind {
            0 | 1 | 7 => drop(self.take(1)),
            2 | 3 => drop(self.take(2)),
            4..=6 => drop(self.take(4)),
            8 => drop(self.text()),
            9 => {
                let (kind, count) = (self.u32(), self.u64());
                (0..count).for_each(|_| self.skip_value(kind));
            }
            _ => drop(self.take(8)),
        }
    }

    /// The tensors of the file by name, with the numbers of their types, which stand for none yet.
    fn tensors(&mut self) -> Vec<(String, u32, TensorRef)> {
        assert_eq!((self.take(4), self.u32()), (&b"GGUF"[..], 3));
        let (tensors, values) = (self.u64(), self.u64());
        for _ in 0..values {
            self.text();
            let kind = self.u32();
            self.skip_value(kind);
        }
        let entries: Vec<_> = (0..tensors)
            .map(|_| {
                let (name, count) = (self.text(), self.u32());
                let mut axes: Vec<u64> = (0..count).map(|_| self.u64()).collect();
                axes.reverse();
                (name, axes, self.u32(), self.u64())
            })
            .collect();
        let data = self.1.next_multiple_of(32) as u64;
        let tensors = entries.into_iter().map(|(name, axes, kind, offset)| {
            let (dtype, shape) = (Dtype::U8, Shape_::new(&axes).unwrap());
            (name, kind, TensorRef { file: FileId(0), offset: data + offset, dtype, shape })
        });
        tensors.collect()
    }
}

fn detect(name: &str, tensor: &TensorRef) -> crate::error::Result<Vec<Detected>> {
    let (targets, find) = (Default::default(), |_: &str| None);
    let read = |_: &TensorRef| unreachable!("its dtype says all");
    let said = |_: &TensorRef, _: &str| Ok(None);
    let found = Candidate {
        name,
        tensor,
        quantization: None,
        find: &find,
        targets: &targets,
        read: &read,
        said: &said,
    };
    let all = ENCODINGS.iter().map(|encoding| encoding.detect(&found));
    Ok(all.collect::<crate::error::Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// A weight of each type as it is detected, and the file. Blocks of a row are elements of its last axis.
fn weights() -> (Vec<(&'static Ggml, Logical)>, Vec<u8>) {
    let file = fs::read(path(VECTOR, "model.gguf")).unwrap();
    let mut weights = Vec::new();
    for (name, kind, tensor) in GgufReader(&file, 0).tensors() {
        let Some((_, ggml)) = TYPES.iter().find(|(number, _)| *number == kind) else { continue };
        let [rows, cols] = *tensor.shape.axes() else { panic!("two axes") };
        let shape = Shape_::new(&[rows, cols / ggml.dtype.values()]).unwrap();
        let mut found = detect(&name, &TensorRef { dtype: ggml.dtype, shape, ..tensor.clone() }).unwrap();
        assert_eq!((found.len(), &*found[0].name), (1, &*name));
        let logical = found.remove(0).logical;
        assert_eq!((logical.encoding(), logical.shape()), (ggml.name, &tensor.shape));
        weights.push((*ggml, logical));
    }
    assert_eq!(weights.len(), TYPES.len());
    (weights, file)
}

/// Values of the file beside it.
fn expected(name: &str) -> Vec<f32> {
    let stored = fs::read(path(VECTOR, "expected.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&stored).unwrap();
    widen(Dtype::F32, stored.tensor(name).unwrap().data(), 512)
}

/// The bytes of a weight in its file.
fn stored<'f>(logical: &Logical, file: &'f [u8]) -> &'f [u8] {
    let part = &logical.parts()[0];
    &file[part.offset as usize..][..part.bytes() as usize]
}

#[test]
fn every_type_decodes_to_what_ggml_decodes_it_to() {
    let (weights, file) = weights();
    for (ggml, logical) in &weights {
        let right = expected(&format!("blk.0.{}.weight", ggml.dtype.to_string().to_lowercase()));
        for (rows, cols) in PIECES {
            let values = decode_in_tiles(logical, &file, rows, cols);
            assert!(values == right, "{} in tiles of {rows} × {cols}", ggml.name);
        }
    }
}

/// A stack of matrices, of which a tile may be some columns of some rows.
#[test]
fn pieces_of_rows_inside_a_tile_decode_as_the_whole_does() {
    let (weights, file) = weights();
    for (ggml, logical) in &weights {
        let right = decode_in_tiles(logical, &file, 2, 256);
        let (view, rect) = (View { rows: 2, cols: 256 }, Rect { rows: 0..2, cols: 40..250 });
        let place = Place::new(logical, view, &rect);
        let parts = tile_bytes(place, &file);
        for (row, cols) in [(0, 0..210), (1, 0..1), (1, 24..120), (0, 23..121), (1, 209..210), (0, 7..7)] {
            let mut out = vec![f32::NAN; cols.len()];
            let at = RowPiece { row, cols: cols.clone() };
            assert!(ggml.decode_row(Kernels::detect(), &parts, place, at, &mut out));
            let start = row * 256 + 40;
            assert!(out == right[start + cols.start..start + cols.end], "{} {row} {cols:?}", ggml.name);
        }
    }
}

/// The types that are encoded again.
fn kept(weights: &[(&'static Ggml, Logical)]) -> impl Iterator<Item = (&'static Ggml, Logical)> {
    let is_kept = |(ggml, logical): &&(&'static Ggml, Logical)| ggml.decode_only(logical).is_none();
    let kept: Vec<_> = weights.iter().filter(is_kept).cloned().collect();
    assert_eq!(kept.len(), 16);
    kept.into_iter()
}

#[test]
fn types_without_grids_are_encoded_to_the_bytes_that_they_are_decoded_from() {
    let (weights, file) = weights();
    for (ggml, logical) in kept(&weights) {
        let values = decode_in_tiles(&logical, &file, 2, 256);
        for size in SIZES {
            let made = encode_in_tiles(&logical, &file, (&values, 0), size).unwrap();
            assert!(made == stored(&logical, &file), "{} in tiles of {size:?}", ggml.name);
        }
    }
    for (ggml, logical) in weights {
        let why = ggml.decode_only(&logical);
        assert_eq!(why.is_some_and(|why| why.contains("decoded only: ")), ggml.renew.is_none());
    }
}

/// Blocks of zeros take no other value, so that all are made anew, as ggml made them.
#[test]
fn new_blocks_are_those_of_ggml() {
    let (weights, file) = weights();
    let source = expected("source.f32");
    for (ggml, logical) in kept(&weights) {
        let right = stored(&logical, &file);
        let empty = with_part(&logical, &file, 0, &vec![0; right.len()]);
        for size in SIZES {
            let made = encode_in_tiles(&logical, &empty, (&source, 0), size).unwrap();
            assert!(made == right, "{} in tiles of {size:?}", ggml.name);
        }
    }
}

/// A block whose values are of its own steps, and what it is made of.
struct Sample {
    ggml: &'static Ggml,
    bytes: Vec<u8>,
    block: OpenBlock,
    values: Vec<f32>,
}

impl Sample {
    fn of(ggml: &'static Ggml, bytes: &[u8]) -> Sample {
        let (mut block, mut values) = (OpenBlock::EMPTY, vec![0.0; ggml.dtype.values() as usize]);
        (ggml.scales)(bytes, &mut block);
        ggml.codes.read(bytes, values.len(), &mut block);
        block.decode(&mut values);
        Sample { ggml, bytes: bytes.to_vec(), block, values }
    }

    /// Encodes other values in its place; what becomes of them, or nothing if they do not fit.
    fn encode(&self, values: &[f32]) -> Option<(Sample, Vec<f32>)> {
        let (mut values, mut bytes) = (values.to_vec(), vec![0x55; self.bytes.len()]);
        let fits = encode_one(self.ggml, &self.bytes, &mut values, &mut bytes);
        fits.then(|| (Sample::of(self.ggml, &bytes), values))
    }

    /// The same block of nothing, in which every value makes new scales.
    fn renewed(&self, values: &[f32]) -> Vec<u8> {
        let empty = Sample::of(self.ggml, &vec![0; self.bytes.len()]);
        empty.encode(values).unwrap().0.bytes
    }
}

/// Encodes one block through the encoding.
fn encode_one(ggml: &'static Ggml, old: &[u8], values: &mut [f32], bytes: &mut [u8]) -> bool {
    let count = values.len();
    let shape = Shape_::new(&[1, 1]).unwrap();
    let tensor = TensorRef { file: FileId(0), offset: 0, dtype: ggml.dtype, shape };
    let logical = detect("w", &tensor).unwrap().remove(0).logical;
    let (view, rect) = (View { rows: 1, cols: count as u64 }, Rect { rows: 0..1, cols: 0..count as u64 });
    let place = Place::new(&logical, view, &rect);
    let mut block =
        ToEncode { values, rows: 0..1, cols: 0..count, place, part: 0, source: old, fresh: false };
    ggml.encode(Kernels::detect(), &mut block, bytes).finite
}

/// Blocks of the vector, of every type that is encoded.
fn samples() -> Vec<Sample> {
    let (weights, file) = weights();
    let mut samples = Vec::new();
    for (ggml, logical) in kept(&weights) {
        let blocks = stored(&logical, &file).chunks(ggml.dtype.bitsize() / 8).take(4);
        samples.extend(blocks.map(|bytes| Sample::of(ggml, bytes)));
    }
    samples
}

/// The codes of a type in increasing order.
fn codes_of(dtype: Dtype) -> Vec<f32> {
    let (least, most) = match dtype {
        Dtype::IQ4_NL | Dtype::IQ4_XS => {
            let steps = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
            return steps.map(|step: i8| step.into()).to_vec();
        }
        Dtype::MXFP4 | Dtype::NVFP4 => {
            return [-12, -8, -6, -4, -3, -2, -1, 0, 1, 2, 3, 4, 6, 8, 12]
                .map(|step: i8| step.into())
                .to_vec();
        }
        Dtype::Q4_1 | Dtype::Q4_K => (0, 15),
        Dtype::Q5_1 | Dtype::Q5_K => (0, 31),
        Dtype::Q2_K => (0, 3),
        Dtype::Q3_K => (-4, 3),
        Dtype::Q4_0 => (-8, 7),
        Dtype::Q5_0 => (-16, 15),
        Dtype::Q6_K => (-32, 31),
        Dtype::Q8_0 => (-128, 127),
        Dtype::TQ1_0 => (-1, 1),
        Dtype::TQ2_0 => (-1, 2),
        other => panic!("{other} is decoded only"),
    };
    (least..=most).map(|code: i16| code.into()).collect()
}

/// All that a group of a block can hold.
fn possible(sample: &Sample, group: usize) -> Vec<f32> {
    let (scale, min) = (sample.block.scales[group], sample.block.mins[group]);
    codes_of(sample.ggml.dtype).iter().map(|code| scale * code - min).collect()
}

#[test]
fn changed_values_that_fit_take_the_nearest_codes_of_the_old_scales() {
    for sample in samples() {
        let name = sample.ggml.name;
        for third in 0..3 {
            let mut values = sample.values.clone();
            let mut right = values.clone();
            for (i, value) in values.iter_mut().enumerate().filter(|(i, _)| i % 3 == third) {
                let all = possible(&sample, i / GROUP);
                let [least, most] = [f32::min, f32::max].map(|of| all.iter().copied().reduce(of).unwrap());
                // Some way from the one end to the other.
                *value = least + (most - least) * ((i * 37 % 101) as f32 / 101.0);
                let error = |other: &&f32| (**other - *value).abs();
                right[i] = *all.iter().min_by(|one, other| error(one).total_cmp(&error(other))).unwrap();
            }
            let (made, became) = sample.encode(&values).unwrap();
            assert!(made.block.scales == sample.block.scales, "{name} keeps its scales");
            assert!(made.block.mins == sample.block.mins, "{name} keeps its minima");
            assert!(made.values == became, "{name} leaves what it encoded");
            assert!(became == right, "{name}: nearest");
        }
    }
}

#[test]
fn a_block_is_made_anew_from_half_a_step_beyond_its_ends() {
    for sample in samples() {
        let (name, codes) = (sample.ggml.name, codes_of(sample.ggml.dtype));
        let beyond = |end: f32, next: f32| end + (end - next) / 2.0;
        let limits = (beyond(codes[0], codes[1]), beyond(codes[codes.len() - 1], codes[codes.len() - 2]));
        let groups = sample.values.len() / GROUP;
        for (group, limit) in [(0, limits.0), (groups - 1, limits.1), (groups / 2, limits.1)] {
            let (scale, min) = (sample.block.scales[group], sample.block.mins[group]);
            if scale == 0.0 {
                continue;
            }
            for (limit, is_kept) in [(limit * 0.999, true), (limit * 1.001, false)] {
                let mut values = sample.values.clone();
                values[group * GROUP + 5] = scale * limit - min;
                // Below the minimum of types whose codes are not negative.
                if limits.0 == -0.5 && limit < 0.0 && !is_kept {
                    values[group * GROUP + 5] -= scale * 0.01;
                }
                let (made, _) = sample.encode(&values).unwrap();
                let is_old = made.block.scales == sample.block.scales && made.block.mins == sample.block.mins;
                // New scales may be the old ones, where the largest magnitude is on the other side.
                let is_right = if is_kept { is_old } else { made.bytes == sample.renewed(&values) };
                assert!(is_right, "{name}: group {group}, {limit}");
            }
        }
    }
}

/// Halfway between two codes lies a value by chance hardly ever.
#[test]
fn what_lies_between_two_codes_goes_where_ggml_puts_it() {
    for (ggml, values, right) in [
        (&Q4_0, [-8.0, 0.5, -0.5, 2.5, 6.5, -2.5, 7.5], [-8.0, 1.0, 0.0, 3.0, 7.0, -2.0, 7.0]),
        (&Q4_1, [15.0, 0.5, 1.5, 2.5, 14.5, 0.0, 3.5], [15.0, 1.0, 2.0, 3.0, 15.0, 0.0, 4.0]),
        (&Q8_0, [-127.0, 0.5, -0.5, 2.5, -2.5, 126.5, 0.0], [-127.0, 1.0, -1.0, 3.0, -3.0, 127.0, 0.0]),
        (&TQ1_0, [1.0, 0.5, -0.5, 0.4, -0.4, 0.0, 0.6], [1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 1.0]),
        (&TQ2_0, [-1.0, 0.5, -0.5, 0.4, -0.4, 0.0, 0.6], [-1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 1.0]),
        (&MXFP4, [4.0, 2.5, -2.5, 0.25, -0.25, 5.0, -3.5], [4.0, 2.0, -2.0, 0.0, 0.0, 4.0, -3.0]),
        (&NVFP4, [6.0, 2.5, -2.5, 0.25, -0.25, 5.0, -3.5], [6.0, 2.0, -2.0, 0.0, 0.0, 4.0, -3.0]),
        // Scales of 1 1/16 and 300: an eighth is the step of the one, and what is 256 or more is the largest.
        (&NVFP4, [6.375, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [6.75, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        (&NVFP4, [1800.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [1792.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
    ] {
        let empty = Sample::of(ggml, &vec![0; ggml.dtype.bitsize() / 8]);
        let mut block = empty.values.clone();
        block[..7].copy_from_slice(&values);
        let (made, _) = empty.encode(&block).unwrap();
        assert_eq!(made.values[..7], right, "{}", ggml.name);
    }
}

/// With the scale that is there, to even.
#[test]
fn what_lies_between_two_codes_of_an_old_scale_goes_to_the_even_one() {
    for (ggml, end) in [(&Q4_0, -8.0), (&Q5_0, -16.0), (&Q8_0, -127.0)] {
        let empty = Sample::of(ggml, &vec![0; ggml.dtype.bitsize() / 8]);
        let mut values = empty.values.clone();
        values[0] = end;
        let (of_one, _) = empty.encode(&values).unwrap();
        assert_eq!(of_one.block.scales[0], 1.0);
        values[1..5].copy_from_slice(&[0.5, 1.5, -2.5, -3.5]);
        assert_eq!(of_one.encode(&values).unwrap().1[..5], [end, 0.0, 2.0, -2.0, -4.0], "{}", ggml.name);
    }
}

/// A scale of 0 takes nothing but what it decodes to.
#[test]
fn blocks_without_a_scale_are_made_anew_for_any_value() {
    for sample in samples().iter().step_by(4) {
        let empty = Sample::of(sample.ggml, &vec![0; sample.bytes.len()]);
        assert!(empty.values.iter().all(|value| *value == 0.0));
        assert!(empty.encode(&empty.values).unwrap().0.bytes == empty.bytes);
        let mut values = empty.values.clone();
        values[3] = 0.75;
        let (made, _) = empty.encode(&values).unwrap();
        assert!(made.values[3] > 0.7 && made.values[3] < 0.8, "{}: {}", sample.ggml.name, made.values[3]);
    }
}

#[test]
fn values_that_cannot_be_stored_are_said() {
    for sample in samples().iter().step_by(4) {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = sample.values.clone();
            values[7] = value;
            assert!(sample.encode(&values).is_none(), "{}: {value}", sample.ggml.name);
        }
        if sample.ggml.dtype != Dtype::MXFP4 {
            for magnitude in [1e10, 1e15, 1e30] {
                let values = vec![magnitude; sample.values.len()];
                assert!(sample.encode(&values).is_none(), "{}: {magnitude}", sample.ggml.name);
            }
        }
    }
}

/// Bytes that are no data of anyone.
fn noise(len: usize, seed: &mut u64) -> Vec<u8> {
    let mut byte = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 56) as u8
    };
    (0..len).map(|_| byte()).collect()
}

#[test]
fn any_bytes_decode_and_what_is_not_finite_is_said() {
    let mut seed = 1;
    for (_, ggml) in TYPES {
        let (count, len) = (ggml.dtype.values(), ggml.dtype.bitsize() / 8);
        let tensor =
            TensorRef { file: FileId(0), offset: 0, dtype: ggml.dtype, shape: Shape_::new(&[1, 1]).unwrap() };
        let logical = detect("w", &tensor).unwrap().remove(0).logical;
        let (view, rect) = (View { rows: 1, cols: count }, Rect { rows: 0..1, cols: 0..count });
        let place = Place::new(&logical, view, &rect);
        for i in 0..500 {
            let bytes = if i == 0 { vec![0xff; len] } else { noise(len, &mut seed) };
            let mut out = vec![0.0; count as usize];
            let at = RowPiece { row: 0, cols: 0..count as usize };
            let finite = ggml.decode_row(Kernels::detect(), &bytes, place, at, &mut out);
            assert_eq!(finite, out.iter().all(|value| value.is_finite()), "{}", ggml.name);
            assert!(i > 0 || !finite, "{}: the scale is no number", ggml.name);
            if ggml.renew.is_none() {
                continue;
            }
            let mut made = vec![0; len];
            // Zeros with signs, digits that no quantizer writes, scales of zero: what is not changed stays.
            assert_eq!(encode_one(ggml, &bytes, &mut out, &mut made), finite, "{}", ggml.name);
            assert!(made == bytes, "{}", ggml.name);
            if finite {
                out[9] *= -1.5;
                let mut made = vec![0; len];
                encode_one(ggml, &bytes, &mut out, &mut made);
            }
        }
    }
}

#[test]
fn shapes_that_are_too_large_or_empty_are_refused() {
    let of = |axes: &[u64]| {
        let shape = Shape_::new(axes).unwrap();
        detect("w", &TensorRef { file: FileId(0), offset: 0, dtype: Dtype::Q4_K, shape })
    };
    let stack = of(&[4, 3, 2]).unwrap();
    assert_eq!((stack[0].logical.shape().axes(), stack[0].logical.block()), (&[4, 3, 512][..], (1, 256)));
    assert_eq!(of(&[2]).unwrap()[0].logical.shape().axes(), [512]);
    for axes in [&[1, u64::MAX / 256 + 1][..], &[1 << 40, 1 << 20], &[2, 0]] {
        assert!(of(axes).is_err(), "{axes:?}");
    }
}
