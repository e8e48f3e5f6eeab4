//! Merges that are taken back: the base's bytes come again, whatever tiles, threads and budget made them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shardfold::testing::{Dtype, Failure, Faulty, Operation, TestHooks};
use shardfold::{
    Cancel, Code, ErrorKind, Folder, Location, PlanError, Request, Result, Style, Summary, Terminal, choose,
    prepare,
};

use super::golden::{cases, request};
use super::oracle::Case;
use super::support::{Ran, command, contents, copy_folder, fixtures, quick_folder, ran, write_safetensors};

/// What the tests change of a request.
type Change = fn(Request) -> Request;

fn as_it_is(request: Request) -> Request {
    request
}

fn run(request: &Request, output: &Location) -> Result<Summary> {
    let mut quiet = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    prepare(request)?.merge(output, quiet.as_mut())
}

/// The request that takes back what `request` merged into `merged`.
fn back(request: &Request, merged: &Path) -> Request {
    Request { base: Some(merged.to_owned().into()), unmerge: true, ..request.clone() }
}

/// Merges with what undoes it, and takes the merge back.
fn there_and_back(request: &Request, work: &Path, (there, back_again): (Change, Change)) -> Result<()> {
    let (merged, again) = (work.join("merged"), work.join("again"));
    run(&there(Request { keep_undo: true, ..request.clone() }), &Location::of_path(&merged))?;
    run(&back_again(back(request, &merged)), &Location::of_path(&again))?;
    Ok(())
}

/// Fails unless every shard of `base` is in `again` with the same bytes.
fn assert_same_shards(base: &Path, again: &Path, case: &str) {
    let (was, is) = (contents(base), contents(again));
    let shards: Vec<_> = was.iter().filter(|(name, _)| name.ends_with(".safetensors")).collect();
    assert!(!shards.is_empty());
    for (name, bytes) in shards {
        assert!(is.get(name) == Some(bytes), "{case}: {name} is not the base's");
    }
}

fn smallest(request: Request) -> Request {
    let hooks = TestHooks { forced: Some((4096, 1)), ..TestHooks::default() };
    Request { threads: Some(1), hooks, ..request }
}

fn three_workers(request: Request) -> Request {
    let hooks = TestHooks { forced: Some((12_288, 3)), ..TestHooks::default() };
    Request { threads: Some(3), hooks, ..request }
}

fn budgeted(request: Request) -> Request {
    Request { max_ram: Some(900_000_000.into()), threads: Some(2), ..request }
}

#[test]
fn every_case_that_can_be_taken_back_is_and_the_others_are_refused() {
    let (mut undone, mut refused) = (Vec::new(), Vec::new());
    for folder in cases() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let (request, work) = (request(&folder, &Case::read(&folder)), quick_folder());
        match there_and_back(&request, work.path(), (as_it_is, as_it_is)) {
            Ok(()) => {
                assert_same_shards(&folder.join("base"), &work.path().join("again"), &name);
                undone.push(name);
            }
            Err(error) => {
                let is_irreversible = |error: &shardfold::Error| {
                    matches!(error.kind(), ErrorKind::Plan(PlanError::Irreversible { .. }))
                };
                assert!(error.each().iter().all(is_irreversible), "{name}: {error:?}");
                assert!(!work.path().join("merged").exists());
                println!("{name}: {}", error.each()[0]);
                refused.push(name);
            }
        }
    }
    println!(
        "{} taken back: {}\n{} refused: {}",
        undone.len(),
        undone.join(" "),
        refused.len(),
        refused.join(" ")
    );
    if std::env::var_os("SHARDFOLD_CASES").is_none() {
        for name in CASES {
            assert!(undone.iter().any(|undone| undone == name), "{name} is refused");
        }
        for name in ["dora-bf16", "ia3-bf16", "oft-bf16", "hira-bf16", "save-head", "fp8", "tokens-list"] {
            assert!(refused.iter().any(|refused| refused == name), "{name} is not refused");
        }
    }
}

/// Types, layers, stacks, shards, several adapters, weights, vectors that are replaced or multiplied.
const CASES: [&str; 17] = [
    "llama-bf16-sharded",
    "llama-f16-single",
    "llama-f32-sharded",
    "gpt2-bf16-single",
    "embedding-bert",
    "embedding-positions",
    "conv-bf16",
    "experts-bf16",
    "experts-two-adapters",
    "three-adapters-bf16",
    "weight-rslora",
    "loha-bf16",
    "lokr-f32",
    "lora-bias-gpt2",
    "bias-all",
    "ln-tuning-llama",
    "save-norm",
];

