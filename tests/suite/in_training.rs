//! `--base-as`: the base as training saw it that quantized it in memory. A merge with the flag is one into a base that holds what
//! bitsandbytes made of each weight (`fixtures/in_training/`), byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::Dtype as Theirs;
use serde_json::{Value, json};
use shardfold::testing::Dtype;
use shardfold::{Cancel, Location, MergedReader, Request, Style, Terminal, choose};

use super::golden::{cases, merged, request as golden_request};
use super::oracle::{Case, Tensor, read};
use super::refusals::refused;
use super::support::{f32s, fixtures, quick_folder, write_safetensors};
use super::work::{MODULE, Work, edit, edit_json, in_small_tiles};

/// What training may have had.
const FLAGS: &[&str] = &[
    "nf4",
    "nf4,double",
    "fp4",
    "fp4,double,block=32",
    "nf4,block=256",
    "int8",
    "nf4,double,dtype=f16",
    "fp4,dtype=bf16",
];
const RANK: usize = 2;
/// Linear layers of the base that are adapted, with outputs and inputs; `k_proj` is not.
const ADAPTED: &[(&str, usize, usize)] = &[
    ("model.layers.0.self_attn.q_proj", 100, 192),
    ("model.layers.0.mlp.up_proj", 9, 33),
    ("model.layers.0.mlp.down_proj", 3, 9),
];

/// Adapters by what they need of a base: elements, and the norms of outputs over whole rows.
fn adapters() -> [(&'static str, Value); 2] {
    let lora = json!({"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": ["q_proj", "up_proj", "down_proj"]});
    let mut dora = lora.clone();
    dora["use_dora"] = json!(true);
    [("lora", lora), ("dora", dora)]
}

fn work(base: &str, config: &Value) -> Work {
    let work = Work::tiny(Dtype::BF16, 0.5);
    fs::copy(
        fixtures().join("in_training").join(format!("{base}.safetensors")),
        work.base.join("model.safetensors"),
    )
    .expect("a fixture");
    let mut tensors = Vec::new();
    for &(module, outputs, inputs) in ADAPTED {
        tensors.push((
            format!("{module}.lora_A.weight"),
            vec![RANK as u64, inputs as u64],
            values(RANK * inputs, 1),
        ));
        tensors.push((
            format!("{module}.lora_B.weight"),
            vec![outputs as u64, RANK as u64],
            values(outputs * RANK, 2),
        ));
        if config["use_dora"] == json!(true) {
            let magnitudes = (0..outputs).map(|row| 0.5 + row as f32 / 64.0).collect();
            tensors.push((format!("{module}.lora_magnitude_vector"), vec![outputs as u64], magnitudes));
        }
    }
    let tensors: Vec<_> =
        tensors.iter().map(|(key, shape, data)| (key.as_str(), &shape[..], data.clone())).collect();
    work.adapt_by(config, &tensors);
    work
}

fn values(count: usize, seed: u32) -> Vec<f32> {
    let value = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 977) >> 24) as f32 - 127.0;
    (0..count as u32).map(|i| value(i) / 3000.0).collect()
}

fn request(work: &Work, base_as: Option<&str>) -> Request {
    let adapters = vec![(work.adapter.clone().into(), 1f64.into())];
    Request {
        base: Some(work.base.clone().into()),
        adapters,
        base_as: base_as.map(str::to_owned),
        ..Request::default()
    }
}

#[test]
fn a_merge_is_one_into_what_training_saw() {
    let source = read(&fixtures().join("in_training"), "source");
    for (method, config) in adapters() {
        for flag in FLAGS {
            let seen = work(flag, &config);
            assert!(
                differing(&source, &read(&seen.base, "model")) > 10_000,
                "{flag} changes many of 22,484 values"
            );
            let (_, right) = merged(&request(&seen, None));
            let source = work("source", &config);
            if read(&seen.base, "model").values().all(|tensor| tensor.dtype == Theirs::F32) {
                widen(&source);
            }
            let asked = request(&source, Some(flag));
            for (what, request) in [("whole", asked.clone()), ("small tiles", in_small_tiles(&asked))] {
                let (_, ours) = merged(&request);
                assert!(ours.keys().eq(right.keys()), "{method}, {flag}, {what}");
                for (name, tensor) in &right {
                    assert_eq!(ours[name].dtype, tensor.dtype, "{method}, {flag}, {what}, {name}");
                    assert!(
                        ours[name].raw == tensor.raw,
                        "{method}, {flag}, {what}: {} differ",
                        differing(&ours, &right)
                    );
                }
            }
        }
    }
}

