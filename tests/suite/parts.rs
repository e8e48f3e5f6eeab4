//! Adapters that were trained on a part of the model alone, whose paths do not say on which.

use serde_json::json;
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::work::Work;

const PATHS: [&str; 2] = ["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"];

/// A base that has weights of that width below each prefix, in so many layers, and an adapter of width 4 on two layers.
fn work(parts: &[(&str, u64, usize)], class: &str, model_type: &str) -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    let config = json!({"architectures": [class], "model_type": model_type});
    std::fs::write(work.base.join("config.json"), config.to_string()).expect("a small file");
    let names: Vec<(String, u64)> = parts
        .iter()
        .flat_map(|(prefix, width, layers)| {
            let layers = PATHS.iter().take(*layers).map(move |path| format!("{prefix}{path}.weight"));
            let others = ["model.norm.weight", "lm_head.weight"].map(|name| format!("{prefix}{name}"));
            layers.chain(others).map(|name| (name, *width)).collect::<Vec<_>>()
        })
        .collect();
    let tensors: Vec<_> = names
        .iter()
        .map(|(name, width)| (name, [*width, *width], vec![1.0; (width * width) as usize]))
        .collect();
    let tensors: Vec<_> =
        tensors.iter().map(|(name, shape, values)| (name.as_str(), &shape[..], values.clone())).collect();
    work.rebase(&tensors);
    adapt(&work, &PATHS);
    work
}

fn adapt(work: &Work, paths: &[&str]) {
    let keys: Vec<[String; 2]> =
        paths.iter().map(|path| ["A", "B"].map(|role| format!("{path}.lora_{role}.weight"))).collect();
    let tensors: Vec<_> = keys
        .iter()
        .flat_map(|[a, b]| [(a.as_str(), &[1u64, 4][..], vec![1.0; 4]), (b, &[4, 1], vec![1.0; 4])])
        .collect();
    let targets: Vec<&str> = paths.iter().filter_map(|path| path.rsplit('.').next()).collect();
    let fields = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": targets});
    work.adapt_by(&fields, &tensors);
}

#[test]
fn the_only_prefix_that_fits_is_taken_and_told() {
    for (what, parts, class, model_type) in [
        (
            "widths",
            [("talker.", 3, 2), ("thinker.", 4, 2)],
            "Qwen2_5OmniForConditionalGeneration",
            "qwen2_5_omni",
        ),
        (
            "layers",
            [("talker.", 4, 1), ("thinker.", 4, 2)],
            "Qwen3OmniMoeForConditionalGeneration",
            "qwen3_omni_moe",
        ),
        (
            "both",
            [("thinker.", 4, 2), ("talker.", 6, 1)],
            "Qwen2_5OmniForConditionalGeneration",
            "qwen2_5_omni",
        ),
        ("others", [("speaker.", 8, 2), ("thinker.", 4, 2)], "OwnModel", "own"),
        ("nested", [("code.talker.", 8, 2), ("thinker.", 4, 2)], "OwnModel", "own"),
    ] {
        let work = work(&parts, class, model_type);
        let ran = work.succeeds(&[]);
        assert!(ran.err.contains("by writing `thinker.` before `model.layers`"), "{what}: {}", ran.err);
        for path in PATHS {
            assert_eq!(work.merged(&format!("thinker.{path}.weight")), [2.0; 16], "{what}");
        }
        let other = parts.iter().find(|(prefix, ..)| *prefix != "thinker.").expect("two parts");
        let first = work.merged(&format!("{}{}.weight", other.0, PATHS[0]));
        assert!(first.iter().all(|value| *value == 1.0), "{what}");
    }
}

#[test]
fn a_head_goes_with_its_part() {
    let work = work(&[("talker.", 3, 2), ("thinker.", 4, 2)], "OwnModel", "own");
    adapt(&work, &[PATHS[0], PATHS[1], "lm_head"]);
    work.succeeds(&[]);
    assert_eq!(work.merged("thinker.lm_head.weight"), [2.0; 16]);
}

#[test]
fn two_prefixes_that_fit_are_refused() {
    let work = work(&[("talker.", 4, 2), ("thinker.", 4, 2)], "OwnModel", "own");
    refused("two", &work, &[], 65, &["4 adapter tensors match no base tensor", "thinker.model.layers.0"]);
    let work = self::work(&[("talker.", 3, 2), ("thinker.", 5, 2)], "OwnModel", "own");
    refused("none", &work, &[], 65, &["match no base tensor"]);
}
