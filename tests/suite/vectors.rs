//! Merges into weights that other libraries quantized: each vector is a base, and the result is the exact sum of what its library
//! decoded and the delta, rounded once, however small the tiles are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype as Theirs;
use serde_json::{Value, json};
use shardfold::testing::{Dtype, TestHooks};
use shardfold::{Cancel, Location, Request, Style, Terminal, choose};

use super::golden::merged;
use super::oracle::{Tensor, read};
use super::refusals::refused;
use super::support::{copy_folder, f32s, fixtures, write_safetensors};
use super::work::{MODULE, Work, edit, edit_json};

/// Vectors that hold no weights, or not in safetensors.
const NO_WEIGHTS: &[&str] = &["float_codes", "gguf_types"];
/// What their names are in the files that say what they decode to, where it is said before the library's own rounding.
const UNROUNDED: &str = ".f32";
/// What the vectors keep of what was quantized.
const SOURCE: &str = "source";
const RANK: usize = 2;

/// A vector as a base, and what its weights decode to.
struct VectorBase {
    work: Work,
    decoded: BTreeMap<String, Tensor>,
}

impl VectorBase {
    fn of(folder: &Path) -> VectorBase {
        let work = Work::tiny(Dtype::BF16, 0.5);
        fs::copy(folder.join("model.safetensors"), work.base.join("model.safetensors")).expect("a vector");
        let said: Value =
            serde_json::from_slice(&fs::read(folder.join("config.json")).expect("a vector")).expect("JSON");
        edit_json(&work.base.join("config.json"), |config| {
            config.insert("dtype".to_owned(), json!("bfloat16"));
            config.extend(said.as_object().expect("an object").clone());
            config.insert("dtype".to_owned(), json!("bfloat16"));
        });
        let mut decoded = read(folder, "expected");
        decoded.remove(SOURCE);
        let unrounded: Vec<String> =
            decoded.keys().filter_map(|name| name.strip_suffix(UNROUNDED).map(str::to_owned)).collect();
        for name in unrounded {
            let values = decoded.remove(&format!("{name}{UNROUNDED}")).expect("it is there");
            decoded.insert(name, values);
        }
        VectorBase { work, decoded }
    }

    /// Weights of linear layers, which a LoRA changes.
    fn linear(&self) -> impl Iterator<Item = (&str, [usize; 2])> {
        self.decoded.iter().filter_map(|(name, tensor)| match tensor.shape[..] {
            [outputs, inputs] => Some((name.strip_suffix(".weight")?, [outputs, inputs])),
            _ => None,
        })
    }

    /// An adapter on every linear layer, or on a plain one beside the quantized weights where there is none.
    fn adapt(&self) {
        let mut tensors = Vec::new();
        for (module, [outputs, inputs]) in self.linear() {
            tensors.push((
                format!("{module}.lora_A.weight"),
                [RANK as u64, inputs as u64],
                factor(RANK, inputs, 1),
            ));
            tensors.push((
                format!("{module}.lora_B.weight"),
                [outputs as u64, RANK as u64],
                factor(outputs, RANK, 2),
            ));
        }
        if tensors.is_empty() {
            let shard = self.work.base.join("plain.safetensors");
            write_safetensors(&shard, &[(&format!("{MODULE}.weight"), Dtype::BF16, &[4, 4], vec![0; 32])]);
            self.index();
            return;
        }
        let modules: Vec<&str> = self.linear().filter_map(|(module, _)| module.rsplit('.').next()).collect();
        let config = json!({"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": modules});
        let tensors: Vec<_> =
            tensors.iter().map(|(key, shape, data)| (key.as_str(), &shape[..], data.clone())).collect();
        self.work.adapt_by(&config, &tensors);
    }

    /// An index of both files.
    fn index(&self) {
        let files =
            ["model", "plain"].map(|stem| (format!("{stem}.safetensors"), read(&self.work.base, stem)));
        let map: BTreeMap<String, &str> = files
            .iter()
            .flat_map(|(file, tensors)| tensors.keys().map(|name| (name.clone(), file.as_str())))
            .collect();
        let text = json!({"metadata": {}, "weight_map": map}).to_string();
        fs::write(self.work.base.join("model.safetensors.index.json"), text).expect("a small file");
    }

