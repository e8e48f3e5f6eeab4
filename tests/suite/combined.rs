//! Several adapters together: weights by module as PEFT's own scales have it, and deltas combined as `add_weighted_adapter` means it.
//! `fixtures/combined/` is written by `make_combined.py`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::oracle::{Tensor, Tensors, read, ulp};
use super::support::{
    Ran, command, contents, copy_folder, f32s, fixtures, quick_folder, ran, write_safetensors,
};
use super::work::Work;
use shardfold::testing::Dtype;

/// A merge of several adapters, each with its weight.
fn merge(base: &Path, adapters: &[(PathBuf, String)], output: &Path, flags: &[&str]) -> Ran {
    let mut command = command(&["merge"]);
    command.arg("--base").arg(base).arg("--output").arg(output);
    for (adapter, weight) in adapters {
        command.arg("--scaled-adapter").arg(adapter).arg(weight);
    }
    ran(command.args(flags).output().expect("the binary starts"))
}

/// What is wrong with the result of a case.
fn wrong(name: &str, (base, right, ours): (&Tensors, &Tensors, &Tensors), share: f64) -> Vec<String> {
    let mut wrong = Vec::new();
    for (tensor, was) in base {
        let (ours, key) = (&ours[tensor], format!("{name}: {tensor}"));
        let Some(right) = right.get(tensor) else {
            wrong.extend((was.raw != ours.raw).then(|| format!("{key} is not the base's")));
            continue;
        };
        let exact = right.values();
        let rounded = Tensor::rounded(&exact, &right.shape, was.dtype).values();
        let most = exact.iter().fold(1.0f64, |most, value| most.max(value.abs()));
        for ((exact, rounded), ours) in exact.iter().zip(&rounded).zip(ours.values()) {
            let bound = if share == 0.0 { 0.0 } else { share * most + ulp(*exact, was.dtype) };
            if (rounded - ours).abs() > bound {
                wrong.push(format!("{key}: {ours}, and {exact} is right"));
                break;
            }
        }
    }
    wrong
}

