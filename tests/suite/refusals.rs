//! Every wrong input is refused with a message that helps, and leaves nothing behind.

use std::fs;

use serde_json::json;
use shardfold::testing::Dtype;

use super::support::{f32s, run};
use super::work::{MODULE, Tensor, Work, edit, edit_header, edit_json};

const Q: &str = "model.layers.0.self_attn.q_proj.weight";
const A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

/// One thing that is wrong: what it is, the exit code, how the demo gets there, and what the message must say.
type Wrong = (&'static str, i32, fn(&Work), &'static [&'static str]);

/// Does each to a fresh demo and checks how the merge of it ends.
fn all_are_refused(wrongs: &[Wrong]) {
    for (what, code, damage, says) in wrongs {
        let work = Work::demo();
        damage(&work);
        refused(what, &work, &[], *code, says);
    }
}

/// Merges, and expects this code, these texts, and nothing where the output or its beginnings would be.
pub(super) fn refused(what: &str, work: &Work, flags: &[&str], code: i32, says: &[&str]) {
    let ran = work.merge(flags);
    assert_eq!(ran.code, code, "{what}: {}", ran.err);
    for text in says {
        assert!(ran.err.contains(text), "{what}: no `{text}` in\n{}", ran.err);
    }
    assert!(ran.out.is_empty(), "{what}: stdout has {}", ran.out);
    assert!(!work.output.exists(), "{what}: an output is there");
    assert!(!work.partial().exists(), "{what}: something staged is there");
}

pub(super) fn named<'t>(tensors: &'t mut [Tensor], name: &str) -> &'t mut Tensor {
    tensors.iter_mut().find(|tensor| tensor.name == name).expect("a tensor of that name")
}