    /// What the result must be.
    fn right(&self) -> BTreeMap<String, Tensor> {
        let changed: Vec<String> = self.linear().map(|(module, _)| format!("{module}.weight")).collect();
        let of = |(name, tensor): (&String, &Tensor)| {
            let mut values = tensor.values();
            if changed.contains(name) {
                let (outputs, inputs) = (tensor.shape[0], tensor.shape[1]);
                let (a, b) = (factor(RANK, inputs, 1), factor(outputs, RANK, 2));
                for (i, value) in values.iter_mut().enumerate() {
                    let (row, col) = (i / inputs, i % inputs);
                    // All of them are small multiples of powers of 2, so that the sum is exact.
                    *value += (0..RANK)
                        .map(|r| f64::from(b[row * RANK + r]) * f64::from(a[r * inputs + col]))
                        .sum::<f64>();
                }
            }
            (name.clone(), Tensor::rounded(&values, &tensor.shape, Theirs::BF16))
        };
        self.decoded.iter().map(of).collect()
    }

    fn request(&self) -> Request {
        let adapters = vec![(self.work.adapter.clone().into(), 1f64.into())];
        Request { base: Some(self.work.base.clone().into()), adapters, ..Request::default() }
    }
}

/// Some multiples of 1/1024 of either sign.
fn factor(rows: usize, cols: usize, seed: u32) -> Vec<f32> {
    let value = |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 977) >> 24) as f32 - 127.0;
    (0..(rows * cols) as u32).map(|i| value(i) / 1024.0).collect()
}

/// Every vector with weights.
fn vectors() -> Vec<PathBuf> {
    let all = fs::read_dir(fixtures().join("vectors")).expect("the vectors");
    let mut all: Vec<PathBuf> = all.map(|entry| entry.expect("an entry").path()).collect();
    all.retain(|path| !NO_WEIGHTS.iter().any(|name| path.ends_with(name)));
    all.sort();
    all
}

