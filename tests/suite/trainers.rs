//! Adapters of other trainers than PEFT, merged as their own code merges them: `fixtures/trainers/`, written by `make_mlx.py`,
//! `make_image.py`, `make_raw.py`, `make_torchtune.py` and `make_mistral.py`, where each says why the bits must be the same, or how far its own roundings go.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shardfold::testing::TestHooks;
use shardfold::{Cancel, Location, Request, Style, Terminal, choose, prepare};

use super::oracle::{Tensor, read};
use super::support::{command, contents, copy_folder, fixtures, quick_folder};
use super::work::{Work, edit};

/// Cases that must be there, by what their names begin with.
const CASES: &[(&str, usize)] =
    &[("mlx-", 17), ("image-", 83), ("raw-", 19), ("torchtune-", 14), ("mistral-", 7)];

fn case_of(name: &str) -> PathBuf {
    fixtures().join("trainers").join(name)
}

fn said(folder: &Path) -> Value {
    let case = fs::read_to_string(folder.join("case.json")).expect("a case");
    serde_json::from_str(&case).expect("JSON")
}

/// Where the base and the adapter of a case are.
fn places(folder: &Path) -> (PathBuf, PathBuf) {
    let said = said(folder);
    let of = |what: &str| folder.join(said[what].as_str().unwrap_or(what));
    (of("base"), of("adapter"))
}

fn request(folder: &Path) -> Request {
    let (base, adapter) = places(folder);
    Request { base: Some(base.into()), adapters: vec![(adapter.into(), 1f64.into())], ..Request::default() }
}

fn merge(request: &Request, stem: &str) -> BTreeMap<String, Tensor> {
    let work = quick_folder();
    let output = work.path().join("merged");
    let prepared = prepare(request).unwrap_or_else(|error| panic!("{:?}: {error:?}", request.adapters));
    let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    let done = prepared.merge(&Location::of_path(&output), reporter.as_mut());
    done.unwrap_or_else(|error| panic!("{:?}: {error:?}", request.adapters));
    read(&output, stem)
}

/// Holds a merge against the base with the tensors of `merged/` in place of its own.
fn check(folder: &Path, request: &Request) {
    let said = said(folder);
    let stem = said["stem"].as_str().unwrap_or("model");
    let share = said["share"].as_f64().expect("a number");
    let mut right = read(&places(folder).0, stem);
    let changed = read(&folder.join("merged"), stem);
    assert!(!changed.is_empty(), "{}", folder.display());
    for (name, tensor) in changed {
        let was = right.insert(name, tensor.clone()).expect("a tensor of the base");
        assert!(was.raw != tensor.raw && was.shape == tensor.shape);
    }
    let ours = merge(request, stem);
    assert!(right.keys().eq(ours.keys()), "{}: names", folder.display());
    for (name, right) in &right {
        let ours = &ours[name];
        assert_eq!((right.dtype, &right.shape), (ours.dtype, &ours.shape), "{}: {name}", folder.display());
        let far = |(right, ours): &(f64, f64)| (right - ours).abs() > share * right.abs().max(1.0);
        let pairs: Vec<(f64, f64)> =
            right.values().iter().zip(ours.values()).map(|(right, ours)| (*right, ours)).collect();
        let (count, worst) =
            (pairs.iter().filter(|pair| far(pair)).count(), pairs.iter().find(|pair| far(pair)));
        assert!(count == 0, "{}: {name}: {count} of {}, {worst:?}", folder.display(), pairs.len());
    }
}

#[test]
fn every_case_is_as_its_trainer_has_it() {
    let cases = fs::read_dir(case_of("")).expect("the cases");
    let all = cases.map(|case| case.expect("an entry").path());
    let cases: Vec<_> = all.filter(|case| case.join("case.json").exists()).collect();
    for (start, count) in CASES {
        let is_one =
            |case: &&PathBuf| case.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
        assert_eq!(cases.iter().filter(is_one).count(), *count, "{start}");
    }
    for folder in cases {
        let whole = request(&folder);
        check(&folder, &whole);
        let small = TestHooks { forced: Some((4096, 1)), ..TestHooks::default() };
        check(&folder, &Request { hooks: small, threads: Some(1), ..whole });
    }
}

