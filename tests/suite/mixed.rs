//! Files of adapters that are not what they seem: tensors of two formats in one file, files that were cut, and files under the names of
//! others. Each ends as what it holds, or is refused by that; nothing is merged in part.

use std::fs;
use std::path::{Path, PathBuf};

use super::support::{Ran, copy_folder, fixtures};
use super::work::{Tensor, Work, edit, write};

fn trainers(name: &str) -> PathBuf {
    fixtures().join("trainers").join(name)
}

/// The tensors of a file of safetensors.
fn tensors(file: &Path) -> Vec<Tensor> {
    let folder = super::support::quick_folder();
    let copy = folder.path().join("copy.safetensors");
    fs::copy(file, &copy).expect("a fixture");
    let mut found = Vec::new();
    edit(&copy, |tensors| found.clone_from(tensors));
    found
}

/// A case as a merge that is quick.
fn work(case: &str) -> Work {
    let mut work = Work::quick(Some("tiny"));
    let said: serde_json::Value =
        serde_json::from_slice(&fs::read(trainers(case).join("case.json")).expect("a case")).expect("JSON");
    let of = |what: &str| trainers(case).join(said[what].as_str().unwrap_or(what));
    fs::remove_dir_all(&work.base).expect("it was there");
    copy_folder(&of("base"), &work.base);
    if of("adapter").is_dir() {
        fs::remove_dir_all(&work.adapter).expect("it was there");
        copy_folder(&of("adapter"), &work.adapter);
    } else {
        let file = of("adapter");
        work.adapter = work.folder.path().join(file.file_name().expect("a name"));
        fs::copy(file, &work.adapter).expect("a fixture");
    }
    work
}

/// Holds a run to having refused all.
fn refused(what: &str, work: &Work, ran: &Ran, says: &str) {
    assert!([65, 66].contains(&ran.code), "{what}: {} {}{}", ran.code, ran.out, ran.err);
    assert!(ran.err.contains(says), "{what}: no `{says}` in {}", ran.err);
    assert!(!work.output.exists() && !work.partial().exists(), "{what}: something was made");
}

/// One file of image models, and another whose tensors are added to it.
const KOHYA: &str = "image-kohya-unet";

#[test]
fn tensors_of_two_formats_are_not_merged_in_part() {
    let file = |case: &str| {
        let folder = trainers(case);
        let own =
            ["adapter.safetensors", "pytorch_lora_weights.safetensors", "adapter/adapter_model.safetensors"];
        let own = own.map(|name| folder.join(name)).into_iter().find(|path| path.exists());
        own.unwrap_or_else(|| folder.join("adapter/adapters.safetensors"))
    };
    let golden = fixtures().join("golden/all-linear/adapter/adapter_model.safetensors");
    let cases: Vec<(&str, Vec<Tensor>, &str)> = vec![
        ("PEFT's", tensors(&golden), "its name begins as that of no component"),
        ("mlx-lm's", tensors(&file("mlx-lora")), "its name begins as that of no component"),
        ("diffusers' for the same modules", tensors(&file("image-diffusers-unet")), "both"),
        ("LyCORIS' for the same modules", tensors(&file("image-lycoris-loha")), "both"),
        (
            "one of an optimizer",
            vec![named("optimizer.state.0", &[2], 8)],
            "its name begins as that of no component",
        ),
        (
            "one of a method that nobody has",
            vec![named("lora_unet_mid_block_attentions_0_proj_in.other", &[2], 8)],
            "no method that is read has it",
        ),
    ];
    for (what, more, says) in cases {
        let work = work(KOHYA);
        edit(&work.adapter, |tensors| {
            let own: Vec<String> = tensors.iter().map(|tensor| tensor.name.clone()).collect();
            tensors.extend(more.into_iter().filter(|tensor| !own.contains(&tensor.name)));
        });
        refused(what, &work, &work.merge(&[]), says);
    }
    // The other way round: what is not PEFT's in a file of PEFT's.
    for (what, case) in [("Kohya's", KOHYA), ("LyCORIS'", "image-lycoris-loha"), ("mlx-lm's", "mlx-lora")] {
        let work = Work::golden("all-linear");
        edit(&work.adapter.join("adapter_model.safetensors"), |all| all.extend(tensors(&file(case))));
        refused(&format!("{what} in PEFT's"), &work, &work.merge(&[]), "");
    }
    for (what, more) in [("PEFT's", tensors(&golden)), ("Kohya's", tensors(&file(KOHYA)))] {
        let work = work("mlx-lora");
        edit(&work.adapter.join("adapters.safetensors"), |all| all.extend(more));
        refused(&format!("{what} in mlx-lm's"), &work, &work.merge(&[]), "");
    }
    let work = work("mistral-lora");
    edit(&work.adapter.join("lora.safetensors"), |all| all.extend(tensors(&golden)));
    refused("PEFT's in mistral-finetune's", &work, &work.merge(&[]), "");
}