#[test]
fn the_base_comes_again_whatever_the_tiles_are() {
    for case in CASES {
        let folder = fixtures().join("golden").join(case);
        let request = request(&folder, &Case::read(&folder));
        let all: [(Change, Change); 5] = [
            (smallest, as_it_is),
            (as_it_is, smallest),
            (three_workers, smallest),
            (budgeted, three_workers),
            (smallest, budgeted),
        ];
        let mut files: Option<Vec<u8>> = None;
        for (i, ways) in all.into_iter().enumerate() {
            let work = quick_folder();
            there_and_back(&request, work.path(), ways).unwrap_or_else(|error| panic!("{case}: {error:?}"));
            assert_same_shards(&folder.join("base"), &work.path().join("again"), case);
            let undo = fs::read(work.path().join("merged/shardfold.undo")).unwrap();
            assert!(*files.get_or_insert(undo.clone()) == undo, "{case}: another undo file by way {i}");
        }
    }
}

/// A folder with a copy of a golden case, and its request.
struct Work {
    folder: tempfile::TempDir,
    request: Request,
}

impl Work {
    fn of(case: &str) -> Work {
        let folder = quick_folder();
        copy_folder(&fixtures().join("golden").join(case), folder.path());
        let request = request(folder.path(), &Case::read(folder.path()));
        Work { folder, request }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Merges into `out` with what undoes it.
    fn merge(&self) -> Summary {
        let request = Request { keep_undo: true, ..self.request.clone() };
        run(&request, &Location::of_path(self.at("out"))).unwrap()
    }

    fn unmerge(&self, change: Change) -> Result<Summary> {
        let request = change(back(&self.request, &self.at("out")));
        run(&request, &Location::of_path(self.at("again")))
    }

    /// The command, with the case's adapter.
    fn command(&self, args: &[&str]) -> Ran {
        let mut command = command(args);
        ran(command.current_dir(self.folder.path()).output().unwrap())
    }
}

#[test]
fn the_same_command_finds_that_all_is_done() {
    let work = Work::of("llama-bf16-sharded");
    assert_eq!(work.merge().state, "done");
    assert_eq!(work.merge().state, "already done");
    assert_eq!(work.unmerge(as_it_is).unwrap().state, "done");
    assert_eq!(work.unmerge(smallest).unwrap().state, "already done");
    // Without what undoes it it is another result.
    let error = run(&work.request, &Location::of_path(work.at("out"))).unwrap_err();
    assert_eq!(error.exit_code(), Code::Output);
    assert!(error.advice().unwrap().contains("it has `shardfold.undo`, this one none"), "{error:?}");
    // The shards are those of the merge without it.
    run(&work.request, &Location::of_path(work.at("plain"))).unwrap();
    let (plain, kept) = (contents(&work.at("plain")), contents(&work.at("out")));
    assert!(!plain.contains_key("shardfold.undo"));
    for (name, bytes) in plain.iter().filter(|(name, _)| *name != "shardfold.json") {
        assert!(kept.get(name) == Some(bytes), "{name}");
    }
    let record: Value = serde_json::from_slice(&kept["shardfold.json"]).unwrap();
    let files = record["files"].as_array().unwrap();
    let undo = files.iter().find(|file| file["name"] == "shardfold.undo").expect("it is listed");
    assert_eq!(undo["hash"], blake3::hash(&kept["shardfold.undo"]).to_string());
    let verified = work.command(&["verify", "out", "--hashes-only"]);
    assert_eq!(verified.code, 0, "{}", verified.err);
    let verified = work.command(&["verify", "out", "--base", "base", "--adapter", "adapter"]);
    assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
    // One that was damaged is found, though it is not made again.
    let path = work.at("out/shardfold.undo");
    let sound = fs::read(&path).unwrap();
    fs::write(&path, [&sound[..sound.len() - 1], &[!sound[sound.len() - 1]]].concat()).unwrap();
    let verified = work.command(&["verify", "out", "--base", "base", "--adapter", "adapter"]);
    assert_eq!(verified.code, 65, "{}", verified.err);
    assert!(verified.out.contains("`shardfold.undo` has hash"), "{}", verified.out);
    fs::write(&path, sound).unwrap();
    // What undoes another merge of the base does not go along.
    let again = contents(&work.at("again"));
    assert!(!again.contains_key("shardfold.undo") && again.contains_key("shardfold.json"));
    assert!(String::from_utf8_lossy(&again["README.md"]).contains("taken out again"));
}

#[test]
fn the_commands_say_what_they_do() {
    let work = Work::of("llama-bf16-single");
    let merged =
        work.command(&["merge", "--base", "base", "--adapter", "adapter", "-o", "out", "--keep-undo"]);
    assert_eq!(merged.code, 0, "{}", merged.err);
    assert!(merged.err.contains("writing `shardfold.undo`: comparing"), "{}", merged.err);
    let again = work.command(&["unmerge", "out", "--adapter", "adapter", "-o", "again"]);
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(again.out.starts_with("unmerged into `") && !again.out.contains("delta"), "{}", again.out);
    assert_same_shards(&work.at("base"), &work.at("again"), "typed");
    let refused = [
        (&["unmerge", "out", "-o", "x"][..], 2, "`out` has `adapter` (weight 1) merged"),
        (&["unmerge", "base", "--adapter", "adapter", "-o", "x"], 66, "no `shardfold.json` in `base`"),
        (
            &["unmerge", "out", "--adapter", "adapter", "--adapter", "adapter", "-o", "x"],
            2,
            "2 adapters are given",
        ),
        (&["unmerge", "out", "--adapter", "adapter", "-o", "x", "--part", "0/2"], 2, "by one process alone"),
        (
            &["unmerge", "out", "--adapter", "adapter", "-o", "x", "--keep-undo"],
            2,
            "what `unmerge` writes is the base",
        ),
        (
            &["merge", "--base", "base", "--adapter", "adapter", "-o", "x", "--keep-undo", "--part", "0/2"],
            2,
            "cannot be used with",
        ),
        (
            &["convert", "base", "--dtype", "f32", "-o", "x", "--keep-undo"],
            65,
            "cannot be taken back: it is written in another type",
        ),
    ];
    for (args, code, text) in refused {
        let ran = work.command(args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(text), "{args:?}: {}", ran.err);
        assert!(!work.at("x").exists());
    }
}

#[test]
fn what_cannot_be_taken_back_is_refused_by_name() {
    let refusal = |case: &str, change: Change| {
        let work = Work::of(case);
        let request = change(Request { keep_undo: true, ..work.request.clone() });
        let error = run(&request, &Location::of_path(work.at("out"))).unwrap_err();
        assert_eq!(error.exit_code(), Code::Data);
        let all: Vec<String> = error.each().iter().map(ToString::to_string).collect();
        assert!(error.each()[0].advice().unwrap().contains("keep the base"));
        all.join("\n")
    };
    for (case, change, text) in [
        ("dora-bf16", as_it_is as Change, "what adapter `adapter` does (dora) depends on the weight"),
        ("hira-bf16", as_it_is, "what adapter `adapter` does (hira) depends on the weight"),
        ("oft-bf16", as_it_is, "(oft) depends on the weight"),
        ("ia3-bf16", as_it_is, "what adapter `adapter` does (ia3) depends on the weight"),
        ("save-head", as_it_is, "adapter `adapter` stores it in full"),
        ("tokens-list", as_it_is, "depends on the weight"),
        ("fp8", as_it_is, "it is written in another type than the base's, or quantized"),
        ("fp8-kept", as_it_is, "it is written in another type than the base's, or quantized"),
        ("tied-head", as_it_is, "adapter `adapter` stores it in full"),
        (
            "llama-bf16-single",
            |request| Request { dtype: Some("f32".to_owned()), ..request },
            "in another type",
        ),
        (
            "llama-bf16-sharded",
            |request| Request { max_shard_size: Some(20_000.into()), ..request },
            "its tensors are not the base's: the tensors are laid into",
        ),
    ] {
        let found = refusal(case, change);
        assert!(found.contains(text), "{case}: {found}");
    }
    assert!(refusal("dora-bf16", as_it_is).contains("` and "), "the first of them, and how many more");
}

#[test]
fn other_adapters_and_other_flags_are_refused() {
    let work = Work::of("llama-bf16-sharded");
    work.merge();
    let config = work.at("adapter/adapter_config.json");
    let was = fs::read_to_string(&config).unwrap();
    fs::write(&config, was.replace('{', "{ ")).unwrap();
    let error = work.unmerge(as_it_is).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("adapter `adapter` is not `adapter`, which is merged: its config has hash"),
        "{text}"
    );
    fs::write(&config, was).unwrap();
    // Another of the same shape: one bit of its values.
    let weights = work.at("adapter/adapter_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, &bytes).unwrap();
    let text = work.unmerge(as_it_is).unwrap_err().to_string();
    assert!(text.contains("its file has hash"), "{text}");
    bytes[last] ^= 1;
    fs::write(&weights, &bytes).unwrap();
    // The weight is that of the merge, whatever is asked for.
    work.unmerge(|request| Request {
        adapters: request.adapters.into_iter().map(|(origin, _)| (origin, 3.0.into())).collect(),
        ..request
    })
    .unwrap();
    assert_same_shards(&work.at("base"), &work.at("again"), "weight");
}

#[test]
fn damaged_undo_files_are_refused() {
    let work = Work::of("llama-bf16-sharded");
    work.merge();
    let path = work.at("out/shardfold.undo");
    let sound = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let error = work.unmerge(as_it_is).unwrap_err();
        assert_eq!(error.exit_code(), Code::Data, "{error:?}");
        assert!(!work.at("again").exists());
        error.to_string()
    };
    for len in [0, 7, 100, sound.len() - 1, sound.len() / 2] {
        assert!(refused(&sound[..len]).contains("is damaged"), "{len}");
    }
    for at in (0..sound.len()).step_by(sound.len() / 23 + 1).chain([sound.len() - 1]) {
        let mut damaged = sound.clone();
        damaged[at] ^= 4;
        assert!(refused(&damaged).contains("is damaged"), "{at}");
    }
    // Damaged, and with the checksum of that: blocks are no blocks, or the hashes tell.
    let mut kinds = BTreeMap::new();
    for at in (8..sound.len() - 32).step_by(sound.len() / 97 + 1) {
        let mut damaged = sound[..sound.len() - 32].to_vec();
        damaged[at] ^= 0x11;
        let sum = *blake3::hash(&damaged).as_bytes();
        damaged.extend(sum);
        fs::write(&path, &damaged).unwrap();
        let Err(error) = work.unmerge(as_it_is) else {
            // A bit that says nothing.
            assert_same_shards(&work.at("base"), &work.at("again"), "damaged");
            fs::remove_dir_all(work.at("again")).unwrap();
            continue;
        };
        let text = error.to_string();
        let known = ["is damaged", "is of another merge", "does not become what it was"];
        let kind = known.iter().find(|known| text.contains(**known) || text.ends_with("errors"));
        *kinds.entry(*kind.unwrap_or_else(|| panic!("{at}: {text}"))).or_insert(0) += 1;
    }
    println!("{kinds:?}");
    // That of another merge.
    let other = Work::of("llama-bf16-sharded");
    let request = Request { keep_undo: true, ..other.request.clone() };
    let adapters = request.adapters.iter().map(|(origin, _)| (origin.clone(), 0.5.into())).collect();
    run(&Request { adapters, ..request }, &Location::of_path(other.at("out"))).unwrap();
    let text = refused(&fs::read(other.at("out/shardfold.undo")).unwrap());
    assert!(text.contains("is of another merge than the one that made what lies beside it"), "{text}");
    fs::write(&path, &sound).unwrap();
    work.unmerge(as_it_is).unwrap();
}