#[test]
fn a_merge_into_any_of_them_is_exact() {
    let mut failures = Vec::new();
    let all = vectors();
    assert!(all.len() >= 68, "only {} vectors", all.len());
    for folder in all {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let base = VectorBase::of(&folder);
        base.adapt();
        let right = base.right();
        let whole = base.request();
        let smallest = Request {
            hooks: TestHooks { forced: Some((smallest_slab(&whole), 1)), ..TestHooks::default() },
            threads: Some(1),
            ..whole.clone()
        };
        for (what, request) in [("whole", whole), ("smallest slabs, depth 1", smallest)] {
            let (files, ours) = merged(&request);
            failures.extend(difference(&right, &ours).map(|wrong| format!("{name}, {what}: {wrong}")));
            let config = String::from_utf8_lossy(&files["config.json"]).into_owned();
            assert!(!config.contains("quantization_config"), "{name}: {config}");
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// What a base decodes to stands for the 16-bit original here: then both ways to encode it again start from the same values, so
/// that the bytes are the same, scales that are made anew included.
#[test]
fn what_starts_from_an_original_is_encoded_as_what_starts_from_its_codes() {
    let mut kept = Vec::new();
    for folder in vectors() {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let base = VectorBase::of(&folder);
        base.adapt();
        if base.linear().next().is_none() || base.decoded.values().any(|tensor| tensor.dtype != Theirs::F32) {
            continue;
        }
        let original = base.work.folder.path().join("original");
        fs::create_dir(&original).expect("a folder");
        fs::copy(base.work.base.join("config.json"), original.join("config.json")).expect("a small file");
        edit_json(&original.join("config.json"), |config| drop(config.remove("quantization_config")));
        let values = |tensor: &Tensor| f32s(tensor.values().iter().map(|value| *value as f32));
        let shapes: Vec<Vec<u64>> = base
            .decoded
            .values()
            .map(|tensor| tensor.shape.iter().map(|axis| *axis as u64).collect())
            .collect();
        let tensors: Vec<_> = base
            .decoded
            .iter()
            .zip(&shapes)
            .map(|((name, tensor), shape)| (name.as_str(), Dtype::F32, &shape[..], values(tensor)))
            .collect();
        write_safetensors(&original.join("model.safetensors"), &tensors);
        for fresh_scales in [false, true] {
            let by_codes = Request {
                keep_quantized: true,
                accept_loss: true,
                allow_noop: true,
                fresh_scales,
                ..base.request()
            };
            let prepared = shardfold::prepare(&by_codes);
            if prepared.is_err() {
                // It is not encoded again, or a value does not fit; the other says so too.
                assert!(
                    shardfold::prepare(&Request { base16: Some(original.clone().into()), ..by_codes })
                        .is_err()
                );
                continue;
            }
            let by_original = Request { base16: Some(original.clone().into()), ..by_codes.clone() };
            let smallest = Request {
                hooks: TestHooks { forced: Some((smallest_slab(&by_original), 1)), ..TestHooks::default() },
                threads: Some(1),
                ..by_original.clone()
            };
            let [codes, ours, small] =
                [by_codes, by_original, smallest].map(|request| merged_or_beyond(&request));
            assert!(ours == codes, "{name}, fresh {fresh_scales}");
            assert!(small == ours, "{name}, fresh {fresh_scales}: in the smallest tiles");
            if ours.is_some() {
                kept.push((name.clone(), fresh_scales));
            }
        }
    }
    println!("{kept:?}");
    assert!(kept.len() >= 86, "only {}: {kept:?}", kept.len());
}

/// The weights of the result; none where a value does not fit scales that stay.
fn merged_or_beyond(request: &Request) -> Option<Vec<u8>> {
    let folder = super::support::quick_folder();
    let output = folder.path().join("merged");
    let prepared = shardfold::prepare(request).expect("it was prepared");
    let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    match prepared.merge(&Location::of_path(&output), reporter.as_mut()) {
        Ok(_) => Some(fs::read(output.join("model.safetensors")).expect("merged")),
        Err(error) if format!("{error:?}").contains("BeyondScale") => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// The smallest tile buffers that some tiles fit.
fn smallest_slab(request: &Request) -> usize {
    let fits = |slab: &usize| {
        let hooks = TestHooks { forced: Some((*slab, 1)), ..TestHooks::default() };
        shardfold::prepare(&Request { hooks, threads: Some(1), ..request.clone() }).is_ok()
    };
    (1..=64).map(|n| n * 4096).find(fits).expect("256 KiB are enough for each of them")
}

/// The first thing in which a result is not what it should be.
fn difference(right: &BTreeMap<String, Tensor>, ours: &BTreeMap<String, Tensor>) -> Option<String> {
    // Biases and the plain weight that an adapter may need pass through; nothing else of the vector may.
    let is_plain = |name: &str| name.ends_with("bias") || name == format!("{MODULE}.weight");
    let names: Vec<&String> =
        ours.keys().filter(|name| right.contains_key(*name) || !is_plain(name)).collect();
    if !names.iter().copied().eq(right.keys()) {
        return Some(format!("its tensors are {names:?}, should be {:?}", right.keys()));
    }
    right.iter().find_map(|(name, right)| {
        let ours = &ours[name];
        if (ours.dtype, &ours.shape) != (right.dtype, &right.shape) {
            return Some(format!("{name} is {:?} {:?}", ours.dtype, ours.shape));
        }
        let (ours, right) = (ours.values(), right.values());
        let at = ours.iter().zip(&right).position(|(ours, right)| ours != right)?;
        Some(format!("{name}: value {at} is {}, should be {}", ours[at], right[at]))
    })
}

/// The values of every weight that a base stands for once an adapter was merged into it, the adapter's own factors if `with_delta`.
fn values_of(base: &Path, work: &Work, with_delta: bool) -> BTreeMap<String, Vec<f64>> {
    let adapter = work.folder.path().join("zeros");
    let _ = fs::remove_dir_all(&adapter);
    copy_folder(&work.adapter, &adapter);
    if !with_delta {
        edit(&adapter.join("adapter_model.safetensors"), |tensors| {
            tensors.iter_mut().for_each(|tensor| tensor.data.fill(0));
        });
    }
    let adapters = vec![(adapter.into(), 1f64.into())];
    let request = Request { base: Some(base.into()), adapters, allow_noop: true, ..Request::default() };
    merged(&request).1.into_iter().map(|(name, tensor)| (name, tensor.values())).collect()
}

/// What is stored with a row for each input gets its delta where the model has it, on the steps that it has.
#[test]
fn what_is_encoded_in_the_order_of_inputs_keeps_its_delta() {
    let vector = |name: &str| {
        let base = VectorBase::of(&fixtures().join("vectors").join(name));
        base.adapt();
        base.work
    };
    let cases = [
        "gptq3_g32_sym",
        "hqq4_g64_axis0",
        "hqq4_g64_axis1",
        "hqq8_g32_axis1",
        "gptq4_g32_sym",
        "gptq4_g32_asym",
        "gptq4_g32_desc_act",
        "gptq8_g32_sym",
        "awq_gemm_g32",
        "awq_gemv_g32",
    ];
    let works =
        cases.map(|name| (name, vector(name))).into_iter().chain([("gpt-oss", Work::golden("mxfp4"))]);
    for (name, work) in works {
        let adapters = vec![(work.adapter.clone().into(), 1f64.into())];
        let kept = Request {
            base: Some(work.base.clone().into()),
            adapters,
            keep_quantized: true,
            accept_loss: true,
            ..Request::default()
        };
        let slab = smallest_slab(&kept);
        let small = Request {
            hooks: TestHooks { forced: Some((slab, 1)), ..TestHooks::default() },
            threads: Some(1),
            ..kept.clone()
        };
        let [whole, small] = [kept, small].map(|request| merged(&request).0);
        assert!(whole["model.safetensors"] == small["model.safetensors"], "{name}: in the smallest tiles");
        let output = work.folder.path().join("kept");
        copy_folder(&work.base, &output);
        fs::write(output.join("model.safetensors"), &whole["model.safetensors"]).expect("a file");
        let [before, right] = [false, true].map(|with_delta| values_of(&work.base, &work, with_delta));
        let after = values_of(&output, &work, false);
        let mut changed = 0;
        for (tensor, right) in right {
            let deltas = right.iter().zip(&before[&tensor]).map(|(right, before)| right - before);
            let moved = after[&tensor].iter().zip(&before[&tensor]).map(|(after, before)| after - before);
            let (products, squares) =
                deltas.zip(moved).fold((0.0, 0.0), |(products, squares), (delta, moved)| {
                    (products + delta * moved, squares + delta * delta)
                });
            if squares > 0.0 {
                assert!(
                    (0.6..1.2).contains(&(products / squares)),
                    "{name} {tensor}: {}",
                    products / squares
                );
                changed += 1;
            } else {
                assert!(after[&tensor] == before[&tensor], "{name} {tensor}");
            }
        }
        assert!(changed > 0, "{name}");
    }
}

#[test]
fn scales_that_a_quantizer_made_from_inputs_are_not_made_anew() {
    for (name, flags, says) in [
        (
            "gptq3_g32_sym",
            &["--keep-quantized", "--scales", "fresh"][..],
            "GPTQ makes scales from inputs that it sees",
        ),
        (
            "gptq4_g32_sym",
            &["--keep-quantized", "--scales", "fresh"],
            "GPTQ makes scales from inputs that it sees",
        ),
        ("hqq4_g64_axis1", &["--keep-quantized", "--scales", "fresh"], "HQQ finds scales by an optimizer"),
        ("quanto_qint4", &["--keep-quantized"], "where a byte holds values of several columns"),
        ("bnb_nf4_double", &["--keep-quantized", "--scales", "fresh"], "with double quantization the scales"),
        (
            "awq_gemm_g32",
            &["--keep-quantized", "--scales", "fresh"],
            "AWQ makes scales from inputs that it sees",
        ),
        (
            "awq_gemv_g32",
            &["--keep-quantized", "--scales", "fresh"],
            "AWQ makes scales from inputs that it sees",
        ),
    ] {
        let base = VectorBase::of(&fixtures().join("vectors").join(name));
        base.adapt();
        refused(name, &base.work, flags, 65, &[says]);
    }
}