#[test]
fn a_damaged_base() {
    all_are_refused(&[
        (
            "the index is missing",
            65,
            |work| fs::remove_file(work.base.join("model.safetensors.index.json")).expect("it was there"),
            &["base` holds 3 shards but no `model.safetensors.index.json`", "hint: copy the index"],
        ),
        (
            "a shard is missing",
            66,
            |work| fs::remove_file(work.shard(2)).expect("it was there"),
            &["model-00002-of-00003.safetensors", "the index names it"],
        ),
        (
            "two shards are missing",
            66,
            |work| [1, 3].iter().for_each(|&n| fs::remove_file(work.shard(n)).expect("it was there")),
            &["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"],
        ),
        (
            "a shard is cut short",
            65,
            |work| {
                let file = fs::OpenOptions::new().write(true).open(work.shard(2)).expect("a shard");
                file.set_len(100_000).expect("shorter");
            },
            &[
                "model-00002-of-00003.safetensors",
                "the file has",
                "hint: the file was not copied or downloaded whole",
            ],
        ),
        (
            "a shard is cut within its header",
            65,
            |work| {
                let file = fs::OpenOptions::new().write(true).open(work.shard(2)).expect("a shard");
                file.set_len(100).expect("shorter");
            },
            &[
                "model-00002-of-00003.safetensors",
                "the file has 100",
                "hint: the file was not copied or downloaded whole",
            ],
        ),
        (
            "a shard is empty",
            65,
            |work| fs::write(work.shard(2), b"").expect("written"),
            &["model-00002-of-00003.safetensors", "the file is 0 bytes long"],
        ),
        (
            "the header promises more than there is",
            65,
            |work| edit_header(&work.shard(1), |header| header.replacen("[32,64]", "[64,64]", 1)),
            &["model-00001-of-00003.safetensors", "k_proj.weight"],
        ),
        (
            "the last tensor ends behind the file",
            65,
            |work| {
                let bytes = fs::read(work.shard(3)).expect("a shard");
                fs::write(work.shard(3), &bytes[..bytes.len() - 2]).expect("written");
            },
            &["model-00003-of-00003.safetensors", "header promises"],
        ),
        (
            "a header of more than 100 MB",
            65,
            |work| {
                let mut bytes = fs::read(work.shard(1)).expect("a shard");
                bytes[..8].copy_from_slice(&100_000_001u64.to_le_bytes());
                fs::write(work.shard(1), bytes).expect("written");
                let file = fs::OpenOptions::new().write(true).open(work.shard(1)).expect("a shard");
                file.set_len(200_000_000).expect("longer");
            },
            &["model-00001-of-00003.safetensors", "header is 100000001 bytes long"],
        ),
        (
            "tensors overlap",
            65,
            |work| {
                edit(&work.base.join("model-00003-of-00003.safetensors"), |_| {});
                edit_header(&work.shard(3), |header| {
                    let mut header: serde_json::Value = serde_json::from_str(&header).expect("a header");
                    let at = header["model.norm.weight"]["data_offsets"][0].as_u64().expect("an offset");
                    header["model.norm.weight"]["data_offsets"] = json!([at - 128, at]);
                    header.to_string()
                });
            },
            &["model-00003-of-00003.safetensors", "`model.norm.weight`"],
        ),
        (
            "an unknown dtype",
            65,
            |work| edit(&work.shard(3), |tensors| named(tensors, "model.norm.weight").dtype = "BF17".into()),
            &["model-00003-of-00003.safetensors", "tensor `model.norm.weight` has unknown dtype `BF17`"],
        ),
        (
            "a tensor twice in one header",
            65,
            |work| {
                edit(&work.shard(3), |tensors| {
                    let again = named(tensors, "model.norm.weight").clone();
                    tensors.push(again);
                });
            },
            &["model-00003-of-00003.safetensors", "`model.norm.weight` is there twice"],
        ),
        (
            "a tensor in two shards",
            65,
            |work| {
                let mut norm = None;
                edit(&work.shard(3), |tensors| norm = Some(named(tensors, "model.norm.weight").clone()));
                edit(&work.shard(1), |tensors| tensors.extend(norm));
                edit_json(&work.base.join("model.safetensors.index.json"), |index| {
                    index["weight_map"].as_object_mut().expect("a map").shift_remove("model.norm.weight");
                });
            },
            &["tensor `model.norm.weight` is in two shards, `model-00001-of-00003.safetensors` and \
                 `model-00003-of-00003.safetensors`"],
        ),
        (
            "the index leads out of the folder",
            65,
            |work| {
                edit_json(&work.base.join("model.safetensors.index.json"), |index| {
                    index["weight_map"]["lm_head.weight"] = json!("../adapter/adapter_model.safetensors");
                });
            },
            &["../adapter/adapter_model.safetensors` escapes the checkpoint directory", "`lm_head.weight`"],
        ),
        (
            "the index lists a tensor that its shard lacks",
            65,
            |work| {
                edit_json(&work.base.join("model.safetensors.index.json"), |index| {
                    index["weight_map"]["model.rotary.weight"] = json!("model-00003-of-00003.safetensors");
                });
            },
            &[
                "the index puts `model.rotary.weight` into `model-00003-of-00003.safetensors`, which does not hold it",
            ],
        ),
        (
            "the index puts a tensor into the wrong shard",
            65,
            |work| {
                edit_json(&work.base.join("model.safetensors.index.json"), |index| {
                    index["weight_map"]["lm_head.weight"] = json!("model-00001-of-00003.safetensors");
                });
            },
            &[
                "the index puts `lm_head.weight` into `model-00001-of-00003.safetensors`, which does not hold it",
            ],
        ),
        (
            "the index is no JSON",
            65,
            |work| fs::write(work.base.join("model.safetensors.index.json"), "{").expect("written"),
            &["model.safetensors.index.json` is not a usable index", "because it cannot be read as JSON"],
        ),
        (
            "the config is no JSON",
            65,
            |work| fs::write(work.base.join("config.json"), "{\"a\": 1,}").expect("written"),
            &["config.json` is not usable JSON"],
        ),
        (
            "a shard is a git-lfs pointer",
            65,
            |work| fs::write(work.shard(2), POINTER).expect("written"),
            &["model-00002-of-00003.safetensors` is a git-lfs pointer", "hint: run `git lfs pull`"],
        ),
        (
            "the index is a git-lfs pointer",
            65,
            |work| fs::write(work.base.join("model.safetensors.index.json"), POINTER).expect("written"),
            &["model.safetensors.index.json` is a git-lfs pointer", "hint: run `git lfs pull`"],
        ),
        ("no base", 66, |work| fs::remove_dir_all(&work.base).expect("it was there"), &["base`"]),
        (
            "an empty base",
            66,
            |work| {
                fs::remove_dir_all(&work.base).expect("it was there");
                fs::create_dir(&work.base).expect("a folder");
            },
            &["no safetensors checkpoint at", "base`"],
        ),
        (
            "a base in another format",
            66,
            |work| {
                fs::remove_dir_all(&work.base).expect("it was there");
                fs::create_dir(&work.base).expect("a folder");
                fs::write(work.base.join("model.flashpack"), b"PK").expect("written");
            },
            &["no safetensors checkpoint at", "hint: `model.flashpack` is not read yet"],
        ),
    ]);
}