#[test]
fn a_merged_file_that_changed_is_told_by_the_hashes() {
    let work = Work::of("llama-bf16-single");
    work.merge();
    let path = work.at("out/model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = work.unmerge(as_it_is).unwrap_err();
    assert!(error.to_string().contains("does not become what it was"), "{error:?}");
    assert!(!work.at("again").exists() && !work.at("again.partial").exists());
}

#[test]
fn without_an_undo_file_it_is_the_base_but_for_rounding() {
    let work = Work::of("llama-bf16-sharded");
    run(&work.request, &Location::of_path(work.at("out"))).unwrap();
    let error = work.unmerge(as_it_is).unwrap_err();
    assert_eq!(error.exit_code(), Code::NoInput);
    assert!(error.to_string().contains("no undo file at"), "{error:?}");
    assert!(error.advice().unwrap().contains("--inexact"));
    let summary = work.unmerge(|request| Request { inexact: true, ..request }).unwrap();
    assert_eq!(summary.state, "done");
    let (base, again) = (contents(&work.at("base")), contents(&work.at("again")));
    let (mut elements, mut differing) = (0, 0);
    for (name, was) in base.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        assert_eq!(was.len(), again[name].len());
        elements += was.len() / 2;
        differing += was.chunks(2).zip(again[name].chunks(2)).filter(|(was, is)| was != is).count();
    }
    println!("{differing} of {elements} elements are not the base's");
    assert!(differing > 0 && differing < elements / 5, "{differing} of {elements}");
    let record: Value = serde_json::from_slice(&again["shardfold.json"]).unwrap();
    assert!(record["choices"].to_string().contains("by arithmetic alone (--inexact)"));
}