/// A case as a merge whose parts can be changed.
pub(super) fn work(case: &str) -> Work {
    let work = Work::quick(Some("tiny"));
    for (part, at) in [("base", &work.base), ("adapter", &work.adapter)] {
        fs::remove_dir_all(at).expect("it was there");
        copy_folder(&case_of(case).join(part), at);
    }
    work
}

fn refused(work: &Work, says: &str) {
    refused_with(work, &[says]);
}

/// Holds a merge to being refused by a message that has all of these.
pub(super) fn refused_with(work: &Work, says: &[&str]) {
    let ran = work.merge(&[]);
    assert!(ran.code == 65 || ran.code == 66, "{}: {}", ran.code, ran.err);
    says.iter().for_each(|says| assert!(ran.err.contains(says), "no `{says}` in {}", ran.err));
    assert!(!work.output.exists() && !work.partial().exists());
}

#[test]
fn what_mlx_does_not_say_or_is_not_merged_is_refused() {
    let with = |field: &str, value: Value| {
        let work = work("mlx-lora");
        work.configure(field, value);
        work
    };
    refused(
        &with("lora_parameters", json!({"rank": 2, "alpha": 16})),
        "sets `lora_parameters.scale` to `null`",
    );
    refused(&with("lora_parameters", json!({"rank": 0, "scale": 1})), "sets `lora_parameters.rank` to `0`");
    refused(&with("lora_parameters", json!({"rank": 3, "scale": 1})), "rank");
    let unknown = json!({"rank": 2, "scale": 1, "dora_scale": 2});
    refused(&with("lora_parameters", unknown), "which holds `dora_scale`, a field shardfold does not know");
    refused(&with("lora_parameters", json!(2)), "is no object with `rank` and `scale`");
    refused(&with("fine_tune_type", json!("prefix")), "is none of `lora`, `dora`, `full`");
    let bare = work("mlx-lora");
    fs::remove_file(bare.adapter.join("adapter_config.json")).expect("it was there");
    refused(&bare, "adapter_config.json");
    refused(&bare, "what its deltas are multiplied by");
    let scaled = work("mlx-dora");
    edit(&scaled.adapter.join("adapters.safetensors"), |tensors| {
        tensors.iter_mut().for_each(|tensor| {
            tensor.name = tensor.name.replace("model.layers.0.self_attn.q_proj.m", "model.embed_tokens.m");
        });
    });
    refused(&scaled, "adapts an embedding by DoRA");
    let half = work("mlx-moe");
    edit(&half.adapter.join("adapters.safetensors"), |tensors| {
        tensors.retain(|tensor| tensor.name != "model.layers.1.mlp.switch_mlp.up_proj.lora_b");
    });
    refused(&half, "model.layers.1.mlp.switch_mlp.up_proj.lora_a");
}

#[test]
fn what_lies_beside_an_adapter_of_mlx() {
    let work = work("mlx-lora");
    let tensors = work.adapter.join("adapters.safetensors");
    // States of the training on the way, and the file given instead of its directory.
    fs::copy(&tensors, work.adapter.join("0000100_adapters.safetensors")).expect("a copy");
    work.succeeds(&[]);
    let first = fs::read(work.output.join("model.safetensors")).expect("a result");
    fs::remove_dir_all(&work.output).expect("a result");
    let by_file = Work { adapter: tensors, ..work };
    by_file.succeeds(&[]);
    assert!(fs::read(by_file.output.join("model.safetensors")).expect("a result") == first);
    fs::copy(&by_file.adapter, by_file.adapter.with_file_name("projector.safetensors")).expect("a copy");
    fs::remove_dir_all(&by_file.output).expect("a result");
    refused(&by_file, "has weights beside it that are not merged: `projector.safetensors`");
}