const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n\
    oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

#[test]
fn adapter_tensors_that_do_not_fit() {
    all_are_refused(&[
        (
            "the adapter is for another model",
            65,
            |work| work.adapt(8, 32, 32, 1.0, 1.0),
            &[
                "delta for `model.layers.0.self_attn.q_proj.weight` has shape [32, 32], base tensor has [64, 64]",
                "from adapter `adapter`",
            ],
        ),
        (
            "one key is misspelt",
            65,
            |work| {
                edit(&work.weights(), |tensors| {
                    for (key, role) in [(A, "lora_A"), (B, "lora_B")] {
                        named(tensors, key).name =
                            format!("base_model.model.model.layers.0.self_attn.q_porj.{role}.weight");
                    }
                });
            },
            &[
                "q_porj.lora_A.weight",
                "q_porj.lora_B.weight",
                "2 adapter tensors match no base tensor",
                "the base has `",
                Q,
            ],
        ),
        (
            "one key of a pair is misspelt",
            65,
            |work| {
                edit(&work.weights(), |tensors| {
                    named(tensors, B).name =
                        "base_model.model.model.layers.0.self_attn.q_porj.lora_B.weight".into();
                });
            },
            &["q_porj.lora_B.weight` has no partner", "q_proj.lora_A.weight` has no partner"],
        ),
        (
            "A without B",
            65,
            |work| edit(&work.weights(), |tensors| tensors.retain(|tensor| tensor.name != B)),
            &["q_proj.lora_A.weight` has no partner `", "lora_B", "hint: the adapter was not saved whole"],
        ),
        (
            "B without A",
            65,
            |work| edit(&work.weights(), |tensors| tensors.retain(|tensor| tensor.name != A)),
            &["q_proj.lora_B.weight` has no partner `", "lora_A", "hint: the adapter was not saved whole"],
        ),
        (
            "an entry of target_modules has no tensor",
            65,
            |work| edit(&work.weights(), |tensors| tensors.retain(|tensor| !tensor.name.contains("up_proj"))),
            &[
                "module `model.layers.0.mlp.up_proj` is named by `target_modules` entry `up_proj`",
                "hint: the adapter was not saved whole",
            ],
        ),
        (
            "the ranks of A and B differ",
            65,
            |work| {
                edit(&work.weights(), |tensors| {
                    let a = named(tensors, A);
                    a.shape = vec![16, 32];
                });
            },
            &["q_proj", "adapter tensor"],
        ),
        (
            "the rank is not the config's",
            65,
            |work| work.configure("r", json!(4)),
            &["`model.layers.0.", "rank 8 in the adapter's tensors, but 4 by its config"],
        ),
        (
            "factors of a type that is no plain float",
            65,
            |work| edit(&work.weights(), |tensors| named(tensors, A).dtype = "I32".into()),
            &["q_proj.lora_A.weight` has dtype I32, expected BF16, F16 or F32"],
        ),
        ("no tensors", 65, |work| edit(&work.weights(), Vec::clear), &["adapter `adapter` has no tensors"]),
        (
            "a tensor that nothing knows",
            65,
            |work| {
                edit(&work.weights(), |tensors| {
                    let mut odd = named(tensors, A).clone();
                    odd.name = "base_model.model.model.layers.0.self_attn.q_proj.lora_Q.weight".into();
                    tensors.push(odd);
                });
            },
            &["q_proj.lora_Q.weight"],
        ),
        (
            "the weights are a git-lfs pointer",
            65,
            |work| fs::write(work.weights(), POINTER).expect("written"),
            &["adapter_model.safetensors` is a git-lfs pointer", "hint: run `git lfs pull`"],
        ),
        (
            "the weights are cut short",
            65,
            |work| {
                let bytes = fs::read(work.weights()).expect("a file");
                fs::write(work.weights(), &bytes[..bytes.len() / 2]).expect("written");
            },
            &["adapter_model.safetensors", "hint: the file was not copied or downloaded whole"],
        ),
        (
            "the weights are no file of torch.save",
            65,
            |work| {
                fs::rename(work.weights(), work.adapter.join("adapter_model.bin")).expect("renamed");
            },
            &["adapter_model.bin` is not a readable bin file", "its list of entries is not at its end"],
        ),
        (
            "no adapter",
            66,
            |work| fs::remove_dir_all(&work.adapter).expect("it was there"),
            &["no directory at", "has no `adapter`"],
        ),
        (
            "a folder without an adapter",
            66,
            |work| fs::remove_file(work.adapter.join("adapter_config.json")).expect("it was there"),
            &["no adapter_config.json at", "hint: `--adapter` takes the directory"],
        ),
    ]);
}

