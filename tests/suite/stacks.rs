//! Factors of all experts in one stack, under the names that the model has for its fused parameters.

use std::fs;

use serde_json::json;
use shardfold::testing::Dtype;

use super::refusals::refused;
use super::work::{Work, edit_json};

const EXPERTS: u64 = 3;
const HIDDEN: u64 = 4;
const INNER: u64 = 2;
const RANK: u64 = 2;
const OWNER: &str = "model.layers.0.mlp.experts";

/// Values that differ, and that bf16 and f32 hold.
fn values(count: u64, seed: u64) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + seed * 13) % 11) as f32 / 4.0 - 1.0).collect()
}

/// How the base stores its experts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stored {
    Singly,
    OutIn,
    InOut,
    Alternating,
}

impl Stored {
    /// Another than twice the inner size, where the shape must tell which axis is which.
    fn hidden(self) -> u64 {
        if self == Stored::Singly { HIDDEN } else { HIDDEN + 1 }
    }
}

fn work(stored: Stored) -> Work {
    let work = Work::tiny(Dtype::F32, 1.0);
    let model_type = match stored {
        Stored::Singly => "qwen3_moe",
        Stored::OutIn => "qwen3_5_moe",
        Stored::InOut => "llama4",
        Stored::Alternating => "gpt_oss",
    };
    edit_json(&work.base.join("config.json"), |config| {
        config.insert("architectures".into(), json!([]));
        config.insert("model_type".into(), json!(model_type));
        config.insert("num_experts".into(), json!(EXPERTS));
        config.insert("hidden_size".into(), json!(stored.hidden()));
    });
    let (up, down) = match stored {
        Stored::Singly => {
            let all = (0..EXPERTS).flat_map(|e| {
                [("gate_proj", [INNER, HIDDEN]), ("up_proj", [INNER, HIDDEN]), ("down_proj", [HIDDEN, INNER])]
                    .map(|(role, shape)| (format!("{OWNER}.{e}.{role}.weight"), shape))
            });
            let all: Vec<_> = all.collect();
            let tensors: Vec<_> =
                all.iter().map(|(name, shape)| (name.as_str(), &shape[..], vec![1.0; 8])).collect();
            work.rebase(&tensors);
            return work;
        }
        Stored::OutIn => ([EXPERTS, 2 * INNER, HIDDEN + 1], [EXPERTS, HIDDEN + 1, INNER]),
        Stored::InOut | Stored::Alternating => {
            ([EXPERTS, HIDDEN + 1, 2 * INNER], [EXPERTS, INNER, HIDDEN + 1])
        }
    };
    let count = |shape: [u64; 3]| vec![1.0; shape.iter().product::<u64>() as usize];
    work.rebase(&[
        (&format!("{OWNER}.gate_up_proj"), &up, count(up)),
        (&format!("{OWNER}.down_proj"), &down, count(down)),
    ]);
    work
}