/// A golden case as PEFT saved it before safetensors.
fn pickled(case: &str, file: &str) -> Work {
    let work = Work::golden(case);
    fs::remove_file(work.weights()).expect("it was there");
    let from = fixtures().join("pytorch").join(format!("{file}.bin"));
    fs::copy(from, work.adapter.join("adapter_model.bin")).expect("a copy");
    work
}

#[test]
fn adapters_of_torch_merge_as_those_of_safetensors() {
    for case in ["all-linear", "dora-bf16", "adapter-f16-base-f32"] {
        let (whole, pickled) = (Work::golden(case), pickled(case, case));
        whole.succeeds(&[]);
        pickled.succeeds(&[]);
        let right = read(&whole.output, "model");
        let ours = read(&pickled.output, "model");
        assert!(right.keys().eq(ours.keys()), "{case}");
        assert!(right.iter().all(|(name, tensor)| tensor.raw == ours[name].raw), "{case}");
    }
    let merged = |work: Work| {
        work.succeeds(&[]);
        read(&work.output, "model")
    };
    let right = merged(Work::golden("all-linear"));
    for file in ["nested", "legacy", "legacy-nested", "state"] {
        let ours = merged(pickled("all-linear", file));
        assert!(right.iter().all(|(name, tensor)| tensor.raw == ours[name].raw), "{file}");
    }
    for (file, says) in [
        ("evil", "`posix.system`, which is no part of a tensor and is not run"),
        ("strided", "call `.contiguous()` before it is saved"),
        ("shared", "share some of their bytes"),
        ("legacy-evil", "`posix.system`, which is no part of a tensor and is not run"),
        ("legacy-big-endian", "its numbers are big-endian"),
        ("legacy-cut", "reaches beyond the file"),
        ("deflated", "is compressed"),
        ("cut", "fetch it again"),
    ] {
        refused(&pickled("all-linear", file), says);
    }
}

#[test]
fn what_files_of_image_models_hold_beside_is_named() {
    let with = |change: &dyn Fn(&mut Vec<super::work::Tensor>)| {
        let mut work = Work::quick(Some("tiny"));
        work.base = case_of("base-unet");
        work.adapter = work.folder.path().join("style.safetensors");
        fs::copy(case_of("image-kohya-unet/adapter.safetensors"), &work.adapter).expect("a copy");
        edit(&work.adapter, |tensors| change(tensors));
        work
    };
    let whole = with(&|_| {});
    let ran = whole.succeeds(&[]);
    let says = "for another component of the pipeline than the base is";
    assert!(ran.err.contains(says) && ran.err.contains("lora_te_"), "{}", ran.err);
    let renamed = |from: &'static str, to: &'static str| {
        with(&move |tensors| {
            tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace(from, to));
        })
    };
    refused(&renamed("to_q.lora_down.weight", "to_q.lora_x.weight"), "no method that is read has it");
    refused(
        &renamed("to_q.lora_down.weight", "to_q.bias_indices"),
        "the sparse rest of a difference is not merged",
    );
    refused(&renamed("to_q.lora_down.weight", "to_q.oft_blocks"), "another method changes its module too");
    refused(&renamed("to_q.lora_down.weight", "to_q.diff"), "another method changes its module too");
    refused(&renamed("lora_te_", "bundle_emb."), "load it as a textual inversion");
    refused(&renamed("lora_te_", "te_"), "its name begins as that of no component of a pipeline");
    refused(&renamed("attn2_to_q", "attn3_to_q"), "adapter tensors match no base tensor");
    let lone = with(&|tensors| tensors.retain(|tensor| !tensor.name.contains("attn2_to_q.lora_")));
    refused(&lone, "attn2_to_q.alpha");
    let half = with(&|tensors| tensors.retain(|tensor| !tensor.name.ends_with("attn2_to_q.lora_up.weight")));
    refused(&half, "lora_B.weight");
    let scaled = with(&|tensors| {
        let name = |tensor: &super::work::Tensor| tensor.name.ends_with(".alpha");
        tensors
            .iter_mut()
            .filter(|tensor| name(tensor))
            .for_each(|tensor| tensor.data = f32::NAN.to_le_bytes().into());
    });
    refused(&scaled, "an alpha is one finite number");
}