#[test]
fn adapter_configs_that_are_not_merged() {
    all_are_refused(&[
        (
            "a type PEFT does not have",
            65,
            |work| work.configure("peft_type", json!("MAGIC")),
            &[
                "adapter `adapter` has `peft_type` `MAGIC`, which is not supported yet",
                "hint: shardfold merges ",
            ],
        ),
        (
            "prompt tuning",
            65,
            |work| work.configure("peft_type", json!("PROMPT_TUNING")),
            &["`PROMPT_TUNING`, which adds inputs and changes no weight"],
        ),
        (
            "prefix tuning",
            65,
            |work| work.configure("peft_type", json!("PREFIX_TUNING")),
            &["`PREFIX_TUNING`, which adds inputs and changes no weight"],
        ),
        (
            "X-LoRA",
            65,
            |work| work.configure("peft_type", json!("XLORA")),
            &["`XLORA`, which depends on the input"],
        ),
        (
            "no PEFT config",
            65,
            |work| work.configure("peft_type", json!(null)),
            &["is an unknown PEFT type", "hint: PEFT names its method there"],
        ),
        ("KaSA", 65, |work| work.configure("kasa_config", json!({"beta": 1e-4})), &["lora_diag"]),
        (
            "PiSSA",
            65,
            |work| work.configure("init_lora_weights", json!("pissa_niter_4")),
            &["adapter `adapter` sets `init_lora_weights` to `pissa_niter_4`"],
        ),
        (
            "a field from the future",
            65,
            |work| work.configure("use_future", json!({"strength": 2})),
            &["sets `use_future` to `{\"strength\":2}`", "hint: if it does not, `--ignore-field use_future`"],
        ),
        (
            "the config is no JSON",
            65,
            |work| fs::write(work.adapter.join("adapter_config.json"), "peft").expect("written"),
            &["adapter_config.json` is not usable JSON"],
        ),
    ]);
}

#[test]
fn a_field_that_is_passed_over_lets_the_merge_through() {
    let work = Work::demo();
    let plain = work.folder.path().join("plain");
    assert_eq!(work.merge_into(&plain, &[]).code, 0);
    work.configure("use_future", json!(true));
    work.succeeds(&["--ignore-field", "use_future"]);
    for shard in ["model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors"] {
        assert!(
            fs::read(plain.join(shard)).unwrap() == fs::read(work.output.join(shard)).unwrap(),
            "{shard}"
        );
    }
    // A field that is known to change the merge cannot be passed over.
    let work = Work::demo();
    work.configure("arrow_config", json!({"top_k": 2}));
    refused("Arrow passed over", &work, &["--ignore-field", "arrow_config"], 65, &["arrow_config"]);
}

