//! Headers decide what is quantized: descriptions that nothing bears out or that the tensors contradict, plain tensors of
//! quantized bases, and what only the dropped description explained.

use std::path::Path;

use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::{named, refused};
use super::support::write_safetensors;
use super::work::{MODULE, Tensor, Work, edit, edit_json};

/// The weight of an fp8 base that its adapter changes.
const CODES: &str = "model.layers.0.self_attn.q_proj.weight";
/// Such a weight of an int4 base.
const PACKED: &str = "mlp.experts.0.gate_proj";

fn single(work: &Work) -> std::path::PathBuf {
    work.base.join("model.safetensors")
}

fn config_of(directory: &Path) -> Value {
    let text = std::fs::read_to_string(directory.join("config.json")).expect("a config");
    serde_json::from_str(&text).expect("JSON")
}

fn configure(work: &Work, field: &str, value: Value) {
    edit_json(&work.base.join("config.json"), |config| drop(config.insert(field.to_owned(), value)));
}

/// Adds a tensor of zeros to the base.
fn add(work: &Work, name: &str, dtype: &str, shape: &[u64], bytes: usize) {
    edit(&single(work), |tensors| {
        let data = vec![0; bytes];
        tensors.push(Tensor { name: name.into(), dtype: dtype.into(), shape: shape.to_vec(), data });
    });
}

/// Adds a scale that is one number.
fn add_scale(work: &Work, name: &str) {
    add(work, name, "F32", &[1], 4);
}

fn names(work: &Work) -> Vec<String> {
    let mut names = Vec::new();
    edit(&work.output.join("model.safetensors"), |tensors| {
        names.extend(tensors.iter().map(|tensor| tensor.name.clone()));
    });
    names
}

/// A plain base with a description of its quantization.
fn plain_but_said(key: &str, value: Value) -> Work {
    let work = Work::tiny(Dtype::BF16, 0.5);
    configure(&work, key, value);
    work
}

#[test]
fn a_description_that_nothing_bears_out_is_dropped() {
    for (key, value) in [
        ("quantization_config", json!({"quant_method": "bitsandbytes", "load_in_4bit": true})),
        ("quantization_config", json!({"quant_method": "fp8", "weight_block_size": [128, 128]})),
        ("quantization_config", json!({"quant_method": "somebody's"})),
        ("quantization", json!({"group_size": 64, "bits": 4})),
        ("compression_config", json!({"quant_method": "compressed-tensors"})),
        ("text_config", json!({"quantization_config": {"quant_method": "gptq"}})),
    ] {
        let work = plain_but_said(key, value);
        for flags in [&[][..], &["--keep-quantized"]] {
            let ran = work.succeeds(flags);
            assert!(ran.err.contains("nothing bears it out"), "{key}: {}", ran.err);
            let mut expected = config_of(&work.base);
            let fields = expected.as_object_mut().expect("an object");
            match fields.get_mut("text_config") {
                Some(text) => {
                    drop(text.as_object_mut().expect("an object").shift_remove("quantization_config"))
                }
                None => drop(fields.shift_remove(key)),
            }
            assert_eq!(config_of(&work.output), expected, "{key}");
            std::fs::remove_dir_all(&work.output).expect("removed");
        }
    }
}

