//! Decoding and encoding against tensors that other libraries wrote: `fixtures/vectors/`.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests read files of their own and panic")]

mod across;
mod distant;
mod ggml;
mod interleaved;
mod kept;
mod kept_double;
mod kept_mlx;
mod kept_packed;
mod kept_zeros;
mod packed;
mod scaled;
mod words;

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;

use crate::encodings::encoding::{Place, RowPiece, ToEncode};
use crate::encodings::logical::{Candidate, Detected, Logical, LogicalFields};
use crate::encodings::number::power_of;
use crate::encodings::{ENCODINGS, find as find_encoding};
use crate::formats::CONTAINERS;
use crate::formats::container::{FileBytes, Room};
use crate::formats::safetensors::testing::from_theirs;
use crate::kernels::dispatch::Kernels;
use crate::kernels::float8::ceil_log2;
use crate::tensor::dtype::Dtype;
use crate::tensor::rect::{Rect, View};
use crate::tensor::reference::{FileId, TensorRef};
use crate::tensor::shape::Shape as Shape_;

/// Vectors whose weight is E4M3 with a scale for each block, and the name of the scale beside `.weight`.
const BLOCK_FP8: [(&str, &str); 5] = [
    ("fp8_block_f32scale_small", ".weight_scale_inv"),
    ("fp8_block_f32scale_ragged", ".weight_scale_inv"),
    ("fp8_block_bf16scale_small", ".weight_scale_inv"),
    ("fp8_block_hf_float", ".weight_scale_inv"),
    ("fp8_block_ue8m0", ".scale"),
];

/// Rows and columns.
type Shape = [usize; 2];

/// One vector: a weight as stored, and what it means.
struct Vector {
    shape: Shape,
    block: Shape,
    codes: Vec<u8>,
    /// As stored, and its values.
    scale_bytes: Vec<u8>,
    scale: Vec<f32>,
    expected: Vec<f32>,
    /// What was quantized.
    source: Option<Vec<f32>>,
}

/// The values of a weight: each code's times the scale of its block, in f32.
fn decode(codes: &[u8], scale: &[f32], shape: Shape, block: Shape) -> Vec<f32> {
    let mut values = vec![0.0; codes.len()];
    assert!(Kernels::detect().widen_e4m3(codes, &mut values));
    scaled(&values, scale, shape, block, |value, scale| value * scale)
}

/// A weight as the library recognizes it in the vector's file, and the file.
fn logical(vector: &str) -> (Logical, Vec<u8>) {
    let bytes = fs::read(path(vector, "model.safetensors")).unwrap();
    let mut weights = recognised(&bytes, &json(vector, "config.json")).unwrap();
    assert_eq!(weights.len(), 1, "{vector}");
    (weights.remove(0).logical, bytes)
}

/// The weights of a file in the order of their codes, as the library recognizes them.
fn recognised(bytes: &[u8], config: &Value) -> crate::error::Result<Vec<Detected>> {
    let read = |offset: u64, buf: &mut [u8]| {
        buf.copy_from_slice(&bytes[offset as usize..][..buf.len()]);
        Ok(())
    };
    let file = FileBytes { len: bytes.len() as u64, read: &read };
    let header = CONTAINERS[0].read(&file, Room::ENDLESS).unwrap();
    let find = |name: &str| {
        let entry = header.tensors.iter().find(|entry| *entry.name == *name)?;
        let (dtype, shape) = (entry.dtype, entry.shape.clone());
        Some(TensorRef { file: FileId(0), offset: entry.offset, dtype, shape })
    };
    let read = |tensor: &TensorRef| {
        Ok(bytes[tensor.offset as usize..(tensor.offset + tensor.bytes()) as usize].to_vec())
    };
    let (mut weights, targets) = (Vec::new(), Default::default());
    for name in header.tensors.iter().map(|entry| &entry.name) {
        let tensor = find(name).unwrap();
        let quantization = config.get("quantization_config");
        let targets = &targets;
        let said = |_: &TensorRef, key: &str| {
            let all = CONTAINERS[0].metadata(&header.like).unwrap();
            Ok(all.into_iter().find(|(found, _)| found == key).map(|(_, value)| value))
        };
        let tensor = &tensor;
        let found = Candidate { name, tensor, quantization, find: &find, targets, read: &read, said: &said };
        for encoding in ENCODINGS {
            weights.extend(encoding.detect(&found)?);
        }
    }
    Ok(weights)
}