#[test]
fn what_only_an_undo_file_gives_back_needs_one() {
    let work = Work::of("save-norm");
    run(&work.request, &Location::of_path(work.at("out"))).unwrap();
    let error = work.unmerge(|request| Request { inexact: true, ..request }).unwrap_err();
    assert!(error.to_string().contains("adapter `adapter` stores it in full"), "{error:?}");
}

/// Runs that fail at the `nth` operation of a kind are gone on with by the same request.
fn interrupted(request: &Request, work: &Work, output: &str, operation: Operation) -> usize {
    let output_at = |store: Faulty<Folder>| Location::new(store).join(output);
    run(request, &Location::of_path(work.at("whole"))).unwrap();
    let whole = contents(&work.at("whole"));
    let mut cuts = 0;
    for nth in (1..).step_by(3) {
        let store = Faulty::new(Folder::new(work.folder.path())).failing(operation, nth, Failure::Errno(5));
        if run(request, &output_at(store)).is_ok() {
            break;
        }
        cuts += 1;
        let summary = run(request, &Location::of_path(work.at(output))).unwrap();
        assert!(contents(&work.at(output)) == whole, "other bytes behind {operation:?} {nth}");
        assert!(summary.state.ends_with("done"));
        fs::remove_dir_all(work.at(output)).unwrap();
    }
    fs::remove_dir_all(work.at("whole")).unwrap();
    let _ = fs::remove_dir_all(work.at(output));
    cuts
}