/// Factors of LoftQ are for the base that it quantized: with the flag that says how, and with no other.
#[test]
fn what_loftq_made_is_merged_into_what_it_quantized() {
    let [(_, plain), (_, dora)] = adapters();
    let by = |config: &Value, bits: u64, iterations: u64| {
        let mut config = config.clone();
        config["init_lora_weights"] = json!("loftq");
        config["loftq_config"] = json!({"loftq_bits": bits, "loftq_iter": iterations});
        work("source", &config)
    };
    for (config, flag) in [(&plain, "nf4"), (&dora, "nf4")] {
        let (_, right) = merged(&request(&work("source", config), Some(flag)));
        let (_, ours) = merged(&request(&by(config, 4, 1), Some(flag)));
        assert_eq!(differing(&ours, &right), 0, "{flag}");
    }
    let nf4 = "hint: merge into the base as LoftQ quantized it, with `--base-as nf4`";
    let other = "hint: merge into the dequantized weights that LoftQ made";
    for (bits, iterations, flags, cure) in [
        (4, 1, &[][..], nf4),
        (4, 1, &["--base-as", "nf4,double"], nf4),
        (4, 1, &["--base-as", "nf4,block=256"], nf4),
        (4, 1, &["--base-as", "nf4,skip=q_proj"], nf4),
        (8, 1, &["--base-as", "int8"], other),
        (4, 2, &["--base-as", "nf4"], other),
        (2, 1, &["--base-as", "nf4"], other),
    ] {
        let says =
            ["sets `init_lora_weights` to `loftq`, which means that training ran on quantized weights", cure];
        refused(&format!("{bits} {iterations} {flags:?}"), &by(&plain, bits, iterations), flags, 65, &says);
    }
}

/// Every golden case whose adapters have no effect at weight 0: what that leaves is the base as training saw it, and a merge with the
/// flag is one into that, whatever the method reaches of a tensor.
#[test]
fn golden_cases_merge_into_what_training_saw() {
    let mut count = 0;
    for folder in cases() {
        let plain = golden_request(&folder, &Case::read(&folder));
        let asked = Request { base_as: Some("nf4,double".to_owned()), ..plain.clone() };
        let mut nothing = Request { allow_noop: true, ..asked.clone() };
        nothing.adapters.iter_mut().for_each(|(_, weight)| *weight = 0.0.into());
        let output = quick_folder();
        let [seen, same] = ["seen", "same"].map(|name| output.path().join(name));
        // Magnitudes of DoRA act at weight 0, too.
        let is_nothing = is_merged(&Request { base_as: None, ..nothing.clone() }, &same)
            && read(&same, "model") == read(&folder.join("base"), "model");
        if !is_nothing || !is_merged(&nothing, &seen) || !is_merged(&asked, &output.path().join("asked")) {
            continue;
        }
        let (_, right) = merged(&Request { base: Some(seen.into()), ..plain });
        let ours = read(&output.path().join("asked"), "model");
        for (name, tensor) in &right {
            assert!(ours[name].raw == tensor.raw, "{}: {name}", folder.display());
        }
        count += 1;
    }
    assert!(count > 100, "only {count} cases");
}

/// Merges into a folder, unless the merge is refused.
fn is_merged(request: &Request, output: &Path) -> bool {
    let Ok(prepared) = shardfold::prepare(request) else { return false };
    let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    prepared.merge(&Location::of_path(output), reporter.as_mut()).is_ok()
}

/// Blocks lie in one tile even where a row has room for few: no tile is a part of a row then.
#[test]
fn wide_rows_are_the_same_in_any_tiles() {
    for (flag, cols) in [("nf4", 4096), ("nf4,double", 4100), ("int8", 4096)] {
        let work = Work::tiny(Dtype::F32, 0.5);
        let name = format!("{MODULE}.weight");
        work.rebase(&[(&name, &[3, cols], values(3 * cols as usize, 7))]);
        work.adapt(1, 3, cols, 0.25, 0.5);
        let asked = request(&work, Some(flag));
        let (whole, small) = (merged(&asked).1, merged(&in_small_tiles(&asked)).1);
        assert!(whole[&name].raw == small[&name].raw, "{flag}: {} differ", differing(&whole, &small));
    }
}