/// The bytes of a tile, part after part, as the reader would lay them.
fn tile_bytes(place: Place<'_>, file: &[u8]) -> Vec<u8> {
    let encoding = find_encoding(place.logical.encoding()).unwrap();
    let parts = place.logical.parts().iter().enumerate();
    let runs = parts.flat_map(|(i, part)| {
        let runs = encoding.runs(i, place);
        (0..runs.count).map(move |run| (part.offset + runs.first + run * runs.stride, runs.len))
    });
    runs.flat_map(|(at, len)| file[at as usize..(at + len) as usize].to_vec()).collect()
}

/// Decodes a weight in tiles of so many rows and columns.
fn decode_in_tiles(logical: &Logical, file: &[u8], rows: u64, cols: u64) -> Vec<f32> {
    let encoding = find_encoding(logical.encoding()).unwrap();
    let width = *logical.shape().axes().last().unwrap();
    let height = logical.shape().elements() / width;
    let view = View { rows: height, cols: width };
    let together = encoding.row_group(logical).min(height);
    let first = Rect { rows: 0..rows.min(together), cols: 0..cols.min(width) };
    let first = Place::new(logical, view, &first);
    let mut values = vec![f32::NAN; (height * width) as usize];
    let tops = (0..height).step_by(together as usize).flat_map(|matrix| {
        let end = matrix + together;
        (matrix..end).step_by(rows as usize).map(move |top| top..(top + rows).min(end))
    });
    for tile in tops {
        for left in (0..width).step_by(cols as usize) {
            let rect = Rect { rows: tile.clone(), cols: left..(left + cols).min(width) };
            let place = Place::new(logical, view, &rect);
            for part in 0..logical.parts().len() {
                let (bytes, most) = (encoding.runs(part, place).bytes(), encoding.max_bytes(part, first));
                assert!(bytes <= most, "part {part} of {rect:?} takes {bytes} bytes, more than {most}");
            }
            let parts = tile_bytes(place, file);
            for row in 0..rect.height() as usize {
                let at = RowPiece { row, cols: 0..rect.width() as usize };
                let start = (rect.rows.start as usize + row) * width as usize + rect.cols.start as usize;
                let out = &mut values[start..start + rect.width() as usize];
                assert!(encoding.decode_row(Kernels::detect(), &parts, place, at, out));
            }
        }
    }
    values
}

/// Encodes one part of a weight as one tile, from what its file holds now.
fn encode_part(logical: &Logical, file: &[u8], values: &[f32], part: usize) -> (Vec<u8>, Vec<f32>) {
    let [rows, cols] = *logical.shape().axes() else { panic!("two axes") };
    let (view, rect) = (View { rows, cols }, Rect { rows: 0..rows, cols: 0..cols });
    let place = Place::new(logical, view, &rect);
    let (source, mut values) = (tile_bytes(place, file), values.to_vec());
    let encoding = find_encoding(logical.encoding()).unwrap();
    let mut bytes = vec![0; encoding.runs(part, place).bytes() as usize];
    let (rows, cols) = (0..rows as usize, 0..cols as usize);
    let mut block = ToEncode { values: &mut values, rows, cols, place, part, source: &source, fresh: false };
    assert!(encoding.encode(Kernels::detect(), &mut block, &mut bytes).finite);
    (bytes, values)
}