#[test]
fn a_file_of_a_quantizer_that_nothing_bears_out_is_left_out() {
    for (name, text) in [
        ("hf_quant_config.json", r#"{"quantization": {"quant_algo": "NVFP4"}}"#),
        ("quantize_config.json", r#"{"bits": 4}"#),
        ("quant_config.json", r#"{"w_bit": 4}"#),
    ] {
        let work = Work::tiny(Dtype::BF16, 0.5);
        std::fs::write(work.base.join(name), text).expect("written");
        let ran = work.succeeds(&[]);
        assert!(ran.err.contains(name) && ran.err.contains("left out of the result"), "{}", ran.err);
        assert!(!work.output.join(name).exists());
    }
}

#[test]
fn scales_of_a_cache_alone_bear_a_description_out() {
    let value =
        json!({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "float"}});
    let work = plain_but_said("quantization_config", value);
    add_scale(&work, "model.layers.0.self_attn.k_scale");
    let ran = work.succeeds(&[]);
    assert!(!ran.err.contains("left out"), "{}", ran.err);
    assert_eq!(config_of(&work.output), config_of(&work.base));
    assert!(names(&work).contains(&"model.layers.0.self_attn.k_scale".to_owned()));
}

#[test]
fn a_description_that_means_plain_weights_is_no_stale_one() {
    let value = json!({"quant_method": "bitnet", "quantization_mode": "online"});
    let work = plain_but_said("quantization_config", value);
    refused("bitnet", &work, &[], 65, &["`quant_method` `bitnet`", "rounded each time they are used"]);
}

/// A base with one weight of codes beside the plain one that the adapter changes.
fn with_codes(dtype: Dtype, beside: &[(&str, Dtype)], config: Value) -> Work {
    let work = Work::tiny(Dtype::F32, 0.5);
    let bytes = |dtype: Dtype| vec![0; 16 * dtype.bitsize() / 8];
    let plain = format!("{MODULE}.weight");
    let ones: Vec<u8> = 1f32.to_le_bytes().repeat(16);
    let mut tensors =
        vec![(plain.as_str(), Dtype::F32, &[4, 4][..], ones), ("m.up.weight", dtype, &[4, 4], bytes(dtype))];
    tensors.extend(beside.iter().map(|(name, dtype)| (*name, *dtype, &[4, 4][..], bytes(*dtype))));
    write_safetensors(&single(&work), &tensors);
    configure(&work, "quantization_config", config);
    work
}

#[test]
fn a_description_that_the_tensors_contradict_is_refused_by_both_names() {
    use Dtype::{F8_E4M3, F32, I8, U8, U32};
    let scale = ("m.up.weight_scale", F8_E4M3);
    let second = ("m.up.weight_scale_2", F32);
    for (dtype, beside, config, says) in [
        (U8, &[scale, second][..], json!({"quant_method": "fp8"}), ["block FP8", "NVFP4 of ModelOpt"]),
        (
            U8,
            &[scale, second],
            json!({"quant_method": "modelopt", "quant_algo": "FP8"}),
            ["FP8 of ModelOpt", "NVFP4 of ModelOpt"],
        ),
        (I8, &[("m.up.SCB", F32)], json!({"quant_method": "gptq"}), ["GPTQ", "bitsandbytes of 8 bits"]),
        (U8, &[("m.up.weight.absmax", F32)], json!({"quant_method": "awq"}), ["AWQ", "bitsandbytes"]),
        (U32, &[("m.up.scales", F32)], json!({"quant_method": "bitsandbytes"}), ["bitsandbytes", "MLX"]),
    ] {
        for flags in [&[][..], &["--keep-quantized"]] {
            refused(says[1], &with_codes(dtype, beside, config.clone()), flags, 65, &says);
        }
    }
    let agreeing = [
        (U8, &[("m.up.weight_scale", F32)][..], json!({"quant_method": "bitnet"})),
        (F8_E4M3, &[("m.up.weight_scale", F32)], json!({"quant_method": "quark"})),
        (F8_E4M3, &[("m.up.weight_scale", F32)], json!({"quant_method": "somebody's"})),
        (U32, &[("m.up.scales", F32)], json!({"bits": 4})),
    ];
    for (dtype, beside, config) in agreeing {
        // What is not touched passes through, and the description stays.
        let work = with_codes(dtype, beside, config.clone());
        work.succeeds(&[]);
        assert_eq!(config_of(&work.output), config_of(&work.base), "{config}");
    }
}

#[test]
fn a_file_of_a_quantizer_that_the_tensors_contradict_is_refused() {
    let work = Work::golden("fp8");
    let text = r#"{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4"}}"#;
    std::fs::write(work.base.join("hf_quant_config.json"), text).expect("written");
    let says = ["`quant_algo` `NVFP4` of `hf_quant_config.json`", "stored as block FP8"];
    refused("another algorithm", &work, &[], 65, &says);
    let work = Work::golden("fp8");
    let text = r#"{"quantization": {"quant_algo": "FP8_PB_WO"}}"#;
    std::fs::write(work.base.join("hf_quant_config.json"), text).expect("written");
    work.succeeds(&[]);
    assert!(!work.output.join("hf_quant_config.json").exists(), "what it says is no longer so");
    let work = Work::golden("fp8");
    std::fs::write(work.base.join("quantize_config.json"), r#"{"bits": 4}"#).expect("written");
    refused("another file", &work, &[], 65, &["`quantize_config.json` says GPTQ", "stored as block FP8"]);
}

#[test]
fn scales_of_caches_and_inputs_go_with_the_description() {
    let scales = [
        "model.layers.0.self_attn.k_scale",
        "model.layers.0.self_attn.v_scale",
        "model.layers.0.self_attn.kv_scale",
        "model.layers.0.self_attn.k_proj.output_scale",
        "model.layers.0.self_attn.q_proj.input_scale",
        "model.layers.0.self_attn.q_proj.activation_scale",
        "model.layers.0.mlp.up_proj.input_scale",
    ];
    let work = Work::golden("fp8");
    scales.iter().for_each(|name| add_scale(&work, name));
    work.succeeds(&[]);
    for name in scales {
        assert!(!names(&work).contains(&name.to_owned()), "{name} is left");
    }
    let work = Work::golden("fp8-kept");
    scales.iter().for_each(|name| add_scale(&work, name));
    work.succeeds(&["--keep-quantized"]);
    for name in scales {
        assert!(names(&work).contains(&name.to_owned()), "{name} is gone");
    }
}

#[test]
fn nothing_is_left_that_only_the_description_explained() {
    for (name, dtype, shape, says) in [
        ("mlp.gate.weight", "I8", &[4, 4][..], "its encoding is not supported"),
        ("mlp.gate.weight", "U8", &[4, 4], "its encoding is not supported"),
        ("mlp.gate.weight", "U32", &[1, 4], "its encoding is not supported"),
        ("mlp.gate.weight", "F8_E5M2", &[4, 4], "its encoding is not supported"),
        ("mlp.gate.qweight", "I32", &[1, 4], "its encoding is not supported (GPTQ or AWQ or AutoRound)"),
        ("mlp.gate.W_q", "U8", &[4, 4], "its encoding is not supported (HQQ)"),
        ("mlp.gate.weight_scale", "F32", &[1, 4], "by its name it belongs to quantized data"),
        ("mlp.gate.weight_zero_point", "I8", &[4, 4], "by its name it belongs to quantized data"),
        ("mlp.gate.weight_shape", "I32", &[4], "by its name it belongs to quantized data"),
        ("mlp.gate.pre_quant_scale", "F32", &[4], "by its name it belongs to quantized data"),
        ("mlp.gate.qzeros", "I32", &[1, 4], "by its name it belongs to quantized data"),
        ("mlp.gate.g_idx", "I32", &[4], "by its name it belongs to quantized data"),
        ("mlp.gate.SCB", "F32", &[4], "by its name it belongs to quantized data"),
        ("mlp.gate.k_scale", "F32", &[4], "by its name it belongs to quantized data"),
    ] {
        let bytes = shape.iter().product::<u64>() as usize * if dtype.ends_with("32") { 4 } else { 1 };
        let work = Work::golden("fp8");
        add(&work, name, dtype, shape, bytes);
        refused(name, &work, &[], 65, &[&format!("`{name}` is quantized"), says]);
        let work = Work::golden("fp8-kept");
        add(&work, name, dtype, shape, bytes);
        if says.contains('(') {
            // Data of a scheme that the description does not mean.
            refused(
                name,
                &work,
                &["--keep-quantized"],
                65,
                &["one of the two comes from another checkpoint"],
            );
        } else {
            work.succeeds(&["--keep-quantized"]);
        }
    }
    // Counts, masks and tables of positions are what they were.
    let work = Work::golden("fp8");
    add(&work, "model.position_ids", "I64", &[1, 4], 32);
    add(&work, "model.mask", "BOOL", &[4, 4], 16);
    add(&work, "model.scale", "F32", &[1], 4);
    work.succeeds(&[]);
}

#[test]
fn weights_whose_meaning_cannot_be_told_are_refused() {
    let scale = |work: &Work, ending: &str| add(work, &format!("{CODES}{ending}"), "F32", &[1], 4);
    let turned = format!("{}.pre_quant_scale", CODES.strip_suffix(".weight").expect("a weight"));
    let two_scales = |work: &Work| scale(work, "_scale");
    let basis = |work: &Work| add(work, &turned, "F32", &[24], 96);
    let listed = |work: &Work| {
        edit_json(&work.base.join("config.json"), |config| {
            config["quantization_config"]["modules_to_not_convert"] = json!(["q_proj"]);
        });
    };
    let globbed = |work: &Work| {
        edit_json(&work.base.join("config.json"), |config| {
            config["quantization_config"]["ignore"] = json!(["*self_attn*"]);
        });
    };
    type Damage<'d> = (&'d dyn Fn(&Work), &'d str);
    let damages: [Damage<'_>; 4] = [
        (&two_scales, "q_proj.weight_scale` stands beside it too"),
        (&basis, "in another basis"),
        (&listed, "lists its module as plain"),
        (&globbed, "lists its module as plain"),
    ];
    for (damage, says) in damages {
        for flags in [&[][..], &["--keep-quantized"]] {
            let work = Work::golden("fp8");
            damage(&work);
            refused(says, &work, flags, 65, &[&format!("`{CODES}` is quantized"), says]);
        }
    }
    // Kept as it is, what no adapter changes may mean what it will.
    let work = Work::golden("fp8-kept");
    add(&work, "model.layers.0.self_attn.o_proj.pre_quant_scale", "F32", &[16], 64);
    work.succeeds(&["--keep-quantized"]);
}

#[test]
fn a_written_shape_that_contradicts_the_codes() {
    for (numbers, says) in [
        ([32i64, 60], "says 60 columns, and its groups make 64"),
        ([31, 64], "holds [31, 64], and its quantized data has 32 rows"),
        ([32, -64], "holds [32, -64]"),
    ] {
        let work = Work::golden("int4");
        edit(&single(&work), |tensors| {
            let shape = named(tensors, &format!("{PACKED}.weight_shape"));
            shape.data = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        });
        refused(says, &work, &[], 65, &[&format!("`{PACKED}.weight` is quantized"), says]);
    }
}

#[test]
fn plain_tensors_of_quantized_bases_are_plain() {
    // No list names them, and `targets` of groups would have them all.
    for case in ["fp8", "int4"] {
        let work = Work::golden(case);
        edit_json(&work.base.join("config.json"), |config| {
            let quantization = config["quantization_config"].as_object_mut().expect("an object");
            ["modules_to_not_convert", "ignore"].iter().for_each(|key| drop(quantization.shift_remove(*key)));
        });
        let listed = Work::golden(case);
        work.succeeds(&[]);
        listed.succeeds(&[]);
        let merged = |work: &Work| std::fs::read(work.output.join("model.safetensors")).expect("a file");
        assert!(merged(&work) == merged(&listed), "{case}");
    }
}

#[test]
fn targets_of_schemes_that_are_not_read_are_refused_by_name() {
    use Dtype::{BF16, F8_E4M3, F32, I8, I32, U8, U32};
    let cases: &[(&[(&str, Dtype)], &str)] = &[
        (&[("qweight", I32), ("qzeros", I32), ("scales", BF16), ("g_idx", I32)], "GPTQ"),
        (&[("qweight", I32), ("qzeros", I32), ("scales", BF16)], "GPTQ or AWQ"),
        (&[("W_q", U8), ("scale", F32), ("zero", F32)], "HQQ"),
        (&[("_weight_qdata", U8), ("_weight_scale", F32), ("_weight_zero_point", F32)], "torchao"),
        (&[("weight", U8), ("weight.absmax", F32), ("weight.quant_map", F32)], "bitsandbytes"),
        (&[("weight", BF16), ("weight.absmax", F32)], "bitsandbytes"),
        (&[("weight", I8), ("SCB", F32)], "bitsandbytes of 8 bits"),
        (&[("weight", U32), ("scales", BF16), ("biases", BF16)], "MLX"),
        (&[("weight", U8), ("weight_scale", F8_E4M3), ("weight_scale_2", F32)], "NVFP4 of ModelOpt"),
        (
            &[("weight_packed", U8), ("weight_scale", F8_E4M3), ("weight_global_scale", F32)],
            "NVFP4 of compressed-tensors",
        ),
        (&[("weight", I8), ("weight_scales", F32)], "EETQ"),
        (&[("codes", I8), ("codebooks", F32), ("scales", F32)], "AQLM"),
    ];
    for (tensors, says) in cases {
        let work = Work::tiny(Dtype::F32, 0.5);
        let names: Vec<String> = tensors.iter().map(|(leaf, _)| format!("{MODULE}.{leaf}")).collect();
        let tensors = names.iter().zip(*tensors).map(|(name, (_, dtype))| {
            (name.as_str(), *dtype, &[4, 4][..], vec![0; 16 * dtype.bitsize() / 8])
        });
        write_safetensors(&single(&work), &tensors.collect::<Vec<_>>());
        for flags in [&[][..], &["--keep-quantized"]] {
            refused(says, &work, flags, 65, &[&format!("`{MODULE}.weight` is quantized"), says]);
        }
    }
}

#[test]
fn blocks_of_any_size_and_scales_of_any_value() {
    let blocks = [[u64::MAX, u64::MAX], [1, 1 << 63], [1 << 63, 1], [u64::MAX - 1, 5], [1, 1]];
    for (block, flags) in
        blocks.into_iter().flat_map(|block| [(block, &[][..]), (block, &["--keep-quantized"])])
    {
        let work = Work::tiny(Dtype::F32, 0.5);
        let counts = block.map(|size| 4u64.div_ceil(size));
        let name = format!("{MODULE}.weight");
        let scales = 3e38f32.to_le_bytes().repeat((counts[0] * counts[1]) as usize);
        let tensors = [
            (name.as_str(), Dtype::F8_E4M3, &[4, 4][..], vec![0; 16]),
            (&format!("{name}_scale_inv"), Dtype::F32, &counts, scales),
        ];
        write_safetensors(&single(&work), &tensors);
        configure(&work, "quantization_config", json!({"quant_method": "fp8", "weight_block_size": block}));
        let ran = work.merge(flags);
        assert!([0, 65].contains(&ran.code), "{block:?} {flags:?}: {} {}", ran.code, ran.err);
    }
    for block in [json!([0, 1]), json!([-1, 4]), json!([]), json!([1.5, 2]), json!("128"), json!([1e30, 1])] {
        let work = Work::golden("fp8");
        configure(&work, "quantization_config", json!({"quant_method": "fp8", "weight_block_size": block}));
        refused("no sizes", &work, &["--keep-quantized"], 65, &["`weight_block_size` is no pair of sizes"]);
    }
}

#[test]
fn a_scale_beside_a_plain_weight_is_the_models_own() {
    let work = Work::tiny(Dtype::BF16, 0.5);
    add(&work, &format!("{MODULE}.scale"), "BF16", &[4], 8);
    add(&work, &format!("{MODULE}.biases"), "BF16", &[4], 8);
    work.succeeds(&[]);
}

#[test]
fn a_head_is_no_copy_of_what_holds_no_numbers() {
    for dtype in ["I16", "U16"] {
        let work = Work::golden("tied-head-bf16");
        edit(&single(&work), |tensors| named(tensors, "model.embed_tokens.weight").dtype = dtype.into());
        refused(
            dtype,
            &work,
            &[],
            65,
            &["cannot be untied: it holds no plain numbers", "hint: `--tied fold`"],
        );
        refused(dtype, &work, &["--tied", "fold"], 65, &["which a delta cannot be added to"]);
    }
}
