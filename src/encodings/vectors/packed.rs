//! Packed integers and MXFP4 against what compressed-tensors and transformers decode.

use super::*;

/// Vectors, and the encoding of each.
const PACKED: [(&str, &str); 7] = [
    ("ct_int4_sym_g32_bf16", "packed_int4"),
    ("ct_int4_asym_g32", "packed_int4"),
    ("ct_int4_channel_odd_cols", "packed_int4"),
    ("ct_int4_actorder_group", "packed_int4"),
    ("ct_int8_sym_g32", "packed_int8"),
    ("ct_int3_sym_g32", "packed_int3"),
    ("gpt_oss_mxfp4", "mxfp4"),
];

/// Rows × columns of tiles: pieces of a row, rows, and what begins and ends within bytes, groups and words.
pub(super) const TILES: [(u64, u64); 9] =
    [(1, 1), (1, 7), (1, 1_000), (2, 1_000), (3, 33), (5, 1_000), (8, 8), (33, 5), (1_000, 1_000)];

/// The values of a weight before they are rounded to another type.
pub(super) fn expected(vector: &str, name: &str) -> (Vec<u64>, Vec<f32>) {
    let file = fs::read(path(vector, "expected.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let tensor = file.tensor(&format!("{name}.f32")).or_else(|_| file.tensor(name)).unwrap();
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{vector}");
    let shape = tensor.shape().iter().map(|&axis| axis as u64).collect();
    (shape, widen(Dtype::F32, tensor.data(), tensor.data().len() / 4))
}

#[test]
fn packed_weights_decode_in_tiles_of_any_size() {
    let mut weights = 0;
    for (vector, encoding) in PACKED {
        let file = fs::read(path(vector, "model.safetensors")).unwrap();
        for Detected { name, logical, .. } in recognised(&file, &json(vector, "config.json")).unwrap() {
            weights += 1;
            let (shape, right) = expected(vector, &name);
            assert_eq!((logical.encoding(), logical.shape().axes()), (encoding, &shape[..]), "{vector}");
            for (rows, cols) in TILES {
                let values = decode_in_tiles(&logical, &file, rows, cols);
                let wrong = values.iter().zip(&right).position(|(value, right)| value != right);
                assert_eq!(wrong, None, "{vector}: {name} in tiles of {rows} x {cols}");
                assert_eq!(values.len(), right.len());
            }
        }
    }
    assert_eq!(weights, 8, "gpt-oss has two");
}

/// The field is the code + 8 (key-mapping.md, vector 9): what two's complement would get wrong by 8.
#[test]
fn a_field_of_four_bits_is_its_code_and_eight() {
    let encoding = logical("ct_int4_sym_g32_bf16").0.encoding().to_owned().into();
    let shape = |axes: &[u64]| Shape_::new(axes).unwrap();
    let part = |offset, dtype, axes: &[u64]| TensorRef { file: FileId(0), offset, dtype, shape: shape(axes) };
    let parts = vec![part(0, Dtype::I32, &[1, 1]), part(4, Dtype::F32, &[1, 1])];
    let logical: Logical =
        LogicalFields { encoding, shape: shape(&[1, 8]), block: (1, 8), parts, constants: Vec::new() }.into();
    // Fields 0, 7, 8, 15 and their reverse; the first value is in the lowest bits.
    let file = [&0x078f_f870_u32.to_le_bytes()[..], &0.5f32.to_le_bytes()].concat();
    let right = [-8.0, -1.0, 0.0, 7.0, 7.0, 0.0, -1.0, -8.0].map(|code| code * 0.5f32);
    assert_eq!(decode_in_tiles(&logical, &file, 1, 8), right);
    assert_eq!(decode_in_tiles(&logical, &file, 1, 3), right);
}

/// Where zero points go down the rows, a word holds those of eight rows.
#[test]
fn zero_points_are_taken_from_any_row() {
    let (logical, file) = logical("ct_int4_asym_g32");
    let (_, right) = expected("ct_int4_asym_g32", "model.layers.1.mlp.experts.3.up_proj.weight");
    let cols = logical.shape().axes()[1] as usize;
    for row in [0, 7, 8, 15] {
        let rect = Rect { rows: row as u64..row as u64 + 1, cols: 0..cols as u64 };
        let view = View { rows: logical.shape().axes()[0], cols: cols as u64 };
        let place = Place::new(&logical, view, &rect);
        let (parts, mut out) = (tile_bytes(place, &file), vec![0.0; cols]);
        let encoding = find_encoding("packed_int4").unwrap();
        assert!(encoding.decode_row(
            Kernels::detect(),
            &parts,
            place,
            RowPiece { row: 0, cols: 0..cols },
            &mut out
        ));
        assert_eq!(out, right[row * cols..(row + 1) * cols], "row {row}");
    }
}

/// What is wrong with a vector whose config or tensors were changed.
pub(super) fn refusal(vector: &str, change: impl FnOnce(&mut Value, &mut Vec<u8>)) -> String {
    let (mut config, mut file) =
        (json(vector, "config.json"), fs::read(path(vector, "model.safetensors")).unwrap());
    change(&mut config, &mut file);
    match recognised(&file, &config) {
        Ok(_) => panic!("{vector} is taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_shape_that_no_header_says_is_read_and_checked() {
    let odd = "ct_int4_channel_odd_cols";
    let (logical, file) = logical(odd);
    assert_eq!(logical.shape().axes(), [10, 37]);
    let stem = "model.layers.1.mlp.experts.3.up_proj.weight";
    let at = {
        let stored = SafeTensors::deserialize(&file).unwrap();
        let data = stored.tensor(&format!("{stem}_shape")).unwrap().data().as_ptr() as usize;
        data - file.as_ptr() as usize
    };
    let with = |rows: i64, cols: i64| {
        refusal(odd, |_, file| {
            file[at..at + 8].copy_from_slice(&rows.to_le_bytes());
            file[at + 8..at + 16].copy_from_slice(&cols.to_le_bytes());
        })
    };
    assert!(with(10, 41).contains("5 words in a row, expected 6 for 41 columns"), "{}", with(10, 41));
    assert!(with(9, 37).contains("holds [9, 37], and its quantized data has 10 rows"), "{}", with(9, 37));
    assert!(with(10, -1).contains("holds [10, -1]"), "{}", with(10, -1));
}

#[test]
fn codes_that_are_no_number_are_said() {
    let (logical, file) = logical("ct_int4_sym_g32_bf16");
    let nan = with_part(&logical, &file, 1, &[0xc0, 0x7f]);
    let file_of = |vector| fs::read(path(vector, "model.safetensors")).unwrap();
    let mxfp4 = file_of("gpt_oss_mxfp4");
    let weights = recognised(&mxfp4, &json("gpt_oss_mxfp4", "config.json")).unwrap();
    let at = weights[0].logical.parts()[1].offset as usize;
    let mut no_scale = mxfp4.clone();
    no_scale[at] = 255;
    let actorder = file_of("ct_int4_actorder_group");
    let ordered = recognised(&actorder, &json("ct_int4_actorder_group", "config.json")).unwrap();
    let beyond = with_part(&ordered[0].logical, &actorder, 2, &3i32.to_le_bytes());
    let none = with_part(&ordered[0].logical, &actorder, 2, &(-1i32).to_le_bytes());
    for (what, logical, file) in [
        ("a scale that is NaN", &logical, &nan),
        ("E8M0 255", &weights[0].logical, &no_scale),
        ("a group beyond the last", &ordered[0].logical, &beyond),
        ("the group -1", &ordered[0].logical, &none),
    ] {
        let width = *logical.shape().axes().last().unwrap();
        let rect = Rect { rows: 0..1, cols: 0..width };
        let view = View { rows: logical.shape().elements() / width, cols: width };
        let place = Place::new(logical, view, &rect);
        let (parts, mut out) = (tile_bytes(place, file), vec![0.0; width as usize]);
        let encoding = find_encoding(logical.encoding()).unwrap();
        let at = RowPiece { row: 0, cols: 0..width as usize };
        assert!(!encoding.decode_row(Kernels::detect(), &parts, place, at, &mut out), "{what}");
    }
}