#[test]
fn cases_are_as_torch_and_peft_have_them() {
    let all = fixtures().join("combined");
    let mut folders: Vec<PathBuf> =
        fs::read_dir(all).expect("the cases").map(|case| case.expect("an entry").path()).collect();
    folders.sort_unstable();
    assert_eq!(folders.len(), 11);
    let mut found = Vec::new();
    for folder in folders {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let said: Value =
            serde_json::from_slice(&fs::read(folder.join("case.json")).expect("a case")).expect("JSON");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let adapters: Vec<(PathBuf, String)> = said["adapters"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|pair| (folder.join(text(&pair[0])), text(&pair[1])))
            .collect();
        let flags: Vec<&str> = said["flags"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|flag| flag.as_str().expect("a text"))
            .collect();
        let work = quick_folder();
        let base = fixtures().join("methods").join(text(&said["base"]));
        let ran = merge(&base, &adapters, &work.path().join("merged"), &flags);
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        let read_all =
            (read(&base, "model"), read(&folder, "right"), read(&work.path().join("merged"), "model"));
        let share = said["share"].as_f64().expect("a number");
        found.extend(wrong(&name, (&read_all.0, &read_all.1, &read_all.2), share));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What SplitMix64 gives so many steps after the first, as it is published.
fn split_mix(seed: u64, steps: u64) -> u64 {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (0..steps).for_each(|_| {
        next();
    });
    next()
}

/// The key of an adapter's delta on a tensor that has no other placements.
fn key(seed: u64, adapter: u32, tensor: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(&adapter.to_le_bytes()).update(&0u64.to_le_bytes());
    hasher.update(tensor.as_bytes());
    u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("32 bytes"))
}

#[test]
fn parts_are_kept_by_their_places_whatever_the_tiles_and_threads() {
    let work = Work::quick(None);
    let second = work.folder.path().join("second");
    copy_folder(&work.adapter, &second);
    let adapters = [(work.adapter.clone(), "1".to_owned()), (second, "-0.5".to_owned())];
    let merged = |name: &str, flags: &[&str]| {
        let output = work.folder.path().join(name);
        let ran = merge(&work.base, &adapters, &output, flags);
        assert_eq!(ran.code, 0, "{}", ran.err);
        contents(&output).into_iter().filter(|(name, _)| name.ends_with(".safetensors")).collect::<Vec<_>>()
    };
    let sum = merged("sum", &[]);
    for how in ["dare_linear", "dare_ties", "ties", "magnitude_prune"] {
        let of = |name: &str, density: &str, flags: &[&str]| {
            let name = format!("{how}-{name}");
            merged(&name, &[&["--combine", how, "--density", density], flags].concat())
        };
        let seed: &[&str] = if how.starts_with("dare") { &["--combine-seed", "7"] } else { &[] };
        let one = of("one", "0.5", seed);
        let small = ["--max-ram", "64M", "--threads", "1", "--slab", "4KiB", "--depth", "1"];
        assert!(one == of("small", "0.5", &[seed, &small].concat()), "{how}");
        assert!(one != sum, "{how}");
        if !seed.is_empty() {
            assert!(one != of("other", "0.5", &["--combine-seed", "8"]), "{how}");
        }
        let whole = of("whole", "1", &[]) == sum;
        assert_eq!(whole, !how.ends_with("ties"), "{how}: a density of 1 leaves the sum");
    }
}

#[test]
fn what_is_drawn_is_divided_by_the_density_and_added_up_or_elected() {
    const TENSOR: &str = "model.layers.0.self_attn.q_proj.weight";
    let work = Work::quick(Some("tiny"));
    let (rows, cols) = (6u64, 10u64);
    let value = |i: u64, step: f32| (i as f32 * 7.0 % 13.0 - 6.0) * step;
    let base: Vec<f32> = (0..rows * cols).map(|i| value(i, 0.125)).collect();
    work.rebase(&[(TENSOR, &[rows, cols], base.clone())]);
    let a: Vec<f32> = (0..2 * cols).map(|i| value(i, 0.25)).collect();
    let key_of = |role| format!("base_model.model.model.layers.0.self_attn.q_proj.{role}.weight");
    // Of each adapter, by its place: its folder, its weight and the delta, which is exact in f64.
    let mut adapters = Vec::new();
    let mut deltas: Vec<Vec<f64>> = Vec::new();
    work.configure("r", 2.into());
    work.configure("lora_alpha", 2.into());
    for (i, weight) in ["1", "3", "-2"].into_iter().enumerate() {
        let b: Vec<f32> = (0..rows * 2).map(|at| value(at + 3 + 5 * i as u64, 0.5)).collect();
        write_safetensors(
            &work.weights(),
            &[
                (&key_of("lora_A"), Dtype::F32, &[2, cols], f32s(a.clone())),
                (&key_of("lora_B"), Dtype::F32, &[rows, 2], f32s(b.clone())),
            ],
        );
        let folder = work.folder.path().join(format!("adapter-{i}"));
        copy_folder(&work.adapter, &folder);
        adapters.push((folder, weight.to_owned()));
        let element = |at: u64| {
            let (i, j) = (at / cols, at % cols);
            (0..2).map(|k| f64::from(b[(i * 2 + k) as usize]) * f64::from(a[(k * cols + j) as usize])).sum()
        };
        deltas.push((0..rows * cols).map(element).collect());
    }
    for how in ["dare_linear", "dare_ties"] {
        let output = work.folder.path().join(how);
        let flags = ["--combine", how, "--density", "0.25", "--combine-seed", "5"];
        let ran = merge(&work.base, &adapters, &output, &flags);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let merged = read(&output, "model")[TENSOR].values();
        let mut kept = 0;
        for (at, found) in merged.iter().enumerate() {
            let is_drawn = |adapter: usize| split_mix(key(5, adapter as u32, TENSOR), at as u64) < 1 << 62;
            let drawn: Vec<(f64, f64)> = (0..3)
                .filter(|adapter| is_drawn(*adapter))
                .map(|adapter| (deltas[adapter][at] * 4.0, adapters[adapter].1.parse().expect("a number")))
                .collect();
            kept += drawn.len();
            let is_positive = drawn.iter().map(|(delta, _)| delta).sum::<f64>() >= 0.0;
            let is_elected =
                |delta: f64| how == "dare_linear" || delta != 0.0 && (delta > 0.0) == is_positive;
            let elected: Vec<f64> = drawn
                .iter()
                .filter(|(delta, _)| is_elected(*delta))
                .map(|(delta, weight)| delta * weight)
                .collect();
            let count = if how == "dare_linear" { 1.0 } else { elected.len().max(1) as f64 };
            // A third is rounded before it is added.
            let exact = f64::from(base[at] + (elected.iter().sum::<f64>() / count) as f32);
            assert_eq!(*found, exact, "{how} {at}");
        }
        assert!((20..70).contains(&kept), "{kept} of 180");
        let record = fs::read_to_string(output.join("shardfold.json")).expect("a record");
        let says = format!("deltas are combined by {how}, with density 0.25 and seed 5");
        assert!(record.contains(&says), "{record}");
    }
}

#[test]
fn another_combination_is_another_merge_and_the_sum_is_none() {
    let work = Work::quick(None);
    let adapters = [(work.adapter.clone(), "1".to_owned())];
    let merge = |flags: &[&str]| merge(&work.base, &adapters, &work.output, flags);
    assert_eq!(merge(&[]).code, 0);
    for flags in [["--combine", "linear"], ["--combine", "cat"]] {
        let again = merge(&flags);
        assert!(again.code == 0 && again.out.contains("already done"), "{}", again.out);
    }
    let other = merge(&["--combine", "svd", "--rank", "3"]);
    assert_eq!(other.code, 73, "{}", other.err);
    let says = "here deltas are combined by svd: the sum of each module's is cut to rank 3";
    assert!(other.err.contains(says), "{}", other.err);
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    let work = Work::quick(None);
    for (flags, says) in [
        (
            &["--combine", "mean"][..],
            "`--combine mean`: `linear`, `cat`, `svd`, `ties`, `magnitude_prune`, `dare_linear` or `dare_ties` is accepted",
        ),
        (&["--combine", "ties"], "`--density`: this `--combine` needs a number"),
        (&["--combine", "ties", "--density", "0.5", "--combine-seed", "3"], "`--combine-seed 3`"),
        (&["--combine", "dare_ties_svd"], "it is accepted without `_svd`"),
        (&["--combine", "svd"], "`--rank`: `--combine svd` needs a whole number"),
        (&["--combine", "svd", "--rank", "0"], "`--rank 0`"),
        (&["--combine", "dare_linear"], "`--density`: this `--combine` needs a number"),
        (&["--combine", "dare_linear", "--density", "1.5"], "`--density 1.5`"),
        (&["--combine", "dare_linear", "--density", "NaN"], "`--density NaN`"),
        (&["--combine", "linear", "--density", "0.5"], "`--density 0.5`: it is accepted with `ties`"),
        (&["--rank", "4"], "`--rank 4`: it is accepted with `--combine svd`"),
        (&["--combine", "dare_linear", "--density", "1", "--combine-seed", "x"], "`--combine-seed x`"),
    ] {
        let ran = work.merge(flags);
        assert!(ran.code == 2 && ran.err.contains(says), "{flags:?}: {} {}", ran.code, ran.err);
    }
}

#[test]
fn other_methods_are_not_combined() {
    let methods = fixtures().join("methods");
    let adapters = [(methods.join("adalora-linear/adapter"), "1".to_owned())];
    let (base, output) = (methods.join("base-f32"), quick_folder());
    let ran = merge(&base, &adapters, &output.path().join("merged"), &["--combine", "svd", "--rank", "1"]);
    let says =
        "(adalora) cannot be combined: its factors are a part of stored tensors, or are made of others";
    assert!(ran.code == 65 && ran.err.contains(says), "{} {}", ran.code, ran.err);
    let golden = Work::golden("dora-bf16");
    let ran = golden.merge(&["--combine", "linear"]);
    let says = "(dora) cannot be combined: only deltas that are a product of two factors, as LoRA's without DoRA, are combined";
    assert!(ran.code == 65 && ran.err.contains(says), "{} {}", ran.code, ran.err);
}
