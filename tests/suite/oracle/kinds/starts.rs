//! Where a tensor starts from: the base, codes with scales, another tensor, an adapter.

use safetensors::Dtype;
use serde_json::{Value, json};

use super::super::Tensors;
use super::super::case::{Case, Right};
use super::super::compare::{Shown, compare};
use super::super::float::Tensor;
use super::super::running::Running;

fn case(json: Value, base: &[(&str, Tensor)], adapter: &[(&str, Tensor)]) -> Case {
    let tensors = |of: &[(&str, Tensor)]| -> Tensors {
        of.iter().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect()
    };
    Case { json, base: tensors(base), merged: tensors(&[]), adapters: vec![tensors(adapter)] }
}

fn tensor(shape: &[usize], values: &[f64], dtype: Dtype) -> Tensor {
    Tensor::rounded(values, shape, dtype)
}

/// Whether ours and PEFT's are taken.
fn takes(case: &Case, name: &str, ours: &Tensor, peft: &Tensor) -> bool {
    (ours.dtype, ours.shape.clone()) == case.kind(name)
        && compare(name, &case.right(name), ours, peft, &mut Shown::default()).is_ok()
}

#[test]
fn created_and_replaced_tensors() {
    let json = json!({
        "created": [{ "tensor": "head", "from": "embed" }],
        "dropped": ["old"],
        "replaced": [
            { "tensor": "embed", "adapter": 0, "key": "grown" },
            { "tensor": "new", "adapter": 0, "key": "new" },
        ],
        "adapters": [{ "dir": "adapter", "weight": 1.0 }],
        "deltas": [{ "tensor": "head", "a": null, "b": "b", "adapter": 0, "scale": 2.0, "transposed": false }],
        "dtypes": { "new": "BF16" },
    });
    let embed = tensor(&[1, 2], &[1.0, 2.0], Dtype::BF16);
    let grown = [1.0 + 2f64.powi(-9), 5.0, 6.0, 7.0];
    let case = case(
        json,
        &[("embed", embed.clone()), ("old", embed.clone()), ("same", embed.clone())],
        &[
            ("grown", tensor(&[2, 2], &grown, Dtype::F32)),
            ("new", tensor(&[1], &[3.0], Dtype::F32)),
            ("b", tensor(&[1, 2], &[10.0, 20.0], Dtype::F32)),
        ],
    );
    assert_eq!(case.names().into_iter().collect::<Vec<_>>(), ["embed", "head", "new", "same"]);
    let takes = |name, ours: &Tensor| takes(&case, name, ours, ours);
    // The head starts from the base's value, not from what replaced it, and has its shape.
    assert!(takes("head", &tensor(&[1, 2], &[21.0, 42.0], Dtype::BF16)));
    assert!(!takes("head", &embed));
    assert!(takes("embed", &tensor(&[2, 2], &[1.0, 5.0, 6.0, 7.0], Dtype::BF16)));
    assert!(!takes("embed", &tensor(&[2, 2], &[1.0078125, 5.0, 6.0, 7.0], Dtype::BF16)), "rounded up");
    assert!(!takes("embed", &tensor(&[2, 2], &grown, Dtype::F32)), "another dtype");
    assert!(!takes("embed", &embed), "another shape");
    assert!(takes("new", &tensor(&[1], &[3.0], Dtype::BF16)));
    assert!(takes("same", &embed));
    assert!(!takes("same", &tensor(&[1, 2], &[1.0, 2.015625], Dtype::BF16)));
    assert!(case.is_touched("head") && case.is_touched("embed") && !case.is_touched("same"));
}

/// Codes of 3 × 3 in blocks of 2 × 2, so that the last blocks are cut short.
fn quantised(dtypes: &Value) -> Case {
    let codes = Tensor { dtype: Dtype::F8_E4M3, shape: vec![3, 3], raw: vec![0x38; 9] };
    let scales = tensor(&[2, 2], &[1.0, 2.0, 4.0, 8.0 + 2f64.powi(-7)], Dtype::F32);
    let json = json!({
        "quantised": { "w": { "scale": "s", "block": [2, 2] }, "same": { "scale": "s", "block": [2, 2] } },
        "dtypes": dtypes,
        "adapters": [{ "dir": "adapter", "weight": 1.0 }],
        "deltas": [{ "tensor": "w", "a": "a", "b": "b", "adapter": 0, "scale": 1.0, "transposed": false }],
    });
    let ones = [1.0, 1.0, 1.0];
    let factors =
        [("a", tensor(&[1, 3], &ones, Dtype::F32)), ("b", tensor(&[3, 1], &[0.5, 0.0, 0.0], Dtype::F32))];
    case(json, &[("w", codes.clone()), ("s", scales), ("same", codes)], &factors)
}

