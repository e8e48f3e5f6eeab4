//! Encoding again with the scales that are there, and with new ones by the rules of the libraries that wrote the vectors.

use super::*;

/// Vectors that are encoded again, and whether the scales that the library made of what it quantized are made again, for which
/// their blocks must lie in tiles.
const KEPT: &[(&str, bool)] = &[
    ("ct_fp8_tensor", false),
    ("ct_fp8_channel", true),
    ("ct_fp8_block", true),
    ("ct_fp8_block_ragged", true),
    ("ct_fp8_channel_bf16", true),
    ("ct_fp8_group", true),
    ("ct_int8_w8a8_channel", true),
    ("ct_int8_tensor", false),
    ("ct_int8_group", true),
    ("bnb_int8", true),
    ("ct_mxfp8", true),
    ("ct_mxfp4", true),
    ("ct_mxfp6", true),
    ("deepseek_v4_fp4", true),
    ("ct_nvfp4", true),
    ("modelopt_nvfp4", true),
    ("ct_int4_sym_g32_bf16", true),
    ("ct_int4_channel_odd_cols", true),
    ("ct_int8_sym_g32", true),
    ("ct_int3_sym_g32", true),
    ("ct_int4_asym_g32", true),
    ("ct_int4_actorder_group", true),
    ("bnb_nf4", true),
    ("bnb_fp4", true),
    ("bnb_nf4_experts3d", true),
    ("bnb_nf4_double", false),
    ("mlx_affine_3bit_g64", true),
    ("mlx_affine_4bit_g64", true),
    ("mlx_affine_6bit_g64", true),
    ("mlx_affine_8bit_g32", true),
    ("mlx_mxfp4_4bit_g32", true),
    ("mlx_mxfp8_8bit_g32", true),
    ("mlx_nvfp4_4bit_g16", true),
    ("quanto_qint8", true),
    ("quanto_qfloat8", true),
    ("torchao_int8wo", true),
    ("torchao_int8_asym_group", true),
    ("torchao_fp8wo", true),
    ("torchao_fp8_tensor", false),
];

/// Rows × columns of tiles, before they are rounded up to what is encoded together.
pub(super) const SIZES: [(u64, u64); 6] = [(1, 1), (1, 6), (2, 64), (3, 5), (7, 1_000), (1_000, 1_000)];

/// One part of a weight, encoded in tiles and in these in blocks, as a merge does; none if a value does not fit.
pub(super) fn encode_in_tiles(
    logical: &Logical,
    file: &[u8],
    of: (&[f32], usize),
    size: (u64, u64),
) -> Option<Vec<u8>> {
    encode_by(logical, file, of, (size, false))
}