#[test]
fn bases_of_torch_merge_as_those_of_safetensors() {
    for case in ["all-linear", "bert-bf16-sharded"] {
        let (whole, older) = (Work::golden(case), Work::golden(case));
        fs::remove_dir_all(&older.base).expect("it was there");
        copy_folder(&fixtures().join("pytorch").join(format!("base-{case}")), &older.base);
        whole.succeeds(&[]);
        let ran = older.succeeds(&[]);
        assert!(ran.err.contains("weights are read from `pytorch_model"), "{}", ran.err);
        let (right, ours) = (contents(&whole.output), contents(&older.output));
        assert!(right.keys().eq(ours.keys()), "{case}: {:?} and {:?}", right.keys(), ours.keys());
        let (right, ours) = (read(&whole.output, "model"), read(&older.output, "model"));
        assert!(right.keys().eq(ours.keys()), "{case}");
        assert!(right.iter().all(|(name, tensor)| tensor.raw == ours[name].raw), "{case}");
        let again = older.merge(&[]);
        assert!(again.code == 0 && again.out.contains("already done"), "{}{}", again.out, again.err);
        let mut verify = command(&["verify"]);
        verify.arg(&older.output).arg("--base").arg(&older.base).arg("--adapter").arg(&older.adapter);
        let ran = verify.output().expect("it runs");
        assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    }
}

#[test]
fn two_names_of_one_storage_are_two_tensors() {
    let work = Work::golden("all-linear");
    fs::remove_file(work.base.join("model.safetensors")).expect("it was there");
    fs::copy(fixtures().join("pytorch/tied.bin"), work.base.join("pytorch_model.bin")).expect("a copy");
    work.succeeds(&[]);
    let merged = read(&work.output, "model");
    assert!(merged["lm_head.weight"].raw == merged["model.embed_tokens.weight"].raw);
    let both = Work::golden("all-linear");
    fs::copy(fixtures().join("pytorch/tied.bin"), both.base.join("pytorch_model.bin")).expect("a copy");
    // Where there are both, those that libraries look for first count.
    let ran = both.succeeds(&[]);
    assert!(!ran.err.contains("weights are read from"), "{}", ran.err);
}

/// A merge of one file into a base of `fixtures/trainers/`.
fn file_of(base: &str, case: &str) -> Work {
    let mut work = Work::quick(Some("tiny"));
    work.base = case_of(base);
    work.adapter = work.folder.path().join("style.safetensors");
    fs::copy(case_of(case).join("adapter.safetensors"), &work.adapter).expect("a copy");
    work
}

/// The tensors of another case's file.
fn tensors_of(case: &str) -> Vec<super::work::Tensor> {
    let (work, mut found) = (file_of("base-unet", case), Vec::new());
    edit(&work.adapter, |tensors| found.append(tensors));
    found
}

#[test]
fn files_of_two_trainers_are_refused_by_what_is_in_them() {
    let alike = "is for several components, and both those of";
    for (base, case, other, says) in [
        ("base-unet", "image-kohya-unet", "image-lycoris-locon", alike),
        ("base-unet", "image-kohya-unet", "image-diffusers-unet", alike),
        ("base-unet", "image-lycoris-loha", "image-kohya-conv", alike),
        ("base-te1", "image-kohya-te1", "image-lycoris-locon-text", alike),
        ("base-te1", "image-kohya-te1", "image-kohya-sdxl-te1", alike),
        ("base-flux", "image-kohya-flux", "image-comfy-flux", alike),
        ("base-flux", "image-kohya-flux", "image-diffusers-flux", alike),
        ("base-flux", "image-lycoris-lokr-flux", "image-kohya-flux", alike),
        ("base-unet", "image-lycoris-lokr", "image-lycoris-loha", "another method changes its module too"),
        (
            "base-unet",
            "image-lycoris-locon",
            "image-lycoris-lokr-both",
            "another method changes its module too",
        ),
        (
            "base-unet",
            "image-lycoris-locon-dora",
            "image-lycoris-loha",
            "another method changes its module too",
        ),
        ("base-flux", "image-kohya-unet", "image-kohya-te1", "match no base tensor"),
        ("base-te2", "image-lycoris-locon", "image-kohya-unet", "match no base tensor"),
    ] {
        let work = file_of(base, case);
        edit(&work.adapter, |tensors| {
            let own: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
            let new = tensors_of(other).into_iter().filter(|tensor| !own.contains(&tensor.name));
            tensors.extend(new.collect::<Vec<_>>());
        });
        refused(&work, says);
    }
}

