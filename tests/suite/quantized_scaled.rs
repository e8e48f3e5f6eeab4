//! Bases of codes with scales: each scheme's vector as the base of a merge, decoded, and nothing of the scheme left.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use serde_json::{Value, json};
use shardfold::testing::Dtype;

use super::refusals::{named, refused};
use super::support::{f32s, fixtures, write_safetensors};
use super::work::{MODULE, Tensor, Work, edit, edit_json};

/// A second module, which no adapter changes.
pub(super) const OTHER: &str = "model.layers.0.self_attn.k_proj";
const NORM: &str = "model.norm.weight";

/// A base of one scheme.
pub(super) struct Case {
    /// What it is.
    pub name: &'static str,
    /// The vector that it is made from.
    vector: &'static str,
    /// What makes it another scheme's, where no vector is of it: it decodes to the same.
    relabel: fn(&Work),
    /// Endings of scales of inputs that go with the description.
    inputs: &'static [&'static str],
}

/// A case that is a vector as it is.
const fn of(vector: &'static str, inputs: &'static [&'static str]) -> Case {
    Case { name: vector, vector, relabel: |_| (), inputs }
}

const CASES: &[Case] = &[
    of("ct_fp8_tensor", &["input_scale"]),
    of("ct_fp8_channel", &["input_scale", "output_scale"]),
    of("ct_fp8_block", &["input_scale"]),
    Case {
        name: "fp8_tensor_inv",
        vector: "ct_fp8_tensor",
        relabel: |work| {
            rename(work, "weight_scale", "weight_scale_inv", Some(&[]));
            describe(work, json!({"quant_method": "fp8", "weight_block_size": null}));
        },
        inputs: &["activation_scale"],
    },
    Case {
        name: "fp8_tensor",
        vector: "ct_fp8_tensor",
        relabel: |work| describe(work, json!({"quant_method": "fp8", "activation_scheme": "static"})),
        inputs: &["input_scale"],
    },
    Case {
        name: "mistral",
        vector: "ct_fp8_tensor",
        relabel: |work| {
            rename(work, "weight_scale", "qscale_weight", Some(&[]));
            remove_description(work);
        },
        inputs: &["qscale_act"],
    },
    Case {
        name: "fbgemm",
        vector: "ct_fp8_channel",
        relabel: |work| describe(work, json!({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0})),
        inputs: &["input_scale_ub"],
    },
    Case {
        name: "modelopt_fp8",
        vector: "ct_fp8_tensor",
        relabel: |work| {
            rename(work, "weight_scale", "weight_scale", Some(&[]));
            describe(work, json!({"quant_method": "modelopt", "quant_algo": "FP8"}));
        },
        inputs: &["input_scale"],
    },
    Case {
        name: "modelopt_fp8_file",
        vector: "ct_fp8_tensor",
        relabel: |work| {
            remove_description(work);
            beside(work, json!({"quant_algo": "FP8", "exclude_modules": ["lm_head", "*router*"]}));
        },
        inputs: &["input_scale"],
    },
    Case {
        name: "modelopt_fp8_channel",
        vector: "ct_fp8_channel",
        relabel: |work| {
            rename(work, "weight_scale", "weight_scale", Some(&[24]));
            let algorithm = "FP8_PER_CHANNEL_PER_TOKEN";
            describe(work, json!({"quant_method": "modelopt", "quant_algo": algorithm}));
        },
        inputs: &[],
    },
    Case {
        name: "modelopt_mixed_fp8",
        vector: "ct_fp8_tensor",
        relabel: |work| {
            let layers = json!({MODULE: {"quant_algo": "FP8"}, OTHER: {"quant_algo": "FP8"}});
            remove_description(work);
            beside(work, json!({"quant_algo": "MIXED_PRECISION", "quantized_layers": layers}));
        },
        inputs: &[],
    },
    of("ct_int8_w8a8_channel", &["input_scale", "input_zero_point"]),
    of("ct_fp8_block_ragged", &[]),
    of("ct_fp8_channel_bf16", &[]),
    of("ct_fp8_group", &[]),
    of("ct_int8_tensor", &[]),
    of("ct_int8_group", &[]),
    of("bnb_int8", &[]),
    of("bnb_nf4", &[]),
    of("bnb_fp4", &[]),
    Case {
        name: "ct_int4_sym_g32_bf16",
        vector: "ct_int4_sym_g32_bf16",
        relabel: remove_plain_list,
        inputs: &[],
    },
    Case { name: "ct_int3_sym_g32", vector: "ct_int3_sym_g32", relabel: remove_plain_list, inputs: &[] },
    of("ct_mxfp4", &["input_scale"]),
    of("ct_mxfp6", &[]),
    of("ct_mxfp8", &["input_scale"]),
    of("deepseek_v4_fp4", &[]),
    Case {
        name: "mxfp8",
        vector: "ct_mxfp8",
        relabel: |work| {
            rename(work, "weight_scale", "weight_scale_inv", None);
            describe(work, json!({"quant_method": "mxfp8", "modules_to_not_convert": ["lm_head"]}));
        },
        inputs: &[],
    },
    Case {
        name: "modelopt_mxfp8",
        vector: "ct_mxfp8",
        relabel: |work| {
            describe(work, json!({"quant_method": "modelopt", "quant_algo": "MXFP8", "group_size": 32}))
        },
        inputs: &["input_scale"],
    },
    of("ct_nvfp4", &["input_global_scale"]),
    of("modelopt_nvfp4", &["input_scale"]),
    Case {
        name: "modelopt_nvfp4_file",
        vector: "modelopt_nvfp4",
        relabel: |work| {
            remove_description(work);
            let plain = json!(["lm_head"]);
            beside(work, json!({"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": plain}));
        },
        inputs: &["input_scale"],
    },
    of("quanto_qint8", &["input_scale", "output_scale"]),
    of("quanto_qfloat8", &[]),
    Case {
        name: "quanto_file",
        vector: "quanto_qint8",
        relabel: |work| {
            remove_description(work);
            let said = json!({MODULE: {"weights": "qint8", "activations": "none"}});
            fs::write(work.base.join("quanto_qmap.json"), said.to_string()).expect("a small file");
        },
        inputs: &[],
    },
    of("hqq4_g64_axis0", &[]),
    of("hqq4_g64_axis1", &[]),
    of("hqq4_g40_axis1_bf16", &[]),
    of("hqq2_g16_axis0", &[]),
];

/// Calls a tensor of both modules otherwise, and gives it a shape of as many elements.
fn rename(work: &Work, from: &str, to: &str, shape: Option<&[u64]>) {
    edit(&work.base.join("model.safetensors"), |tensors| {
        for module in [MODULE, OTHER] {
            let tensor = named(tensors, &format!("{module}.{from}"));
            tensor.name = format!("{module}.{to}");
            tensor.shape = shape.map_or_else(|| tensor.shape.clone(), <[u64]>::to_vec);
        }
    });
}

/// Replaces what the config says of the quantization.
pub(super) fn describe(work: &Work, quantization: Value) {
    edit_json(&work.base.join("config.json"), |config| config["quantization_config"] = quantization);
}

/// The vector's list leaves the attention plain.
fn remove_plain_list(work: &Work) {
    edit_json(&work.base.join("config.json"), |config| config["quantization_config"]["ignore"] = json!([]));
}

fn remove_description(work: &Work) {
    edit_json(&work.base.join("config.json"), |config| drop(config.shift_remove("quantization_config")));
}

/// Writes ModelOpt's own file.
fn beside(work: &Work, quantization: Value) {
    let said = json!({"producer": {"name": "modelopt"}, "quantization": quantization});
    fs::write(work.base.join("hf_quant_config.json"), said.to_string()).expect("a small file");
}

/// The base of the case of that name, or of a vector.
pub(super) fn case(name: &str) -> (Work, Vec<f32>) {
    let Some(case) = CASES.iter().find(|case| case.name == name) else { return based_on(name) };
    let (work, values) = based_on(case.vector);
    (case.relabel)(&work);
    (work, values)
}

/// A base whose two attention weights are a vector's weight, with an adapter of 0.5 everywhere on the first of them; and the
/// values of that weight.
fn based_on(vector: &str) -> (Work, Vec<f32>) {
    let work = Work::tiny(Dtype::F32, 0.5);
    let from = fixtures().join("vectors").join(vector);
    let path = work.base.join("model.safetensors");
    let expected = fs::read(from.join("expected.safetensors")).expect("a file");
    let expected = SafeTensors::deserialize(&expected).expect("tensors");
    let is_weight = |name: &&str| *name != "source" && !name.ends_with(".f32");
    let name = expected.names().into_iter().find(is_weight).expect("a weight").to_owned();
    let module = name.strip_suffix(".weight").expect("a module").to_owned();
    fs::copy(from.join("model.safetensors"), &path).expect("copied");
    edit(&path, |tensors| {
        let named = |to: &str| {
            let renamed = |tensor: &Tensor| {
                let name = tensor.name.replace(&module, to);
                Tensor { name, ..tensor.clone() }
            };
            tensors.iter().map(renamed).collect::<Vec<_>>()
        };
        let norm =
            Tensor { name: NORM.into(), dtype: "BF16".into(), shape: vec![2], data: vec![1, 63, 2, 64] };
        *tensors = [named(MODULE), named(OTHER), vec![norm]].concat();
    });
    let said: Value =
        serde_json::from_slice(&fs::read(from.join("config.json")).expect("a file")).expect("JSON");
    edit_json(&work.base.join("config.json"), |config| {
        config.insert("dtype".to_owned(), json!("bfloat16"));
        for key in ["quantization_config", "expert_dtype"] {
            config.extend(said.get(key).map(|value| (key.to_owned(), value.clone())));
        }
    });
    let view = expected.tensor(&format!("{name}.f32")).or_else(|_| expected.tensor(&name)).expect("a weight");
    let [rows, cols] = view.shape() else { panic!("two axes") };
    work.adapt(1, *rows as u64, *cols as u64, 1.0, 0.5);
    let values = view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    (work, values.collect())
}

/// Adds scales of one number.
fn add_scales(work: &Work, names: &[String]) {
    edit(&work.base.join("model.safetensors"), |tensors| {
        for name in names
            .iter()
            .filter(|name| !tensors.iter().any(|tensor| tensor.name == **name))
            .collect::<Vec<_>>()
        {
            let (name, data) = (name.clone(), f32s([1.0]));
            tensors.push(Tensor { name, dtype: "F32".into(), shape: vec![1], data });
        }
    });
}

/// The BF16 that is nearest to a sum, which is exact: bits that f32 has no place for count only as being there.
fn rounded(sum: f64) -> [u8; 2] {
    let near = sum as f32;
    let below = if f64::from(near).abs() > sum.abs() { near.to_bits() - 1 } else { near.to_bits() };
    let is_exact = f64::from(f32::from_bits(below)) == sum;
    half::bf16::from_f32(f32::from_bits(below | u32::from(!is_exact))).to_le_bytes()
}

#[test]
fn weights_are_decoded_and_nothing_of_the_scheme_is_left() {
    for Case { name: what, inputs, .. } in CASES {
        let (work, values) = case(what);
        let beside = inputs.iter().map(|end| format!("{MODULE}.{end}"));
        let of_cache = ["k_scale", "v_scale"].map(|end| format!("model.layers.0.self_attn.{end}"));
        add_scales(&work, &beside.chain(of_cache).collect::<Vec<_>>());
        let ran = work.succeeds(&[]);
        assert!(
            ran.err.contains("`quantization_config` is dropped") || !ran.err.contains("warning"),
            "{}",
            ran.err
        );
        let mut merged = Vec::new();
        edit(&work.output.join("model.safetensors"), |tensors| merged = tensors.clone());
        merged.sort_by(|one, other| one.name.cmp(&other.name));
        let names: Vec<&str> = merged.iter().map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(names, [&format!("{OTHER}.weight"), &format!("{MODULE}.weight"), NORM], "{what}");
        for (tensor, delta) in merged.iter().zip([0.0, 0.5]) {
            let right: Vec<u8> = values.iter().flat_map(|value| rounded(f64::from(*value) + delta)).collect();
            assert_eq!(tensor.dtype, "BF16");
            let wrong = tensor.data.chunks(2).zip(right.chunks(2)).position(|(found, right)| {
                let is_zero = |bytes: &[u8]| bytes[0] == 0 && bytes[1] & 0x7f == 0;
                found != right && !(is_zero(found) && is_zero(right))
            });
            assert_eq!((wrong, tensor.data.len()), (None, right.len()), "{what}: {}", tensor.name);
        }
        let config = fs::read_to_string(work.output.join("config.json")).expect("a config");
        assert!(!config.contains("quantization_config") && !config.contains("expert_dtype"), "{config}");
        for file in ["hf_quant_config.json", "quanto_qmap.json"] {
            assert!(!work.output.join(file).exists(), "{what}");
        }
    }
}

/// What is copied, and never encoded again: bytes with values of several columns.
fn is_decoded_only(name: &str) -> bool {
    ["hqq4_g40_axis1_bf16", "hqq2_g16_axis0"].contains(&name)
}

/// A scale serves all of the weight, or a number for all of it bounds the scales.
fn has_one_scale(name: &str) -> bool {
    ["tensor", "mistral", "modelopt_fp8", "modelopt_fp8_file", "modelopt_mixed_fp8"]
        .iter()
        .any(|end| name.ends_with(end))
        || name == "fp8_tensor_inv"
        || name.contains("nvfp4")
}

#[test]
fn they_are_kept_as_they_are_where_nothing_changes_them() {
    for Case { name: what, .. } in CASES {
        let (work, _) = case(what);
        if is_decoded_only(what) {
            let ran = work.merge(&["--keep-quantized"]);
            assert_eq!(ran.code, 65, "{what}: {}", ran.err);
            let says =
                ["not encoded again", "hint: without `--keep-quantized` the result is written in 16 bit"];
            assert!(says.iter().all(|text| ran.err.contains(text)), "{what}: {}", ran.err);
        }
        // An adapter of another weight leaves them as they are.
        edit(&work.base.join("model.safetensors"), |tensors| {
            tensors.retain(|tensor| !tensor.name.starts_with(MODULE));
            let (name, data) = (format!("{MODULE}.weight"), f32s([1.0; 16]));
            tensors.push(Tensor { name, dtype: "F32".into(), shape: vec![4, 4], data });
        });
        work.adapt(1, 4, 4, 1.0, 0.5);
        work.succeeds(&["--keep-quantized"]);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        edit(&work.base.join("model.safetensors"), |tensors| before = tensors.clone());
        edit(&work.output.join("model.safetensors"), |tensors| after = tensors.clone());
        for tensor in before.iter().filter(|tensor| tensor.name.starts_with(OTHER)) {
            let kept = after.iter().find(|kept| kept.name == tensor.name).expect("it is kept");
            assert!(kept.data == tensor.data && kept.dtype == tensor.dtype, "{what}: {}", tensor.name);
        }
    }
}

/// What a result means, which is merged with nothing for it; and its tensors.
fn decoded_again(work: &Work, result: &Path) -> (Vec<f32>, Vec<Tensor>) {
    let mut made = Vec::new();
    edit(&result.join("model.safetensors"), |tensors| made = tensors.clone());
    let again = Work::tiny(Dtype::F32, 0.5);
    fs::remove_dir_all(&again.base).expect("a directory");
    fs::rename(result, &again.base).expect("moved");
    edit_json(&again.base.join("config.json"), |config| {
        config.insert("dtype".to_owned(), json!("float32"));
    });
    for file in ["adapter_model.safetensors", "adapter_config.json"] {
        fs::copy(work.adapter.join(file), again.adapter.join(file)).expect("copied");
    }
    edit(&again.adapter.join("adapter_model.safetensors"), |tensors| {
        tensors.iter_mut().for_each(|tensor| tensor.data.fill(0));
    });
    again.succeeds(&["--allow-noop"]);
    (again.merged(&format!("{MODULE}.weight")), made)
}

/// Whatever the tiles are, every value is at most half a step from the sum, and nothing but the changed weight's own data has changed.
#[test]
fn they_are_encoded_again_where_an_adapter_changes_them() {
    // The codes of HQQ have limits that a delta may exceed: what becomes of them is tested with the vectors.
    for Case { name: what, .. } in CASES.iter().filter(|case| !case.name.starts_with("hqq")) {
        let (work, values) = case(what);
        let (mut before, config) = (Vec::new(), fs::read(work.base.join("config.json")).expect("a file"));
        edit(&work.base.join("model.safetensors"), |tensors| before = tensors.clone());
        // Away from the largest magnitude there is.
        let largest = values.iter().max_by(|one, other| one.abs().total_cmp(&other.abs())).expect("a value");
        let away = largest.signum() * -largest.abs() / 64.0;
        if has_one_scale(what) {
            let ran = work.merge(&["--keep-quantized"]);
            let says = [
                &*format!("`{MODULE}.weight"),
                "gives a value that is too large for its stored scale",
                "hint: without `--keep-quantized` the result is written in 16 bit",
            ];
            assert!(ran.code == 65 && says.iter().all(|text| ran.err.contains(text)), "{what}: {}", ran.err);
            assert!(!work.output.exists());
            let [rows, cols] = shape_of(&work);
            work.adapt(1, rows, cols, 1.0, away);
        }
        let delta = if has_one_scale(what) { away } else { 0.5 };
        let flags = ["--keep-quantized", "--accept-loss", "--max-ram", "40M", "--threads", "1"];
        work.succeeds(&flags[..2]);
        let other = work.folder.path().join("other");
        work.merge_into(&other, &flags);
        let bytes = |folder: &Path| fs::read(folder.join("model.safetensors")).expect("a result");
        assert!(bytes(&work.output) == bytes(&other), "{what}");
        assert!(fs::read(work.output.join("config.json")).expect("a config") == config, "{what}");
        let (merged, made) = decoded_again(&work, &work.output);
        let most = values.iter().fold(0.0f32, |most, value| most.max((value + delta).abs()));
        // A step of floats is at most so much of a value, or of the largest there is; that of whole numbers 1/127. Powers of two take
        // twice the largest number of a format.
        let is_whole = what.contains("int8");
        let (of_value, of_most) = match *what {
            _ if what.starts_with("bnb") => (0.0, 1.0 / 3.0),
            "ct_int4_sym_g32_bf16" => (0.0, 1.0 / 7.5),
            "ct_int3_sym_g32" => (0.0, 1.0 / 3.5),
            _ if what.ends_with("fp4") || what.ends_with("fp4_file") => (0.5, 1.0 / 7.0),
            _ if what.ends_with("mxfp6") => (1.0 / 8.0, 1.0 / 31.0),
            _ => (1.0 / 8.0, 1.0 / 7168.0),
        };
        for (i, (merged, value)) in merged.iter().zip(&values).enumerate() {
            let right = value + delta;
            let step = if is_whole { most / 127.0 } else { (right.abs() * of_value).max(most * of_most) };
            // New scales of BF16 are rounded, and so is the sum of the test.
            let most_off = step / 2.0 + most / 256.0 * f32::from(u8::from(what.contains("int"))) + 1e-6;
            assert!((merged - right).abs() <= most_off, "{what}: {i} is {merged}, should be {right}");
        }
        for (before, after) in before.iter().zip(&made) {
            assert_eq!(
                (&before.name, &before.dtype, &before.shape),
                (&after.name, &after.dtype, &after.shape)
            );
            if !before.name.starts_with(MODULE) {
                assert!(before.data == after.data, "{what}: {}", before.name);
            }
        }
    }
}

/// Rows and columns of the weight that the adapter changes.
fn shape_of(work: &Work) -> [u64; 2] {
    let mut axes = [0, 0];
    edit(&work.weights(), |tensors| {
        for tensor in tensors.iter() {
            let axis = usize::from(tensor.name.contains("lora_A"));
            axes[axis] = tensor.shape[axis];
        }
    });
    axes
}

#[test]
fn fused_experts_are_decoded_with_scales_of_their_own() {
    let experts = "model.layers.0.mlp.experts.down_proj";
    let stored = |work: &Work, scale: &str, numbers: &[f32], shape: &[u64]| {
        edit(&work.base.join("model.safetensors"), |tensors| {
            let mut add = |name: String, dtype: &str, shape: &[u64], data: Vec<u8>| {
                tensors.push(Tensor { name, dtype: dtype.into(), shape: shape.to_vec(), data });
            };
            add(experts.to_owned(), "F8_E4M3", &[2, 3, 4], vec![0x38; 24]);
            add(format!("{experts}{scale}"), "F32", shape, f32s(numbers.iter().copied()));
            if scale == "_scale_inv" {
                add(format!("{experts}_activation_scale"), "F32", &[2], f32s([1.0; 2]));
            }
        });
    };
    let by_expert: Vec<f32> = [[2.0; 12], [3.0; 12]].concat();
    let by_output: Vec<f32> = (0..24).map(|i| if i < 12 { 1.0 } else { 5.0 } + (i % 4) as f32).collect();
    for (config, scale, numbers, shape, right) in [
        (
            json!({"quant_method": "fp8", "weight_block_size": null}),
            "_scale_inv",
            &[2.0, 3.0][..],
            &[2u64, 1, 1][..],
            by_expert,
        ),
        (
            json!({"quant_method": "fbgemm_fp8"}),
            "_scale",
            &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
            &[2, 4, 1],
            by_output,
        ),
    ] {
        let work = Work::tiny(Dtype::F32, 0.5);
        stored(&work, scale, numbers, shape);
        edit_json(&work.base.join("config.json"), |fields| {
            fields.insert("quantization_config".to_owned(), config);
            fields.insert("dtype".to_owned(), json!("float32"));
        });
        work.succeeds(&[]);
        assert_eq!(work.merged(experts), right, "{scale}");
        let mut names = Vec::new();
        edit(&work.output.join("model.safetensors"), |tensors| {
            names.extend(tensors.iter().map(|tensor| tensor.name.clone()));
        });
        names.sort();
        assert_eq!(names, [experts, &format!("{MODULE}.weight")], "{scale}");
    }
}

/// Of a weight that the disk has joined, an adapter reaches the first half: a value of the second that the output cannot hold is an
/// error all the same.
#[test]
fn what_no_delta_reaches_must_fit_too() {
    for (code, is_refused) in [(0x7e, true), (0x30, false)] {
        let work = Work::tiny(Dtype::F16, 0.5);
        let module = "model.layers.0.mlp.gate_up_proj";
        let (weight, scale) = (format!("{module}.weight"), format!("{module}.weight_scale"));
        let codes = [vec![0x30; 512], vec![code; 512]].concat();
        write_safetensors(
            &work.base.join("model.safetensors"),
            &[(&weight, Dtype::F8_E4M3, &[16, 64][..], codes), (&scale, Dtype::F32, &[], f32s([1000.0]))],
        );
        edit_json(&work.base.join("config.json"), |config| {
            let fields = json!({
                "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "intermediate_size": 8, "dtype": "float16",
                "quantization_config": {"quant_method": "fp8"},
            });
            config.extend(fields.as_object().expect("fields").clone());
        });
        let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["gate_proj"]});
        let key = |role| format!("model.layers.0.mlp.gate_proj.{role}.weight");
        let (a, b) = (key("lora_A"), key("lora_B"));
        work.adapt_by(
            &config,
            &[(a.as_str(), &[1, 64], vec![1.0; 64]), (b.as_str(), &[8, 1], vec![50.0; 8])],
        );
        if is_refused {
            refused("448000 in F16", &work, &[], 65, &["gives a value that is not finite", &weight]);
        } else {
            work.succeeds(&[]);
        }
    }
}