/// The same, where that is said with all scales made anew.
pub(super) fn encode_by(
    logical: &Logical,
    file: &[u8],
    (values, part): (&[f32], usize),
    ((rows, cols), fresh): ((u64, u64), bool),
) -> Option<Vec<u8>> {
    let encoding = find_encoding(logical.encoding()).unwrap();
    let width = *logical.shape().axes().last().unwrap();
    let view = View { rows: logical.shape().elements() / width, cols: width };
    let (high, wide) = encoding.block_shape(logical);
    let (rows, cols) = (rows.next_multiple_of(high), cols.next_multiple_of(wide));
    let across = if (high, wide) == (1, 1) { cols } else { width };
    let mut made = vec![0xaa; logical.parts()[part].bytes() as usize];
    for top in (0..view.rows).step_by(rows as usize) {
        for left in (0..width).step_by(across as usize) {
            let rect =
                Rect { rows: top..(top + rows).min(view.rows), cols: left..(left + across).min(width) };
            let place = Place::new(logical, view, &rect);
            let (source, runs) = (tile_bytes(place, file), encoding.runs(part, place));
            let mut tile = vec![0x55; runs.bytes() as usize];
            for from in (0..rect.width() as usize).step_by(cols as usize) {
                let to = (from + cols as usize).min(rect.width() as usize);
                let start = |row: u64| (row * width + rect.cols.start) as usize;
                let mut block: Vec<f32> =
                    rect.rows.clone().flat_map(|row| &values[start(row)..][from..to]).copied().collect();
                let (rows, cols) = (0..rect.height() as usize, from..to);
                let mut of = ToEncode { values: &mut block, rows, cols, place, part, source: &source, fresh };
                if !encoding.encode(Kernels::detect(), &mut of, &mut tile).finite {
                    return None;
                }
            }
            for (run, bytes) in (0..runs.count).zip(tile.chunks(runs.len as usize)) {
                let at = (runs.first + run * runs.stride) as usize;
                made[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
    Some(made)
}

/// The parts of a weight that are made again, and what its file holds of each.
fn made_parts<'f>(logical: &Logical, file: &'f [u8]) -> Vec<(usize, &'f [u8])> {
    let encoding = find_encoding(logical.encoding()).unwrap();
    assert_eq!(encoding.decode_only(logical), None);
    let parts = logical.parts().iter().enumerate().filter(|(part, _)| !encoding.is_kept(logical, *part));
    parts.map(|(i, part)| (i, &file[part.offset as usize..][..part.bytes() as usize])).collect()
}

fn decoded(logical: &Logical, file: &[u8]) -> Vec<f32> {
    decode_in_tiles(logical, file, 1_000, 1_000)
}

#[test]
fn what_is_decoded_is_encoded_to_the_same_bytes() {
    for (vector, _) in KEPT {
        let (logical, file) = logical(vector);
        let values = decoded(&logical, &file);
        for size in SIZES {
            for (part, right) in made_parts(&logical, &file) {
                let made = encode_in_tiles(&logical, &file, (&values, part), size).unwrap();
                assert!(made == right, "{vector}: part {part} in tiles of {size:?}");
            }
        }
    }
}

/// The smallest scales there are take no value, so that all are made anew, as the library made them.
#[test]
fn new_scales_are_those_of_the_library() {
    let mut made_again = Vec::new();
    for (vector, _) in KEPT.iter().filter(|(_, is_renewed)| *is_renewed) {
        let (logical, file) = logical(vector);
        let stored = fs::read(path(vector, "expected.safetensors")).unwrap();
        let stored = SafeTensors::deserialize(&stored).unwrap();
        let Ok(source) = stored.tensor("source") else { continue };
        made_again.push(*vector);
        let count = logical.shape().elements() as usize;
        let source = widen(from_theirs(source.dtype()).unwrap(), source.data(), count);
        let scales = &logical.parts()[1];
        let tiny: &[u8] = match scales.dtype {
            Dtype::F32 => &1.1e-30f32.to_le_bytes(),
            Dtype::BF16 => &[0x01, 0x10],
            _ => &[1],
        };
        let small = with_part(&logical, &file, 1, &tiny.repeat(scales.shape.elements() as usize));
        for size in SIZES {
            for (part, right) in made_parts(&logical, &file) {
                let made = encode_in_tiles(&logical, &small, (&source, part), size).unwrap();
                let wrong = made.iter().zip(right).filter(|(made, right)| made != right).count();
                // Of packed integers the library rounds quotients to the type of the scales first, which puts some of them to the code
                // beside the nearest (quantized-bases.md 5.4: 1.6 % of small ones, of which a byte has two; 10 % of 8 bits).
                let most = match (logical.encoding(), part) {
                    ("packed_int3" | "packed_int4", 0) => made.len() / 30,
                    ("packed_int8", 0) => made.len() / 8,
                    _ => 0,
                };
                assert!(
                    wrong <= most,
                    "{vector}: part {part} in tiles of {size:?}: {wrong} of {}",
                    made.len()
                );
            }
        }
    }
    assert_eq!(made_again.len(), 18, "{made_again:?}");
}

/// A weight of that encoding with these rows of codes, each with a scale of its own, and its file.
fn weight(encoding: &'static str, codes: &[u8], scales: &[u8], dtype: Dtype) -> (Logical, Vec<u8>) {
    let rows = scales.len() as u64 * 8 / dtype.bitsize() as u64;
    let bits = match encoding {
        "packed_int3" => 3,
        "packed_int4" | "ct_mxfp4" | "deepseek_fp4" => 4,
        "ct_mxfp6" => 6,
        _ => 8,
    };
    let (bytes, cols) = (codes.len() as u64, codes.len() as u64 * 8 / bits);
    let part = |offset, dtype, axes: &[u64]| {
        let shape = Shape_::new(axes).unwrap();
        TensorRef { file: FileId(0), offset, dtype, shape }
    };
    let parts = vec![part(0, Dtype::I8, &[rows, bytes]), part(rows * bytes, dtype, &[rows, 1])];
    let shape = Shape_::new(&[rows, cols]).unwrap();
    let fields =
        LogicalFields { encoding: encoding.into(), shape, block: (1, cols), parts, constants: Vec::new() };
    (fields.into(), [codes.repeat(rows as usize), scales.to_vec()].concat())
}

/// Every code with scales of many significands: of some the product with the largest code is a little more than 448 of them.
#[test]
fn every_code_comes_out_as_it_went_in_whatever_its_scale() {
    let mut seed = 7u32;
    let mut numbers = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from_bits((seed >> 9) | 0x3a00_0000)
    };
    let f32s: Vec<u8> = (0..2000).flat_map(|_| numbers().to_le_bytes()).collect();
    let halves: Vec<u8> =
        (0..2000).flat_map(|_| half::f16::from_f32(numbers() * 3.0).to_le_bytes()).collect();
    let bf16s: Vec<u8> = (0..2000).flat_map(|_| half::bf16::from_f32(numbers()).to_le_bytes()).collect();
    let powers: Vec<u8> = (30..=254 - 20).collect();
    let floats: Vec<u8> = (0..=u8::MAX).filter(|code| code & 0x7f != 0x7f).collect();
    let whole: Vec<u8> = (0..=u8::MAX).collect();
    for (encoding, codes, scales, dtype) in [
        ("fp8_block", &floats, &f32s, Dtype::F32),
        ("ct_fp8", &floats, &f32s, Dtype::F32),
        ("ct_fp8", &floats, &halves, Dtype::F16),
        ("ct_fp8", &floats, &bf16s, Dtype::BF16),
        ("ct_int8", &whole, &f32s, Dtype::F32),
        ("ct_int8", &whole, &bf16s, Dtype::BF16),
        ("bnb_int8", &whole, &f32s, Dtype::F32),
        ("quanto_int8", &whole, &bf16s, Dtype::BF16),
        ("quanto_float8", &floats, &halves, Dtype::F16),
        ("torchao_int8", &whole, &f32s, Dtype::F32),
        ("torchao_float8", &floats, &f32s, Dtype::F32),
        ("mxfp8", &floats, &powers, Dtype::U8),
        ("packed_int4", &whole, &f32s, Dtype::F32),
        ("packed_int3", &whole[..252].to_vec(), &halves, Dtype::F16),
        ("packed_int8", &whole, &bf16s, Dtype::BF16),
        ("ct_mxfp4", &whole, &powers, Dtype::U8),
        ("deepseek_fp4", &whole, &powers, Dtype::F8_E8M0),
        ("ct_mxfp6", &whole[1..].to_vec(), &powers, Dtype::U8),
    ] {
        let (logical, file) = weight(encoding, codes, scales, dtype);
        let values = decoded(&logical, &file);
        for (part, right) in made_parts(&logical, &file) {
            let made = encode_in_tiles(&logical, &file, (&values, part), (50, 1_000)).unwrap();
            let wrong = made.iter().zip(right).filter(|(made, right)| made != right).count();
            assert_eq!(wrong, 0, "{encoding} with {dtype:?}: part {part}, of {}", made.len());
        }
    }
}

/// Codes are those of a new scale as it is stored.
#[test]
fn new_scales_are_rounded_before_anything_is_divided_by_them() {
    let values: Vec<f32> = (0..2000).map(|i| (i as f32 * 0.37).sin() * 3.7).collect();
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let half = half::f16::from_f32(largest / 448.0);
    let brain = half::bf16::from_f32(largest / 448.0);
    let mut quotients = Vec::new();
    for (dtype, tiny, stored, scale) in [
        (Dtype::F16, [1, 0], half.to_le_bytes(), half.to_f32()),
        (Dtype::BF16, [1, 16], brain.to_le_bytes(), brain.to_f32()),
    ] {
        let (logical, file) = weight("ct_fp8", &[0; 2000], &tiny, dtype);
        let encode = |part| encode_in_tiles(&logical, &file, (&values, part), (1, 2000)).unwrap();
        assert_eq!(encode(1), stored);
        let mut right = vec![0; 2000];
        let divided: Vec<f32> = values.iter().map(|value| (value / scale).clamp(-448.0, 448.0)).collect();
        Kernels::scalar().narrow_e4m3(&divided, &mut right);
        assert_eq!(encode(0), right, "{dtype:?}");
        quotients.push(right);
    }
    assert!(quotients[0] != quotients[1], "the two scales differ enough to tell");
}

/// What does not fit a scale that serves a whole tensor or column is said, and so is what is no number.
#[test]
fn what_no_scale_takes_is_said() {
    for vector in ["ct_fp8_tensor", "ct_int8_tensor"] {
        let (logical, file) = logical(vector);
        let values = decoded(&logical, &file);
        assert_eq!(made_parts(&logical, &file).len(), 1, "the scale stays");
        let largest = values.iter().copied().max_by(|one, other| one.abs().total_cmp(&other.abs())).unwrap();
        for (value, fits) in [(largest, true), (2.0 * largest, false), (f32::NAN, false)] {
            let mut values = values.clone();
            values[3] = value;
            let made = encode_in_tiles(&logical, &file, (&values, 0), (1, 1));
            assert_eq!(made.is_some(), fits, "{vector}: {value}");
        }
    }
    for vector in ["ct_fp8_group", "ct_int8_w8a8_channel", "bnb_int8", "ct_mxfp8"] {
        let (logical, file) = logical(vector);
        for value in [f32::NAN, f32::NEG_INFINITY] {
            let mut values = decoded(&logical, &file);
            values[3] = value;
            for part in [0, 1] {
                assert!(encode_in_tiles(&logical, &file, (&values, part), (1, 1)).is_none(), "{vector}");
            }
        }
    }
}

/// bitsandbytes multiplies by the reciprocal of a block's magnitude, which beside a limit between codes is not the same as a division.
#[test]
fn magnitudes_of_bitsandbytes_divide_as_it_does() {
    let (logical, file) = logical("bnb_nf4");
    let number = |at: u64| f32::from_le_bytes(file[at as usize..][..4].try_into().unwrap());
    let mut steps: Vec<f32> = (0..16).map(|i| number(logical.parts()[2].offset + 4 * i)).collect();
    steps.sort_by(f32::total_cmp);
    let limits: Vec<f32> = steps.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
    let value = |y: f32| steps[limits.iter().filter(|limit| **limit < y).count()];
    let count = logical.shape().elements() as usize;
    let (mut values, mut right, mut otherwise) = (Vec::new(), Vec::new(), 0);
    for i in 0..count {
        let largest = 1.0 + (i / 64) as f32 * 0.0123;
        let x = match i % 64 {
            0 => largest,
            at => f32::from_bits((limits[at % 15] * largest).to_bits() + at as u32 % 4 - 1),
        };
        let y = x * (1.0 / largest);
        otherwise += usize::from(value(y) != value(x / largest));
        values.push(x);
        right.push(value(y) * largest);
    }
    assert!(otherwise > 10, "{otherwise}");
    let small = with_part(&logical, &file, 1, &1e-30f32.to_le_bytes().repeat(count / 64));
    let [codes, scales] =
        [0, 1].map(|part| encode_in_tiles(&logical, &small, (&values, part), (1, 1)).unwrap());
    let made = with_part(&logical, &with_part(&logical, &file, 0, &codes), 1, &scales);
    assert!(decoded(&logical, &made) == right);
}

/// A scale of nothing takes nothing but zeros.
#[test]
fn blocks_of_zeros_may_have_a_scale_of_zero() {
    let (logical, file) = weight("bnb_int8", &[0; 8], &0f32.to_le_bytes(), Dtype::F32);
    for part in [0, 1] {
        let bytes = encode_in_tiles(&logical, &file, (&[0.0; 8], part), (1, 8)).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
    }
    let values = [0.0, 0.0, -2.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    assert_eq!(encode_in_tiles(&logical, &file, (&values, 1), (1, 8)).unwrap(), 2f32.to_le_bytes());
    let codes = encode_in_tiles(&logical, &file, (&values, 0), (1, 8)).unwrap();
    // 63.5, to even.
    assert_eq!(codes, [0, 0, 0x81, 0, 64, 0, 0, 0]);
}