/// The same file with other bytes in one part.
fn with_part(logical: &Logical, file: &[u8], part: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = file.to_vec();
    let at = logical.parts()[part].offset as usize;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

#[test]
fn the_encoding_decodes_in_tiles_of_any_size() {
    for (name, _) in BLOCK_FP8 {
        let (logical, file) = logical(name);
        let expected = block_fp8(name, BLOCK_FP8.iter().find(|(n, _)| *n == name).unwrap().1).expected;
        for (rows, cols) in [(1, 1_000), (5, 7), (16, 16), (1_000, 1_000), (3, 33)] {
            let values = decode_in_tiles(&logical, &file, rows, cols);
            assert!(values == expected, "{name} in tiles of {rows} x {cols}");
        }
    }
}

#[test]
fn the_encoding_keeps_scales_and_makes_new_ones_only_where_it_must() {
    for (name, scale_suffix) in BLOCK_FP8 {
        let (logical, file) = logical(name);
        let vector = block_fp8(name, scale_suffix);
        // What was decoded comes out as it went in, both parts.
        let kept = encode_part(&logical, &file, &vector.expected, 0);
        assert!(kept.0 == vector.codes && kept.1 == vector.expected, "{name}");
        assert!(encode_part(&logical, &file, &vector.expected, 1).0 == vector.scale_bytes, "{name}");
        let Some(source) = vector.source.filter(|_| name != "fp8_block_hf_float") else { continue };
        // The smallest scales there are take no value, so that all are computed again, as the library made them.
        let tiny: Vec<u8> = match logical.parts()[1].dtype {
            Dtype::F32 => 1.1e-30f32.to_le_bytes().repeat(vector.scale.len()),
            Dtype::BF16 => [0x01, 0x10].repeat(vector.scale.len()),
            _ => vec![1; vector.scale.len()],
        };
        let small = with_part(&logical, &file, 1, &tiny);
        assert!(encode_part(&logical, &small, &source, 0).0 == vector.codes, "{name}");
        assert!(encode_part(&logical, &small, &source, 1).0 == vector.scale_bytes, "{name}");
    }
}

#[test]
fn one_value_that_does_not_fit_changes_the_scale_of_its_block_alone() {
    // Blocks that are not square, so that rows and columns cannot be taken for each other.
    let shape = |axes: &[u64]| Shape_::new(axes).unwrap();
    let part = |offset, dtype, axes: &[u64]| TensorRef { file: FileId(0), offset, dtype, shape: shape(axes) };
    let parts = vec![part(0, Dtype::F8_E4M3, &[5, 9]), part(45, Dtype::F32, &[3, 3])];
    let fields = LogicalFields {
        encoding: "fp8_block".into(),
        shape: shape(&[5, 9]),
        block: (2, 4),
        parts,
        constants: Vec::new(),
    };
    let logical = Logical::from(fields);
    let mut file = vec![0x38; 45]; // 1.0
    let scales: Vec<f32> = (0..9).map(|i| 1.3 + i as f32).collect();
    file.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
    let mut values = decode_in_tiles(&logical, &file, 2, 9);
    assert_eq!(
        (values[0], values[4], values[8], values[2 * 9], values[4 * 9 + 8]),
        (1.3, 2.3, 3.3, 4.3, 9.3)
    );
    values[3 * 9 + 5] = -10_000.0; // rows 2 and 3, columns 4 to 7: scale 4
    let (_, decoded) = encode_part(&logical, &file, &values, 0);
    let new = encode_part(&logical, &file, &values, 1).0;
    for (i, (old, new)) in scales.iter().zip(new.as_chunks::<4>().0).enumerate() {
        let expected = if i == 4 { 10_000.0 / 448.0 } else { *old };
        assert_eq!(f32::from_le_bytes(*new), expected, "scale {i}");
    }
    assert_eq!(decoded[3 * 9 + 5], -448.0 * (10_000.0f32 / 448.0));
}

/// Where the config says that scales are powers of two, bytes are.
#[test]
fn scales_that_are_called_bytes_are_powers_of_two() {
    let (logical, file) = logical("fp8_block_ue8m0");
    let vector = block_fp8("fp8_block_ue8m0", ".scale");
    let text = b"\"F8_E8M0\"";
    let at = file.windows(text.len()).position(|window| window == text).unwrap();
    let mut bytes = file.clone();
    bytes[at..at + text.len()].copy_from_slice(b"\"U8\"     ");
    let config = json("fp8_block_ue8m0", "config.json");
    let weights = recognised(&bytes, &config).unwrap();
    assert_eq!(weights[0].logical.parts()[1].dtype, Dtype::U8);
    assert!(decode_in_tiles(&weights[0].logical, &bytes, 3, 33) == vector.expected);
    let tiny = with_part(&logical, &bytes, 1, &vec![1; vector.scale.len()]);
    let source = vector.source.unwrap();
    assert!(encode_part(&weights[0].logical, &tiny, &source, 0).0 == vector.codes);
    assert!(encode_part(&weights[0].logical, &tiny, &source, 1).0 == vector.scale_bytes);
    let mut other = config;
    other["quantization_config"]["scale_fmt"] = Value::Null;
    assert!(recognised(&bytes, &other).unwrap().is_empty(), "bytes that nothing explains");
}

/// The codes of a weight: each value divided by the scale of its block, as stored, in f32, then rounded.
fn encode(values: &[f32], scale: &[f32], shape: Shape, block: Shape) -> Vec<u8> {
    let quotients = scaled(values, scale, shape, block, |value, scale| value / scale);
    let mut codes = vec![0; values.len()];
    assert!(Kernels::detect().narrow_e4m3(&quotients, &mut codes).finite, "nothing is beyond 448");
    codes
}

/// Each value with the scale of its block.
fn scaled(
    values: &[f32],
    scale: &[f32],
    shape: Shape,
    block: Shape,
    join: impl Fn(f32, f32) -> f32,
) -> Vec<f32> {
    let place = |index| block_of(index, shape, block);
    values.iter().enumerate().map(|(index, value)| join(*value, scale[place(index)])).collect()
}

/// The largest magnitude of each block.
fn largest(values: &[f32], shape: Shape, block: Shape) -> Vec<f32> {
    let mut largest = vec![0.0_f32; blocks(shape, block)];
    for (index, value) in values.iter().enumerate() {
        let largest = &mut largest[block_of(index, shape, block)];
        *largest = largest.max(value.abs());
    }
    largest
}

/// Blocks of a weight; those at its edges may be cut off.
fn blocks(shape: Shape, block: Shape) -> usize {
    shape[0].div_ceil(block[0]) * shape[1].div_ceil(block[1])
}

/// The block of an element, both counted row by row.
fn block_of(index: usize, [_, cols]: Shape, block: Shape) -> usize {
    index / cols / block[0] * cols.div_ceil(block[1]) + index % cols / block[1]
}

fn path(vector: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/vectors").join(vector).join(file)
}

fn json(vector: &str, file: &str) -> Value {
    serde_json::from_slice(&fs::read(path(vector, file)).unwrap()).unwrap()
}

/// The values of a plain tensor or of scales.
fn widen(dtype: Dtype, bytes: &[u8], count: usize) -> Vec<f32> {
    let (kernels, mut values) = (Kernels::detect(), vec![0.0; count]);
    assert!(match dtype {
        Dtype::F32 => kernels.widen_f32(bytes, &mut values),
        Dtype::BF16 => kernels.widen_bf16(bytes, &mut values),
        Dtype::F16 => kernels.widen_f16(bytes, &mut values),
        Dtype::F8_E8M0 => {
            values.iter_mut().zip(bytes).for_each(|(value, code)| *value = power_of(*code));
            true
        }
        other => panic!("a plain tensor of {other:?}"),
    });
    values
}

fn block_fp8(vector: &str, scale_suffix: &str) -> Vector {
    let config = json(vector, "config.json");
    let block: Vec<usize> =
        serde_json::from_value(config["quantization_config"]["weight_block_size"].clone()).unwrap();
    let block: Shape = block.try_into().unwrap();

    let stored = fs::read(path(vector, "model.safetensors")).unwrap();
    let stored = SafeTensors::deserialize(&stored).unwrap();
    let name = stored.names().into_iter().find(|name| name.ends_with(".weight")).unwrap();
    let weight = stored.tensor(name).unwrap();
    assert_eq!(weight.dtype(), safetensors::Dtype::F8_E4M3);
    let shape: Shape = weight.shape().try_into().unwrap();

    let scale = stored.tensor(&name.replace(".weight", scale_suffix)).unwrap();
    assert_eq!(scale.shape(), [shape[0].div_ceil(block[0]), shape[1].div_ceil(block[1])]);

    let meant = fs::read(path(vector, "expected.safetensors")).unwrap();
    let meant = SafeTensors::deserialize(&meant).unwrap();
    let plain = |tensor: safetensors::tensor::TensorView<'_>| {
        assert_eq!((tensor.dtype(), tensor.shape()), (safetensors::Dtype::F32, &shape[..]));
        widen(Dtype::F32, tensor.data(), shape[0] * shape[1])
    };
    Vector {
        shape,
        block,
        codes: weight.data().to_vec(),
        scale_bytes: scale.data().to_vec(),
        scale: widen(from_theirs(scale.dtype()).unwrap(), scale.data(), blocks(shape, block)),
        expected: plain(meant.tensor(name).unwrap()),
        source: meant.tensor("source").ok().map(plain),
    }
}