fn named(name: &str, shape: &[u64], bytes: usize) -> Tensor {
    Tensor { name: name.to_owned(), dtype: "F32".to_owned(), shape: shape.to_vec(), data: vec![0; bytes] }
}

#[test]
fn files_that_were_cut_are_refused() {
    for (case, file) in [
        (KOHYA, ""),
        ("image-lycoris-loha", ""),
        ("mlx-lora", "adapters.safetensors"),
        // Its export does not stand in for it, whose rows are in a wrong order.
        ("torchtune-qwen2", "adapter_model.pt"),
        ("mistral-lora", "lora.safetensors"),
    ] {
        for share in [0, 1, 8, 40, 90] {
            let work = work(case);
            let path = if file.is_empty() { work.adapter.clone() } else { work.adapter.join(file) };
            let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{case}: {error}"));
            fs::write(&path, &bytes[..bytes.len() * share / 100]).expect("written");
            let says = if file.is_empty() { "not a readable safetensors file" } else { "" };
            refused(&format!("{share} % of {case}"), &work, &work.merge(&[]), says);
        }
    }
}

#[test]
fn files_under_other_names_are_what_they_hold() {
    // What is in it tells, whatever the name of a safetensors file is.
    for name in [
        "pytorch_lora_weights.safetensors",
        "adapters.safetensors",
        "lora.safetensors",
        "model (1).safetensors",
    ] {
        let mut work = work(KOHYA);
        let renamed = work.folder.path().join(name);
        fs::rename(&work.adapter, &renamed).expect("renamed");
        work.adapter = renamed;
        work.succeeds(&[]);
    }
    // A pickle is no safetensors file, nor the other way round, and says so.
    for (name, says) in [("style.bin", ""), ("style.pt", ""), ("style.gguf", ""), ("style.txt", "")] {
        let mut work = work(KOHYA);
        let renamed = work.folder.path().join(name);
        fs::rename(&work.adapter, &renamed).expect("renamed");
        work.adapter = renamed;
        refused(name, &work, &work.merge(&[]), says);
    }
    let pickle = fixtures().join("pytorch/all-linear.bin");
    for name in ["adapter_model.safetensors", "adapters.safetensors", "model.safetensors"] {
        let work = Work::golden("all-linear");
        fs::remove_file(work.adapter.join("adapter_model.safetensors")).expect("it was there");
        fs::copy(&pickle, work.adapter.join(name)).expect("a fixture");
        refused(&format!("a pickle as {name}"), &work, &work.merge(&[]), "");
    }
    let work = Work::golden("all-linear");
    fs::rename(work.adapter.join("adapter_model.safetensors"), work.adapter.join("adapter_model.bin"))
        .expect("renamed");
    refused("safetensors as adapter_model.bin", &work, &work.merge(&[]), "");
    // An empty file is nothing.
    let empty = work_of_nothing();
    refused("no tensors", &empty, &empty.merge(&[]), "");
}

fn work_of_nothing() -> Work {
    let work = work(KOHYA);
    write(&work.adapter, Vec::new());
    work
}