#[test]
fn a_base_that_is_not_plain_numbers() {
    all_are_refused(&[
        (
            "a scale belongs to the target",
            65,
            |work| {
                edit(&work.shard(1), |tensors| {
                    tensors.push(Tensor {
                        name: format!("{Q}_scale_inv"),
                        dtype: "F32".into(),
                        shape: vec![1, 1],
                        data: f32s([1.0]),
                    });
                });
                edit_json(&work.base.join("model.safetensors.index.json"), |index| {
                    index["weight_map"][&format!("{Q}_scale_inv")] =
                        json!("model-00001-of-00003.safetensors");
                });
            },
            &[
                "`model.layers.0.self_attn.q_proj.weight` is quantized: the base has its auxiliary tensor \
                 `model.layers.0.self_attn.q_proj.weight_scale_inv`",
                "hint: merge into the 16-bit checkpoint",
            ],
        ),
        (
            "a target of whole numbers",
            65,
            |work| edit(&work.shard(1), |tensors| named(tensors, Q).dtype = "I16".into()),
            &[
                "`model.layers.0.self_attn.q_proj.weight` has dtype I16, which a delta cannot be added to",
                "hint: only BF16",
            ],
        ),
    ]);
}

#[test]
fn adapters_that_would_change_nothing() {
    let zero = |work: &Work, role: &str| {
        edit(&work.weights(), |tensors| {
            tensors.iter_mut().filter(|t| t.name.contains(role)).for_each(|t| t.data.fill(0));
        });
    };
    let work = Work::demo();
    zero(&work, "lora_B");
    refused(
        "B is zero",
        &work,
        &[],
        65,
        &["adapter `adapter` has no effect", "all zero (untrained adapter?)"],
    );
    let work = Work::demo();
    zero(&work, "lora_A");
    refused("A is zero", &work, &[], 65, &["has no effect"]);
    let work = Work::tiny(Dtype::BF16, 1e-5);
    let says =
        ["adapter `adapter` has no effect: its deltas are too small", "hint: a base of more precision"];
    refused("too small for BF16", &work, &[], 65, &says);
    Work::tiny(Dtype::F32, 1e-5).succeeds(&[]);
}

#[test]
fn numbers_that_are_not_finite() {
    for (what, value) in [("NaN", f32::NAN), ("+inf", f32::INFINITY), ("-inf", f32::NEG_INFINITY)] {
        for key in [A, B] {
            let work = Work::demo();
            edit(&work.weights(), |tensors| {
                let data = &mut named(tensors, key).data;
                let last = data.len() - 4;
                data[last..].copy_from_slice(&value.to_le_bytes());
            });
            refused(
                what,
                &work,
                &[],
                65,
                &[&format!("adapter tensor `{key}` holds a value that is not finite")],
            );
        }
    }
    let says =
        [format!("merging `{MODULE}.weight` gives a value that is not finite where the base was finite")];
    let says: Vec<&str> = says.iter().map(String::as_str).collect();
    for (dtype, most) in [(Dtype::F16, 65504.0), (Dtype::BF16, 3.3e38), (Dtype::F32, 3.3e38)] {
        for sign in [1.0, -1.0] {
            let work = Work::tiny(dtype, sign * most);
            // Twice as much as the type holds.
            work.configure("lora_alpha", json!(2));
            refused(&format!("{dtype:?} overflows"), &work, &[], 65, &says);
        }
    }
    Work::tiny(Dtype::F16, 65472.0).succeeds(&[]);
}

#[test]
fn a_budget_that_is_too_small_names_one_that_works() {
    let work = Work::demo();
    for size in ["0", "1", "4K"] {
        refused(
            size,
            &work,
            &["--max-ram", size],
            71,
            &["MiB is needed for baseline RSS", "hint: `--max-ram "],
        );
    }
    refused(
        "1 MiB",
        &work,
        &["--max-ram", "1MiB"],
        71,
        &["`--max-ram 1MiB` is too small", "hint: `--max-ram "],
    );
    let ran = work.merge(&["--max-ram", "1MiB"]);
    let (_, named) = ran.err.split_once("hint: `--max-ram ").expect("a hint");
    let (named, _) = named.split_once('`').expect("an end");
    let ran = work.merge(&["--max-ram", named, "--json"]);
    assert_eq!(ran.code, 0, "`--max-ram {named}` was named: {}", ran.err);
}

