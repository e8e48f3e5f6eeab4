//! Decoding and encoding against tensors that other libraries wrote: `fixtures/vectors/`.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests read files of their own and panic")]

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use shardfold::kernels::{Kernels, ceil_log2};

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
    /// What was quantised.
    source: Option<Vec<f32>>,
}

/// The values of a weight: each code's times the scale of its block, in f32.
fn decode(codes: &[u8], scale: &[f32], shape: Shape, block: Shape) -> Vec<f32> {
    let mut values = vec![0.0; codes.len()];
    assert!(Kernels::detect().widen_e4m3(codes, &mut values));
    scaled(&values, scale, shape, block, |value, scale| value * scale)
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
        Dtype::F8_E8M0 => kernels.widen_e8m0(bytes, &mut values),
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
    assert_eq!(weight.dtype(), Dtype::F8_E4M3);
    let shape: Shape = weight.shape().try_into().unwrap();

    let scale = stored.tensor(&name.replace(".weight", scale_suffix)).unwrap();
    assert_eq!(scale.shape(), [shape[0].div_ceil(block[0]), shape[1].div_ceil(block[1])]);

    let meant = fs::read(path(vector, "expected.safetensors")).unwrap();
    let meant = SafeTensors::deserialize(&meant).unwrap();
    let plain = |tensor: safetensors::tensor::TensorView<'_>| {
        assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, &shape[..]));
        widen(Dtype::F32, tensor.data(), shape[0] * shape[1])
    };
    Vector {
        shape,
        block,
        codes: weight.data().to_vec(),
        scale_bytes: scale.data().to_vec(),
        scale: widen(scale.dtype(), scale.data(), blocks(shape, block)),
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
    Kernels::detect().widen_e8m0(&codes, &mut values);
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