/// An adapter on the first half of a weight that the disk has joined: the second is what training saw.
#[test]
fn what_no_adapter_reaches_of_a_weight_is_taken_so_too() {
    let joined = "model.layers.0.mlp.gate_up_proj.weight";
    let work = Work::tiny(Dtype::BF16, 0.5);
    let codes = |count: usize| {
        values(count, 5).into_iter().flat_map(|value| value.to_bits().to_le_bytes()[2..].to_vec()).collect()
    };
    let own = format!("{MODULE}.weight");
    write_safetensors(
        &work.base.join("model.safetensors"),
        &[(joined, Dtype::BF16, &[16, 64], codes(1024)), (&own, Dtype::BF16, &[4, 4], codes(16))],
    );
    let fields = json!({"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "intermediate_size": 8});
    edit_json(&work.base.join("config.json"), |config| {
        config.extend(fields.as_object().expect("fields").clone())
    });
    work.adapt(1, 4, 4, 0.25, 0.5);
    let (_, seen) = merged(&request(&work, Some("nf4")));
    let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["gate_proj"]});
    let key = |role| format!("model.layers.0.mlp.gate_proj.{role}.weight");
    let (a, b) = (key("lora_A"), key("lora_B"));
    work.adapt_by(&config, &[(a.as_str(), &[1, 64], values(64, 8)), (b.as_str(), &[8, 1], values(8, 9))]);
    let (_, ours) = merged(&request(&work, Some("nf4")));
    let [seen, ours] = [&seen, &ours].map(|tensors| &tensors[joined].raw);
    assert!(seen != &read(&work.base, "model")[joined].raw, "it is not the base");
    assert!(seen[1024..] == ours[1024..] && seen[..1024] != ours[..1024]);
}

/// Writes the base in F32, as what training saw is no number of the base's type where that was not loaded as it.
fn widen(work: &Work) {
    edit(&work.base.join("model.safetensors"), |tensors| {
        let values = read(&work.base, "model");
        for tensor in tensors {
            tensor.dtype = "F32".to_owned();
            tensor.data = f32s(values[&tensor.name].values().into_iter().map(|value| value as f32));
        }
    });
}

/// How many values are not the same.
fn differing(one: &BTreeMap<String, Tensor>, other: &BTreeMap<String, Tensor>) -> usize {
    let of = |(name, tensor): (&String, &Tensor)| {
        tensor.values().iter().zip(other[name].values()).filter(|(a, b)| **a != *b).count()
    };
    one.iter().map(of).sum()
}

#[test]
fn slices_of_it_are_those_of_the_result() {
    for (method, config) in adapters() {
        let work = work("source", &config);
        let asked = request(&work, Some("nf4,double"));
        let (_, whole) = merged(&asked);
        for request in [asked.clone(), in_small_tiles(&asked)] {
            let reader = MergedReader::open(&request).expect("it is merged");
            for (name, tensor) in &whole {
                let bytes = tensor.raw.len() as u64;
                let range = bytes / 3 / 4 * 4..bytes / 2 / 4 * 4;
                let mut found = vec![0; (range.end - range.start) as usize];
                reader
                    .read(name, std::slice::from_ref(&range), &mut found, &Cancel::default())
                    .expect("the slice");
                assert!(found == tensor.raw[range.start as usize..range.end as usize], "{method}, {name}");
            }
        }
    }
}

