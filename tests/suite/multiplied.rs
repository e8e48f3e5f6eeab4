//! What multiplies a weight, where no golden case shows it: weights of adapters, and which side a vector is of.

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::work::{MODULE, Work};

/// Merges an (IA)³ vector into `layer.weight`, with these `feedforward_modules`, and returns the result.
fn ia3(base: (&[u64], Vec<f32>), vector: (&[u64], Vec<f32>), feedforward: &Value) -> Vec<f32> {
    let work = Work::tiny(Dtype::F32, 1.0);
    work.rebase(&[("block.layer.weight", base.0, base.1)]);
    let config = json!({"peft_type": "IA3", "feedforward_modules": feedforward});
    work.adapt_by(&config, &[("block.layer.ia3_l", vector.0, vector.1)]);
    work.succeeds(&[]);
    work.merged("block.layer.weight")
}

#[test]
fn a_share_takes_the_adapters_weight() {
    let work = Work::tiny(Dtype::F32, 1.0);
    let weight = format!("{MODULE}.weight");
    work.rebase(&[(&weight, &[2, 2], vec![1.0, 2.0, -4.0, 8.0])]);
    let (a, b) = (format!("{MODULE}.hira_A"), format!("{MODULE}.hira_B"));
    let config = json!({"peft_type": "HIRA", "r": 1});
    work.adapt_by(&config, &[(&a, &[1, 2], vec![1.0, 3.0]), (&b, &[2, 1], vec![1.0, 0.5])]);
    let ran = work.merge_scaled("0.5");
    assert_eq!(ran.code, 0, "{}", ran.err);
    // B·A is [[1, 3], [0.5, 1.5]], and half of it is taken.
    assert_eq!(work.merged(&weight), [1.5, 5.0, -5.0, 14.0]);
}

#[test]
fn a_vector_of_one_is_of_the_side_that_the_config_gives() {
    // Outputs of a layer [1, 2] and inputs of one: the same product. A bias goes with outputs alone.
    for (feedforward, bias) in [
        (json!(["other"]), 6.0),
        (json!([]), 6.0),
        (json!(["layer"]), 3.0),
        // The end of a path, whether or not a segment begins there.
        (json!(["yer"]), 3.0),
        (json!("block\\..*"), 3.0),
        // A string is an expression for the whole path.
        (json!("layer"), 6.0),
    ] {
        let work = Work::tiny(Dtype::F32, 1.0);
        work.rebase(&[("block.layer.weight", &[1, 1], vec![5.0]), ("block.layer.bias", &[1], vec![3.0])]);
        let config = json!({"peft_type": "IA3", "feedforward_modules": feedforward});
        work.adapt_by(&config, &[("block.layer.ia3_l", &[1, 1], vec![2.0])]);
        work.succeeds(&[]);
        assert_eq!(work.merged("block.layer.weight"), [10.0]);
        assert_eq!(work.merged("block.layer.bias"), [bias], "{feedforward}");
    }
}

#[test]
fn a_convolution_in_three_dimensions_has_sides() {
    // Two outputs, two inputs, a kernel of 1 × 1 × 2.
    let base: (&[u64], _) = (&[2, 2, 1, 1, 2], vec![1.0; 8]);
    let vector: (&[u64], _) = (&[1, 2, 1, 1, 1], vec![2.0, 3.0]);
    let outputs = ia3(base.clone(), vector.clone(), &json!([]));
    assert_eq!(outputs, [2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0]);
    let inputs = ia3(base, vector, &json!(["layer"]));
    assert_eq!(inputs, [2.0, 2.0, 3.0, 3.0, 2.0, 2.0, 3.0, 3.0]);
}

#[test]
fn groups_of_inputs_meet_their_own_part_of_the_vector() {
    // Four outputs in two groups, one input each, a kernel of 1 × 2.
    let found = ia3((&[4, 1, 1, 2], vec![1.0; 8]), (&[1, 2, 1, 1], vec![2.0, 3.0]), &json!(["layer"]));
    assert_eq!(found, [2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0]);
    // As many outputs as inputs: the config decides, and here both give the same.
    for feedforward in [json!(["layer"]), json!([])] {
        let found = ia3((&[2, 1, 1, 1], vec![1.0; 2]), (&[1, 2, 1, 1], vec![2.0, 3.0]), &feedforward);
        assert_eq!(found, [2.0, 3.0]);
    }
}