#[test]
fn what_is_interrupted_goes_on() {
    let work = Work::of("llama-bf16-sharded");
    let hooks = TestHooks { forced: Some((16_384, 2)), stride: Some(1 << 14), ..TestHooks::default() };
    let keep = Request { keep_undo: true, hooks, ..work.request.clone() };
    let mut cuts = 0;
    for operation in [Operation::Write, Operation::Sync] {
        cuts += interrupted(&keep, &work, "output", operation);
    }
    work.merge();
    let unmerge = Request { hooks, ..back(&work.request, &work.at("out")) };
    for operation in [Operation::Write, Operation::Sync] {
        cuts += interrupted(&unmerge, &work, "output", operation);
    }
    println!("{cuts} cuts");
    assert!(cuts > 20, "{cuts}");
}

#[test]
fn an_output_that_is_written_once_has_no_undo_file() {
    let work = Work::of("llama-bf16-single");
    let request = Request { keep_undo: true, ..work.request.clone() };
    let store = Faulty::new(Folder::new(work.folder.path())).refusing_renames();
    let error = run(&request, &Location::new(store).join("output")).unwrap_err();
    assert_eq!(error.exit_code(), Code::Output, "{error:?}");
    assert!(error.to_string().contains("can only be written once"), "{error:?}");
    assert!(!work.at("output").exists());
}