#[test]
fn the_command_tells_of_it_and_the_result_is_verified() {
    let (_, config) = adapters().into_iter().next().expect("two");
    let work = work("source", &config);
    work.configure("base_model_name_or_path", json!("org/Model-bnb-4bit"));
    let says = "`--base-as nf4` takes the base as training with bitsandbytes saw it";
    let plain = work.merge_into(&work.folder.path().join("plain"), &[]);
    assert!(plain.err.contains(says), "{}", plain.err);
    let ran = work.succeeds(&["--base-as", "nf4,double,skip=k_proj"]);
    assert!(!ran.err.contains("trained on"), "{}", ran.err);
    let told = "3 weights of linear layers are taken as training saw them: NF4 with double quantization, blocks of 64; 1 is skipped (--base-as)";
    assert!(ran.err.contains(told), "{}", ran.err);
    let card = fs::read_to_string(work.output.join("README.md")).expect("a card");
    assert!(card.contains(told), "{card}");
    let skipped = "model.layers.0.self_attn.k_proj.weight";
    assert!(read(&work.output, "model")[skipped].raw == read(&work.base, "model")[skipped].raw);
    let output = work.output.display().to_string();
    let inputs =
        ["--base", &work.base.display().to_string(), "--adapter", &work.adapter.display().to_string()];
    let verified = super::support::run(
        &[&["verify", &output], &inputs[..], &["--base-as", "nf4,double,skip=k_proj"]].concat(),
    );
    assert_eq!(verified.code, 0, "{}", verified.err);
    let other = super::support::run(&[&["verify", &output], &inputs[..]].concat());
    assert_ne!(other.code, 0, "another base is another plan");
}

#[test]
fn only_linear_layers_are_taken_so() {
    let work = Work::tiny(Dtype::F32, 0.5);
    let row = |name: &str| (name.to_owned(), [0.1, 0.3, -0.7, 0.9].repeat(4));
    let plain = ["model.embed_tokens.weight", "lm_head.weight", "score.weight", "transformer.wpe.weight"];
    let linear = ["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.gate.weight"];
    let tensors: Vec<_> = plain.iter().chain(&linear).map(|name| row(name)).collect();
    let mut written: Vec<_> = tensors
        .iter()
        .map(|(name, values)| (name.as_str(), Dtype::F32, &[4, 4][..], f32s(values.iter().copied())))
        .collect();
    let stack = f32s(vec![0.1; 32]);
    written.push(("model.layers.0.mlp.experts.down_proj", Dtype::F32, &[2, 4, 4], stack));
    written.push(("model.norm.weight", Dtype::F32, &[4], f32s([0.1; 4])));
    write_safetensors(&work.base.join("model.safetensors"), &written);
    work.succeeds(&["--base-as", "nf4"]);
    let (base, output) = (read(&work.base, "model"), read(&work.output, "model"));
    for (name, tensor) in &base {
        let is_same = output[name].raw == tensor.raw;
        assert_eq!(is_same, !linear.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn what_it_cannot_be_said_of_is_refused() {
    let plain = || Work::tiny(Dtype::BF16, 0.5);
    let accepted = "`nf4`, `fp4` or `int8` is accepted";
    for value in ["nf5", "nf4,", "nf4,block=48", "nf4,dtype=f8", "int8,double", "nf4,skip="] {
        refused(value, &plain(), &["--base-as", value], 2, &["--base-as", value, accepted]);
    }
    let quantized = Work::golden("fp8");
    refused("a quantized base", &quantized, &["--base-as", "nf4"], 2, &["the base is quantized already"]);
    let keep = ["--base-as", "nf4", "--keep-quantized"];
    refused("both flags", &plain(), &keep, 2, &["--keep-quantized"]);
    let skipped = ["--base-as", "nf4,skip=q_proj"];
    refused("nothing left", &plain(), &skipped, 2, &["no linear layer that is not skipped"]);
    let turned = plain();
    edit_json(&turned.base.join("config.json"), |config| {
        config.insert("model_type".to_owned(), json!("gpt2"));
        config.insert("architectures".to_owned(), json!(["GPT2LMHeadModel"]));
    });
    refused("GPT-2", &turned, &["--base-as", "nf4"], 2, &["stored turned round"]);
    let infinite = plain();
    edit(&infinite.base.join("model.safetensors"), |tensors| {
        tensors[0].data[0..2].copy_from_slice(&[0x80, 0x7f])
    });
    let ran = infinite.merge(&["--base-as", "nf4"]);
    assert_eq!(ran.code, 65, "{}", ran.err);
    assert!(ran.err.contains("model.layers.0.self_attn.q_proj.weight"), "{}", ran.err);
    assert!(!infinite.output.exists());
}