#[test]
fn of_components_that_are_alike_the_directory_tells() {
    let both = |folder: &str| {
        let mut work = file_of("base-flux", "image-diffusers-flux");
        edit(&work.adapter, |tensors| {
            let mut more = tensors_of("image-diffusers-flux");
            more.iter_mut()
                .for_each(|tensor| tensor.name = tensor.name.replace("transformer.", "transformer_2."));
            tensors.extend(more);
        });
        work.base = work.folder.path().join(folder);
        copy_folder(&case_of("base-flux"), &work.base);
        work
    };
    refused(&both("base"), "hint: of components that are alike the one counts");
    for folder in ["transformer", "transformer_2"] {
        let work = both(folder);
        let ran = work.succeeds(&[]);
        let other = if folder == "transformer" { "transformer_2." } else { "transformer." };
        assert!(ran.err.contains(&format!("ignored `{other}")), "{}", ran.err);
    }
}

#[test]
fn damaged_files_of_trainers_are_refused() {
    for (base, case) in [
        ("base-unet", "image-kohya-unet"),
        ("base-unet", "image-lycoris-lokr"),
        ("base-unet", "image-lycoris-loha-tucker"),
        ("base-unet", "image-lycoris-locon-tucker-dora"),
        ("base-unet", "image-lycoris-glora"),
        ("base-flux", "image-kohya-flux"),
        ("base-unet", "image-diffusers-metadata"),
        ("base-te1", "image-lycoris-locon-text"),
    ] {
        for part in [3, 7] {
            let work = file_of(base, case);
            let whole = fs::read(&work.adapter).expect("a file");
            fs::write(&work.adapter, &whole[..whole.len() * part / 8]).expect("written");
            refused(&work, "style.safetensors");
        }
        // Every second tensor is missing: partners are, or alphas have none.
        let half = file_of(base, case);
        edit(&half.adapter, |tensors| {
            let mut i = 0;
            tensors.retain(|_| {
                i += 1;
                i % 2 == 0
            });
        });
        refused(&half, "has no partner");
        // Factors of another model.
        let other = file_of(base, case);
        edit(&other.adapter, |tensors| {
            for tensor in tensors.iter_mut().filter(|tensor| tensor.shape.len() == 2) {
                tensor.shape.reverse();
            }
        });
        refused(&other, "error:");
    }
    for text in ["[1, 2]", "{\"unet.r\": \"x\"}", "{\"r\": 2}", "{"] {
        let work = file_of("base-unet", "image-diffusers-metadata");
        let value = serde_json::to_string(text).expect("a text");
        super::work::edit_header(&work.adapter, |header| {
            let start = header.find("\"lora_adapter_metadata\":").expect("it is there");
            let end = header[start..].find("\"},").expect("it ends") + start + 1;
            format!("{}\"lora_adapter_metadata\":{value}{}", &header[..start], &header[end..])
        });
        refused(&work, "error:");
    }
}