#[test]
fn codes_are_decoded_block_by_block() {
    let case = quantised(&json!({ "w": "BF16", "same": "BF16" }));
    let ours = |values: [f64; 9]| tensor(&[3, 3], &values, Dtype::BF16);
    let takes = |name, values| takes(&case, name, &ours(values), &ours(values));
    assert!(takes("same", [1.0, 1.0, 2.0, 1.0, 1.0, 2.0, 4.0, 4.0, 8.0]));
    assert!(!takes("same", [1.0, 2.0, 2.0, 1.0, 2.0, 2.0, 4.0, 8.0, 8.0]), "blocks of one and a half");
    assert!(takes("w", [1.5, 1.5, 2.5, 1.0, 1.0, 2.0, 4.0, 4.0, 8.0]));
    assert!(!takes("w", [1.5, 1.5, 1.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), "codes without their scales");
}

#[test]
fn codes_stay_codes() {
    let case = quantised(&json!({}));
    let codes = |raw: [u8; 9]| Tensor { dtype: Dtype::F8_E4M3, shape: vec![3, 3], raw: raw.to_vec() };
    // 1.5 is 0x3c. 2.5 with a scale of 2 is 1.25, or 0x3a.
    let right = [0x3c, 0x3c, 0x3a, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38];
    assert!(takes(&case, "w", &codes(right), &codes(right)));
    let scales = case.base["s"].clone();
    assert!(takes(&case, "s", &scales, &scales));
    for (i, wrong) in [(0, 0x3d), (2, 0x3b), (3, 0x39), (8, 0x37)] {
        let mut other = right;
        other[i] = wrong;
        assert!(!takes(&case, "w", &codes(other), &codes(right)), "ours has another code at {i}");
        assert!(!takes(&case, "w", &codes(right), &codes(other)), "PEFT has another code at {i}");
    }
    assert!(takes(&case, "same", &codes([0x38; 9]), &codes([0x38; 9])));
    assert!(!takes(&case, "same", &codes(right), &codes(right)));
}

/// The first block gets a number of 480, beyond 448 times its scale: the scale grows, and all its codes shrink.
#[test]
fn a_scale_grows_only_where_it_must() {
    let mut case = quantised(&json!({}));
    case.json["keep_quantized"] = json!(true);
    case.json["deltas"][0]["scale"] = json!(958.0);
    case.json["deltas"][0]["a"] = json!("single");
    case.adapters[0].insert("single".to_owned(), tensor(&[1, 3], &[1.0, 0.0, 0.0], Dtype::F32));
    let old = [1.0, 2.0, 4.0, 8.0 + 2f64.powi(-7)];
    let fresh = 480.0 / 448.0;
    let scales = |first, last| tensor(&[2, 2], &[first, old[1], old[2], last], Dtype::F32);
    let takes = |name, ours: &Tensor| takes(&case, name, ours, ours);
    assert!(takes("s", &scales(fresh, old[3])));
    assert!(!takes("s", &scales(old[0], old[3])), "too small");
    assert!(!takes("s", &scales(fresh * 1.001, old[3])), "too large");
    assert!(!takes("s", &scales(fresh, old[3] * 1.001)), "another without need");
    // In units of the new scale 1 is 0.933, nearest to the code of 0.9375.
    let codes = |raw| Tensor { dtype: Dtype::F8_E4M3, shape: vec![3, 3], raw };
    assert!(takes("w", &codes(vec![0x7e, 0x37, 0x38, 0x37, 0x37, 0x38, 0x38, 0x38, 0x38])));
    assert!(!takes("w", &codes(vec![0x7e, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38, 0x38])));
}

#[test]
fn a_code_may_be_either_only_near_a_boundary() {
    let near = |exact: f64, bound: f64, ours: u8, peft: u8| {
        let mut sum = Running::exactly(vec![exact]);
        sum.bound[0] = bound;
        let code = |raw| Tensor { dtype: Dtype::F8_E4M3, shape: vec![1], raw: vec![raw] };
        compare("w", &Right::Codes(sum), &code(ours), &code(peft), &mut Shown::default()).is_ok()
    };
    // 1.0625 lies between the codes of 1 and 1.125.
    let between = 1.0625;
    assert!(near(between + 1e-7, 1e-6, 0x38, 0x39) && near(between - 1e-7, 1e-6, 0x39, 0x38));
    assert!(near(between + 1e-3, 1e-6, 0x39, 0x39));
    assert!(!near(between + 1e-3, 1e-6, 0x38, 0x39) && !near(between + 1e-3, 1e-6, 0x39, 0x38));
    assert!(
        near(448.0, 1e-3, 0x7e, 0x7e) && !near(448.0, 1e-3, 0x7d, 0x7e) && !near(448.0, 1e-3, 0x7f, 0x7f)
    );
    // Zeros have the sign of what they stand for.
    assert!(near(-1e-9, 1e-8, 0x00, 0x80) && !near(-1e-9, 1e-12, 0x00, 0x80));
}