/// A stack of factors: its role, its shape, its values.
type Stack = (&'static str, [u64; 3], Vec<f32>);

/// Factors of gate, up and down; gate and up share their `A`. `of` is how many experts have their own `A` of gate and up, and
/// `B` of down.
fn stacks(stored: Stored, of: u64, fused: bool) -> Vec<Stack> {
    let hidden = stored.hidden();
    let a = |seed| (([of, RANK, hidden]), values(of * RANK * hidden, seed));
    let (gate, up) = (values(EXPERTS * INNER * RANK, 2), values(EXPERTS * INNER * RANK, 3));
    let down_a = ([EXPERTS, RANK, INNER], values(EXPERTS * RANK * INNER, 4));
    let down_b = ([of, hidden, RANK], values(of * hidden * RANK, 5));
    let rows = [EXPERTS, INNER, RANK];
    let per_expert = (INNER * RANK) as usize;
    if fused {
        let both =
            gate.chunks(per_expert).zip(up.chunks(per_expert)).flat_map(|(gate, up)| [gate, up].concat());
        return vec![
            ("gate_up_proj.lora_A", a(1).0, a(1).1),
            ("gate_up_proj.lora_B", [EXPERTS, 2 * INNER, RANK], both.collect()),
            ("down_proj.lora_A", down_a.0, down_a.1),
            ("down_proj.lora_B", down_b.0, down_b.1),
        ];
    }
    vec![
        ("w1.lora_A", a(1).0, a(1).1),
        ("w1.lora_B", rows, gate),
        ("w3.lora_A", a(1).0, a(1).1),
        ("w3.lora_B", rows, up),
        ("w2.lora_A", down_a.0, down_a.1),
        ("w2.lora_B", down_b.0, down_b.1),
    ]
}

fn adapt(work: &Work, stacks: &[Stack]) {
    let keys: Vec<String> = stacks.iter().map(|(role, ..)| format!("{OWNER}.{role}.weight")).collect();
    let tensors: Vec<_> = keys
        .iter()
        .zip(stacks)
        .map(|(key, (_, shape, values))| (key.as_str(), &shape[..], values.clone()))
        .collect();
    work.adapt_by(
        &json!({"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": ["gate_up_proj", "down_proj"]}),
        &tensors,
    );
}

fn merged(work: &Work) -> Vec<u8> {
    work.succeeds(&[]);
    let bytes = fs::read(work.output.join("model.safetensors")).expect("a result");
    fs::remove_dir_all(&work.output).expect("it was there");
    bytes
}

#[test]
fn fused_names_are_the_same_as_short_ones() {
    for stored in [Stored::Singly, Stored::OutIn, Stored::InOut] {
        // Each expert's own, and shared outer factors.
        for of in [EXPERTS, 1] {
            let work = work(stored);
            adapt(&work, &stacks(stored, of, false));
            let right = merged(&work);
            assert!(right != fs::read(work.base.join("model.safetensors")).expect("a base"));
            adapt(&work, &stacks(stored, of, true));
            assert!(merged(&work) == right, "{stored:?}, {of}");
        }
    }
}

#[test]
fn single_projections_in_stacks_are_the_same_as_short_ones() {
    for stored in [Stored::Singly, Stored::OutIn, Stored::InOut] {
        let work = work(stored);
        let short = stacks(stored, EXPERTS, false);
        adapt(&work, &short);
        let right = merged(&work);
        let long = [
            "gate_proj.lora_A",
            "gate_proj.lora_B",
            "up_proj.lora_A",
            "up_proj.lora_B",
            "down_proj.lora_A",
            "down_proj.lora_B",
        ];
        let renamed: Vec<Stack> =
            short.into_iter().zip(long).map(|((_, shape, values), role)| (role, shape, values)).collect();
        adapt(&work, &renamed);
        assert!(merged(&work) == right, "{stored:?}");
    }
}

/// Takes the stacks apart that have a value for each expert.
fn numbered(stacks: Vec<Stack>) -> Vec<(String, Vec<u64>, Vec<f32>)> {
    let apart = |(role, shape, values): Stack| {
        if shape[0] == 1 {
            return vec![(role.to_owned(), shape.to_vec(), values)];
        }
        let size = (shape[1] * shape[2]) as usize;
        let of_one = values.chunks(size).enumerate();
        of_one.map(|(e, values)| (format!("{e}.{role}"), shape[1..].to_vec(), values.to_vec())).collect()
    };
    stacks.into_iter().flat_map(apart).collect()
}

#[test]
fn a_shared_factor_beside_numbered_ones_is_the_same_as_a_stack() {
    for stored in [Stored::Singly, Stored::OutIn, Stored::InOut] {
        let work = work(stored);
        adapt(&work, &stacks(stored, 1, false));
        let right = merged(&work);
        let long = ["gate_proj", "up_proj", "down_proj"];
        for names in [["w1", "w3", "w2"], long] {
            let mut apart = numbered(stacks(stored, 1, false));
            for (short, name) in ["w1", "w3", "w2"].into_iter().zip(names) {
                apart.iter_mut().for_each(|(role, ..)| *role = role.replace(short, name));
            }
            let adapt = |apart: &[(String, Vec<u64>, Vec<f32>)]| {
                let keys: Vec<String> =
                    apart.iter().map(|(role, ..)| format!("{OWNER}.{role}.weight")).collect();
                let tensors: Vec<_> = keys
                    .iter()
                    .zip(apart)
                    .map(|(key, (_, shape, values))| (key.as_str(), &shape[..], values.clone()))
                    .collect();
                let config =
                    json!({"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": names});
                work.adapt_by(&config, &tensors);
            };
            adapt(&apart);
            assert!(merged(&work) == right, "{stored:?}, {names:?}");
            // One expert lacks its own factor.
            let gone = format!("1.{}.lora_B", names[0]);
            apart.retain(|(role, ..)| *role != gone);
            adapt(&apart);
            refused(
                "one is gone",
                &work,
                &[],
                65,
                &["has no partner", &format!("experts.1.{}.lora_B.weight", names[0])],
            );
        }
    }
}

#[test]
fn stacks_that_fit_no_experts_are_refused() {
    let work = work(Stored::Singly);
    let mut wrong = stacks(Stored::Singly, EXPERTS, true);
    wrong[1].1[1] -= 1;
    wrong[1].2.truncate((EXPERTS * (2 * INNER - 1) * RANK) as usize);
    adapt(&work, &wrong);
    refused("rows", &work, &[], 65, &["experts.gate_up_proj.lora_B.weight` has shape [3, 3, 2], expected"]);

    let alternating = self::work(Stored::Alternating);
    adapt(&alternating, &stacks(Stored::Alternating, EXPERTS, true));
    refused("rows that alternate", &alternating, &[], 65, &["gate and up alternate in"]);
}