#[test]
fn misuse_of_the_command_line() {
    let work = Work::demo();
    for (flags, says) in [
        (&["--max-ram", "lots"][..], &["`--max-ram lots`"][..]),
        (&["--max-ram", "16Q"], &["`--max-ram 16Q`"]),
        (&["--max-ram=-1G"], &["`--max-ram -1G`"]),
        (&["--max-ram", ""], &["`--max-ram`: expected a size such as `16G`"]),
        (&["--threads", "0"], &["`--threads 0`", "from 1 to 64"]),
        (&["--threads", "many"], &["`--threads many`", "from 1 to 64"]),
        (&["--scaled-adapter", "x", "NaN"], &["NaN", "a finite number is accepted"]),
        (&["--scaled-adapter", "x", "1,5"], &["1,5", "a finite number is accepted"]),
        (&["--scaled-adapter", "x"], &["--scaled-adapter"]),
        (&["--no-such-flag"], &["--no-such-flag"]),
        (&["--quiet", "--json"], &["--quiet", "--json"]),
    ] {
        refused(&flags.join(" "), &work, flags, 2, says);
    }
    let (base, adapter) = (work.base.to_str().unwrap(), work.adapter.to_str().unwrap());
    let output = work.output.to_str().unwrap();
    for (args, says) in [
        (&["merge", "--base", base, "--output", output][..], "`--adapter <DIR|NAME>` is required"),
        (&["merge", "--base", base, "--adapter", adapter], "`--output <DIR>` is required"),
        (&["merge", "--adapter", adapter, "--output", output], "no `--base` given"),
        (&["plan", "--base", base], "`--adapter <DIR|NAME>` is required"),
        (&["shred"], "shred"),
        (&[], "Example:\n  shardfold plan"),
    ] {
        let ran = run(args);
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(says), "{args:?}: {}", ran.err);
    }
    assert!(!work.output.exists() && !work.partial().exists());
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    all_are_refused(&[
        (
            "shards",
            65,
            |work| {
                fs::write(work.shard(1), POINTER).expect("written");
                edit(&work.shard(3), |tensors| named(tensors, "model.norm.weight").dtype = "BF17".into());
            },
            &["model-00001-of-00003.safetensors` is a git-lfs pointer", "unknown dtype `BF17`"],
        ),
        (
            "the adapter's config",
            65,
            |work| {
                work.configure("use_qalora", json!(true));
                work.configure("use_future", json!(true));
            },
            &["use_qalora", "use_future"],
        ),
        (
            "the adapter's tensors",
            65,
            |work| {
                edit(&work.weights(), |tensors| {
                    tensors.retain(|tensor| tensor.name != B);
                    for role in ["lora_A", "lora_B"] {
                        let key = format!("base_model.model.model.layers.1.mlp.up_proj.{role}.weight");
                        named(tensors, &key).name = key.replace("up_proj", "upp_proj");
                    }
                });
            },
            &["q_proj.lora_A.weight` has no partner", "upp_proj.lora_A.weight"],
        ),
        // What headers show does not wait for the adapter to be read; what reading it shows is said together as well.
        (
            "the adapter's values",
            65,
            |work| {
                edit(&work.weights(), |tensors| {
                    for module in ["mlp.up_proj.lora_A", "mlp.down_proj.lora_B"] {
                        let key = format!("base_model.model.model.layers.2.{module}.weight");
                        named(tensors, &key).data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
                    }
                });
            },
            &[
                "layers.2.mlp.up_proj.lora_A.weight` holds a value that is not finite",
                "layers.2.mlp.down_proj.lora_B.weight` holds a value that is not finite",
            ],
        ),
    ]);
    let work = Work::demo();
    let missing = ["--adapter", "no-such-adapter", "--adapter", "nor-this"];
    refused("adapters", &work, &missing, 66, &["no-such-adapter", "nor-this"]);
}

#[test]
fn names_from_files_cannot_paint_the_terminal() {
    let work = Work::demo();
    edit(&work.weights(), |tensors| named(tensors, A).name = "\u{1b}[2Jx.lora_A.weight".into());
    let ran = work.merge(&[]);
    assert_eq!(ran.code, 65);
    assert!(ran.err.contains("\\u{1b}[2Jx") && !ran.err.contains('\u{1b}'), "{}", ran.err);
}