/// A checkpoint of one matrix and an adapter on it whose delta has `ratio` times the norm of the weights.
fn normal_case(folder: &Path, elements: [u64; 2], ratio: f64) {
    let [rows, cols] = elements;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut normal = move || {
        let (radius, angle) = ((-2.0 * (1.0 - uniform()).ln()).sqrt(), std::f64::consts::TAU * uniform());
        radius * angle.cos()
    };
    let bf16 = |value: f64| {
        let bits = (value as f32).to_bits();
        ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
    };
    let weight: Vec<u8> = (0..rows * cols).flat_map(|_| bf16(0.02 * normal()).to_le_bytes()).collect();
    fs::create_dir_all(folder.join("base")).unwrap();
    fs::create_dir_all(folder.join("adapter")).unwrap();
    let config = r#"{"model_type":"llama","architectures":["LlamaForCausalLM"],"hidden_size":8,"num_attention_heads":1}"#;
    fs::write(folder.join("base/config.json"), config).unwrap();
    let name = "model.layers.0.self_attn.q_proj.weight";
    write_safetensors(&folder.join("base/model.safetensors"), &[(name, Dtype::BF16, &[rows, cols], weight)]);
    // Each element of B·A is a sum of 16 products: its spread is 4 times that of one.
    let spread = (0.02 * ratio / 4.0).sqrt();
    let rank = 16;
    let mut values =
        |count: u64| (0..count).flat_map(|_| ((spread * normal()) as f32).to_le_bytes()).collect();
    let (a, b) = (values(rank * cols), values(rows * rank));
    let prefix = "base_model.model.model.layers.0.self_attn.q_proj";
    let (a_name, b_name) = (format!("{prefix}.lora_A.weight"), format!("{prefix}.lora_B.weight"));
    write_safetensors(
        &folder.join("adapter/adapter_model.safetensors"),
        &[(&a_name, Dtype::F32, &[rank, cols], a), (&b_name, Dtype::F32, &[rows, rank], b)],
    );
    let config = r#"{"peft_type":"LORA","r":16,"lora_alpha":16,"target_modules":["q_proj"],"bias":"none"}"#;
    fs::write(folder.join("adapter/adapter_config.json"), config).unwrap();
}

fn normal_request(folder: &Path) -> Request {
    let adapters = vec![(folder.join("adapter").into(), 1.0.into())];
    Request { base: Some(folder.join("base").into()), adapters, ..Request::default() }
}

/// Bytes of the undo file for each byte of the weights. Tiles that are taken back begin anywhere in the file's blocks.
fn undo_share(elements: [u64; 2], ratio: f64) -> f64 {
    let folder = quick_folder();
    normal_case(folder.path(), elements, ratio);
    let request = normal_request(folder.path());
    there_and_back(&request, folder.path(), (as_it_is, three_workers)).unwrap();
    assert_same_shards(&folder.path().join("base"), &folder.path().join("again"), "normal");
    let undo = fs::metadata(folder.path().join("merged/shardfold.undo")).unwrap().len();
    undo as f64 / (2 * elements[0] * elements[1]) as f64
}

#[test]
fn an_undo_file_of_a_small_delta_is_small() {
    // More than a group of blocks.
    let share = undo_share([1100, 1024], 0.01);
    println!("{:.2} %", 100.0 * share);
    assert!(share < 0.02, "{share}");
}

/// The table of docs/unmerge.md.
#[test]
#[ignore = "four million weights for each ratio: `make exhaustive`, for the table of the documentation"]
fn sizes_of_undo_files() {
    for ratio in [0.001, 0.003, 0.01, 0.03, 0.05, 0.1] {
        println!("{:5.1} %: {:.2} % of the bytes", 100.0 * ratio, 100.0 * undo_share([2048, 2048], ratio));
    }
}

/// A thousand merges, each taken back, each of what the last one gave.
#[test]
#[ignore = "two thousand merges take minutes: `make exhaustive`"]
fn a_thousand_cycles_give_the_base() {
    let folder = quick_folder();
    normal_case(folder.path(), [96, 128], 0.01);
    let base = contents(&folder.path().join("base"))["model.safetensors"].clone();
    let at = |name: &str| folder.path().join(name);
    for cycle in 0..1000 {
        let request = normal_request(folder.path());
        there_and_back(&request, folder.path(), (as_it_is, as_it_is)).unwrap();
        let again = fs::read(at("again/model.safetensors")).unwrap();
        assert_eq!(blake3::hash(&again), blake3::hash(&base), "cycle {cycle}");
        fs::write(at("base/model.safetensors"), again).unwrap();
        fs::remove_dir_all(at("merged")).unwrap();
        fs::remove_dir_all(at("again")).unwrap();
    }
}
