//! Methods on single experts where the checkpoint stores them joined and turned round (`[experts, in, out]`).

use std::fs;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::work::Work;

const STACK: &str = "model.language_model.layers.0.mlp.experts";

/// Two experts of `inner` = 3 (or as wide as the 4 inputs), their values counted up from 1.
fn work(inner: u64, config: &Value, adapter: &[(&str, &[u64], Vec<f32>)]) -> Work {
    let counted = |n: u64| (1..=n).map(|i| i as f32).collect::<Vec<_>>();
    let (up, down) = (format!("{STACK}.gate_up_proj"), format!("{STACK}.down_proj"));
    let work = Work::tiny(Dtype::F32, 1.0);
    work.rebase(&[
        (&up, &[2, 4, 2 * inner], counted(16 * inner)),
        (&down, &[2, inner, 4], counted(8 * inner)),
    ]);
    let model = json!({
        "architectures": ["Qwen3VLMoeForConditionalGeneration"], "model_type": "qwen3_vl_moe",
        "text_config": {"model_type": "qwen3_vl_moe_text", "hidden_size": 4, "num_experts": 2},
    });
    fs::write(work.base.join("config.json"), model.to_string()).expect("a small file");
    work.adapt_by(config, adapter);
    work
}

#[test]
fn lengths_of_outputs_run_down_stored_columns() {
    let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "use_dora": true});
    let key = |role: &str| format!("{STACK}.1.gate_proj.{role}");
    let (a, b, m) = (key("lora_A.weight"), key("lora_B.weight"), key("lora_magnitude_vector"));
    let (of_a, of_b, of_m) = ([1.0, 2.0, 0.0, -1.0], [1.0, -2.0, 3.0], [2.0, 3.0, 5.0]);
    let adapter: [(&str, &[u64], Vec<f32>); 3] =
        [(&a, &[1, 4], of_a.to_vec()), (&b, &[3, 1], of_b.to_vec()), (&m, &[3], of_m.to_vec())];
    let work = work(3, &config, &adapter);
    work.succeeds(&[]);
    let merged = work.merged(&format!("{STACK}.gate_up_proj"));
    // Expert 1 starts behind 4·6 values; its gate is columns 0..3.
    let at = |input: usize, out: usize| 24 + input * 6 + out;
    for (i, value) in merged.iter().enumerate() {
        if i < 24 || i % 6 >= 3 {
            assert_eq!(*value, (i + 1) as f32);
        }
    }
    for out in 0..3 {
        let changed = |input: usize| f64::from((at(input, out) + 1) as f32 + of_b[out] * of_a[input]);
        let norm = (0..4).map(|input| changed(input).powi(2)).sum::<f64>().sqrt();
        for input in 0..4 {
            let (found, expected) =
                (f64::from(merged[at(input, out)]), f64::from(of_m[out]) / norm * changed(input));
            assert!((found - expected).abs() < 1e-6 * expected.abs(), "{found}, expected {expected}");
        }
    }
}

#[test]
fn rotations_of_rows_are_not_made_on_columns() {
    let config = json!({"peft_type": "OFT", "r": 0, "oft_block_size": 2, "use_cayley_neumann": false});
    // A square expert fits either way.
    for (inner, name, blocks) in [(4, "down_proj", 2), (4, "gate_proj", 2), (3, "gate_proj", 2)] {
        let key = format!("{STACK}.1.{name}.oft_R.weight");
        let work = work(inner, &config, &[(&key, &[blocks, 1], vec![0.5; blocks as usize])]);
        let piece = format!("`{STACK}.1.{name}.weight` is stored as several tensors");
        let says = [piece.as_str(), "the method works on whole rows, which the checkpoint stores as columns"];
        refused(name, &work, &[], 65, &says);
    }
}