#[test]
fn codes_mean_what_torch_says() {
    let codes: Vec<u8> = (0..=u8::MAX).collect();
    let mut values = vec![0.0; 256];
    let tables = json("float_codes", "codes.json");
    let table = |name: &str| tables[name].as_array().unwrap().iter().map(Value::as_f64).collect::<Vec<_>>();

    Kernels::detect().widen_e4m3(&codes, &mut values);
    for (code, (value, meant)) in values.iter().zip(table("f8_e4m3fn")).enumerate() {
        assert_eq!((!value.is_nan()).then_some(f64::from(*value)), meant, "E4M3 {code:#04x}");
    }
    values.iter_mut().zip(&codes).for_each(|(value, code)| *value = power_of(*code));
    for (code, (value, meant)) in values.iter().zip(table("f8_e8m0_log2")).enumerate() {
        assert_eq!((!value.is_nan()).then_some(f64::from(*value).log2()), meant, "E8M0 {code:#04x}");
    }
}

#[test]
fn blocks_of_fp8_decode_to_the_expected_values() {
    for (name, scale_suffix) in BLOCK_FP8 {
        let vector = block_fp8(name, scale_suffix);
        let values = decode(&vector.codes, &vector.scale, vector.shape, vector.block);
        // 0 and -0 are equal here: some of the libraries lose the sign.
        let wrong = values.iter().zip(&vector.expected).position(|(value, expected)| value != expected);
        assert_eq!(wrong, None, "{name}: {} values", values.len());
        assert_eq!(values.len(), vector.expected.len(), "{name}");
    }
}

