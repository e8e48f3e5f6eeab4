//! Codes with scales against what the libraries decode that wrote them.

use super::packed::{TILES, expected};
use super::*;

/// Vectors, and the encoding of each.
const SCALED: &[(&str, &str)] =
    &[("ct_fp8_tensor", "ct_fp8"), ("ct_fp8_channel", "ct_fp8"), ("ct_fp8_block", "ct_fp8")];

#[test]
fn codes_with_scales_decode_in_tiles_of_any_size() {
    for (vector, encoding) in SCALED {
        let file = fs::read(path(vector, "model.safetensors")).unwrap();
        let weights = recognised(&file, &json(vector, "config.json")).unwrap();
        let [Detected { name, logical, .. }] = weights.as_slice() else { panic!("{vector} has one weight") };
        let (shape, right) = expected(vector, name);
        assert_eq!((logical.encoding(), logical.shape().axes()), (*encoding, &shape[..]), "{vector}");
        for (rows, cols) in TILES {
            let values = decode_in_tiles(logical, &file, rows, cols);
            let wrong = values.iter().zip(&right).position(|(value, right)| value != right);
            assert_eq!(wrong, None, "{vector}: {name} in tiles of {rows} x {cols}");
            assert_eq!(values.len(), right.len());
        }
    }
}