#[test]
fn what_is_added_in_full_is_added_as_it_is() {
    let merged = |case: &str, weight: &str, change: &dyn Fn(&mut super::work::Tensor)| {
        let work = file_of("base-unet", case);
        edit(&work.adapter, |tensors| tensors.iter_mut().for_each(change));
        let mut merge = command(&["merge", "--quiet"]);
        merge.arg("--base").arg(&work.base).arg("--scaled-adapter").arg(&work.adapter).arg(weight);
        let ran = merge.arg("-o").arg(&work.output).output().expect("it runs");
        assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
        fs::read(work.output.join("diffusion_pytorch_model.safetensors")).expect("a result")
    };
    let halved = |tensor: &mut super::work::Tensor| {
        let scaled = [".diff", ".diff_b", "_norm", ".weight"];
        if scaled.iter().any(|end| tensor.name.ends_with(end)) {
            let values =
                tensor.data.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().expect("four")));
            tensor.data = values.flat_map(|value| (value / 2.0).to_le_bytes()).collect();
        }
    };
    for case in ["image-lycoris-full-norms", "image-lycoris-ia3-inputs", "image-lycoris-ia3"] {
        assert!(merged(case, "0.5", &|_| {}) == merged(case, "1", &halved), "{case}");
    }
    for (base, case) in [("base-unet", "image-lycoris-oft"), ("base-wan", "image-names-comfy-wan")] {
        let work = file_of(base, case);
        let mut merge = command(&["merge", "--quiet"]);
        merge.arg("--base").arg(&work.base).arg("--scaled-adapter").arg(&work.adapter).arg("0.5");
        let ran = merge.arg("-o").arg(&work.output).output().expect("it runs");
        let err = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.code() == Some(65) && err.contains("use weight 1 for this adapter"), "{err}");
    }
}

#[test]
fn magnitudes_and_differences_of_other_shapes_are_refused() {
    let shaped = |case: &str, old: &'static [u64], new: &'static [u64]| {
        let work = file_of("base-unet", case);
        edit(&work.adapter, |tensors| {
            let some = tensors.iter_mut().filter(|tensor| tensor.shape == old);
            some.for_each(|tensor| tensor.shape = new.into());
        });
        work
    };
    refused(&shaped("image-lycoris-locon-dora", &[8, 1, 1, 1], &[1, 8, 1, 1]), "one for every input");
    let of_blocks = "[stages, blocks, b, b] with an even b";
    refused(&shaped("image-lycoris-oft", &[4, 3, 3], &[9, 2, 2]), of_blocks);
    refused(&shaped("image-lycoris-boft", &[2, 2, 4, 4], &[4, 2, 2, 4]), of_blocks);
    refused(&shaped("image-lycoris-boft", &[2, 2, 4, 4], &[4, 4, 4]), of_blocks);
    let other = "is it for this base?";
    refused(&shaped("image-lycoris-full", &[8, 8, 3, 3], &[8, 72]), other);
    refused(&shaped("image-lycoris-norms", &[12], &[3, 4]), other);
}

#[test]
fn an_alpha_of_zero_is_none() {
    let with = |alpha: Option<f32>| {
        let work = file_of("base-unet", "image-kohya-unet");
        edit(&work.adapter, |tensors| match alpha {
            None => tensors.retain(|tensor| !tensor.name.ends_with(".alpha")),
            Some(alpha) => {
                let own = tensors.iter_mut().filter(|tensor| tensor.name.ends_with(".alpha"));
                own.for_each(|tensor| tensor.data = alpha.to_le_bytes().into());
            }
        });
        work.succeeds(&[]);
        fs::read(work.output.join("diffusion_pytorch_model.safetensors")).expect("a result")
    };
    // The rank is 2.
    let none = with(None);
    assert!(with(Some(0.0)) == none && with(Some(2.0)) == none && with(Some(1.0)) != none);
}

#[test]
fn a_language_model_is_no_component_of_a_pipeline() {
    let mut work = Work::golden("all-linear-gpt2");
    let from = work.weights();
    work.adapter = work.folder.path().join("style.safetensors");
    fs::rename(from, &work.adapter).expect("renamed");
    edit(&work.adapter, |tensors| {
        tensors.iter_mut().for_each(|tensor| {
            tensor.name = tensor.name.replace("base_model.model.", "");
        });
    });
    // Its modules are there, and what the deltas are multiplied by is not.
    for base in ["with", "without"] {
        edit(&work.base.join("model.safetensors"), |tensors| {
            let old = if base == "with" { "" } else { "transformer." };
            tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replacen(old, "", 1));
        });
        refused(&work, "match no base tensor");
    }
}