#[test]
fn sources_encode_to_the_codes_that_the_library_wrote() {
    let mut encoded = Vec::new();
    for (name, scale_suffix) in BLOCK_FP8 {
        let vector = block_fp8(name, scale_suffix);
        let Some(source) = &vector.source else { continue };
        let codes = encode(source, &vector.scale, vector.shape, vector.block);
        let differing = codes.iter().zip(&vector.codes).filter(|(ours, theirs)| ours != theirs).count();
        assert_eq!(differing, 0, "{name}: of {}", codes.len());
        encoded.push(name);
    }
    assert_eq!(encoded.len(), 4, "{encoded:?}");
}

/// Decoding and encoding with the same scales gives the same codes, whoever made them.
#[test]
fn decoded_values_encode_to_the_same_codes() {
    for (name, scale_suffix) in BLOCK_FP8 {
        let Vector { shape, block, codes, scale, .. } = block_fp8(name, scale_suffix);
        assert!(encode(&decode(&codes, &scale, shape, block), &scale, shape, block) == codes, "{name}");
    }
}

/// The scales follow from the largest magnitude of each block by the rule of the vector's maker.
#[test]
fn sources_have_the_scales_that_the_library_wrote() {
    // In torch a number divided by a tensor is its reciprocal times the number: two roundings.
    let reciprocal = |largest: f32| 1.0 / ((1.0 / largest) * 448.0);
    for (name, scale_suffix) in BLOCK_FP8 {
        let vector = block_fp8(name, scale_suffix);
        let Some(source) = &vector.source else { continue };
        let largest = largest(source, vector.shape, vector.block);
        let scale_bytes: Vec<u8> = match name {
            "fp8_block_f32scale_small" => largest.iter().flat_map(|m| (m / 448.0).to_le_bytes()).collect(),
            "fp8_block_bf16scale_small" => {
                let scale: Vec<f32> = largest.iter().map(|m| m / 448.0).collect();
                let mut bytes = vec![0; 2 * scale.len()];
                Kernels::detect().narrow_bf16(&scale, &mut bytes);
                bytes
            }
            "fp8_block_hf_float" => largest.iter().flat_map(|m| reciprocal(*m).to_le_bytes()).collect(),
            "fp8_block_ue8m0" => {
                let code = |m: &f32| u8::try_from(ceil_log2(reciprocal(*m)).unwrap() + 127).unwrap();
                largest.iter().map(code).collect()
            }
            other => panic!("no rule for {other}"),
        };
        assert_eq!(scale_bytes, vector.scale_bytes, "{name}");
    }
}
