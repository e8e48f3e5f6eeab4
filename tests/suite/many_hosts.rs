//! One result made in parts: by any number of processes, in any order, under any budget, run twice or cut off, it has the bytes of
//! one merge.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use shardfold::testing::{Dtype, TestHooks};
use shardfold::{Cancel, Finishing, Location, PartNumber, Request, prepare};

use super::golden::request_of;
use super::support::{
    Ran, binary, command, contents, copy_folder, f32s, quick_folder, ran, write_safetensors,
};
use super::trial::quiet;
use super::work::{MODULE, Work, edit_json};

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// A merge of a base in two shards, the first of which is cut where there are three parts.
pub struct Hosts {
    folder: tempfile::TempDir,
    /// The files of one merge in one process.
    pub whole: Files,
}

impl Hosts {
    pub fn new() -> Hosts {
        let hosts = Hosts { folder: quick_folder(), whole: Files::new() };
        let (base, adapter) = (hosts.at("base"), hosts.at("adapter"));
        fs::create_dir(&base).unwrap();
        fs::create_dir(&adapter).unwrap();
        let [first, second] = [1, 2].map(|i| format!("model-{i:05}-of-00002.safetensors"));
        let values = |start: f32| f32s((0..32 * 32).map(|i| start + i as f32 / 512.0));
        let names = [1, 2, 3].map(|i| format!("model.layers.{i}.mlp.up_proj.weight"));
        let weight = format!("{MODULE}.weight");
        let shape: &[u64] = &[32, 32];
        write_safetensors(
            &base.join(&first),
            &[
                (&weight, Dtype::F32, shape, values(1.0)),
                (&names[0], Dtype::F32, shape, values(2.0)),
                (&names[1], Dtype::F32, shape, values(3.0)),
                (&names[2], Dtype::F32, shape, values(4.0)),
            ],
        );
        write_safetensors(&base.join(&second), &[("model.norm.weight", Dtype::F32, &[32], f32s([1.0; 32]))]);
        let mut map: BTreeMap<&str, &str> =
            names.iter().map(|name| (name.as_str(), first.as_str())).collect();
        map.extend([(weight.as_str(), first.as_str()), ("model.norm.weight", second.as_str())]);
        let index = json!({"metadata": {}, "weight_map": map});
        fs::write(base.join("model.safetensors.index.json"), index.to_string()).unwrap();
        let config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama"});
        fs::write(base.join("config.json"), config.to_string()).unwrap();
        fs::write(base.join("tokenizer.json"), "{}").unwrap();
        let module = |i: usize| format!("base_model.model.model.layers.{i}.mlp.up_proj");
        let keys = [0, 1].map(|i| {
            let module = if i == 0 { format!("base_model.model.{MODULE}") } else { module(3) };
            ["lora_A", "lora_B"].map(|role| format!("{module}.{role}.weight"))
        });
        let factors: Vec<(&str, Dtype, &[u64], Vec<u8>)> = keys
            .iter()
            .flat_map(|[a, b]| {
                let a: (&str, Dtype, &[u64], Vec<u8>) = (a, Dtype::F32, &[1, 32], f32s([0.5; 32]));
                [a, (b, Dtype::F32, &[32, 1], f32s([0.25; 32]))]
            })
            .collect();
        write_safetensors(&adapter.join("adapter_model.safetensors"), &factors);
        let config = json!({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["q_proj", "up_proj"],
            "layers_to_transform": [0, 3]});
        fs::write(adapter.join("adapter_config.json"), config.to_string()).unwrap();
        let one = hosts.merge("one", &[]);
        assert_eq!(one.code, 0, "{}", one.err);
        let whole = contents(&hosts.at("one"));
        Hosts { whole, ..hosts }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command that merges into the output of that name.
    pub fn command(&self, output: &str, flags: &[&str]) -> Command {
        let mut command = command(&["merge", "--base"]);
        command.arg(self.at("base")).arg("--adapter").arg(self.at("adapter"));
        command.arg("--output").arg(self.at(output)).args(flags);
        command.env_remove("SLURM_ARRAY_TASK_ID").env_remove("JOB_COMPLETION_INDEX");
        command
    }

    pub fn merge(&self, output: &str, flags: &[&str]) -> Ran {
        ran(self.command(output, flags).output().unwrap())
    }

    pub fn part(&self, output: &str, part: &str) -> Ran {
        self.merge(output, &["--part", part])
    }

    pub fn finish(&self, output: &str, flags: &[&str]) -> Ran {
        ran(command(&["finish"]).arg(self.at(output)).args(flags).output().unwrap())
    }

    /// Makes all parts but some, and expects that to work.
    pub fn make_parts(&self, output: &str, count: u32, but: &[u32]) {
        for part in (0..count).filter(|part| !but.contains(part)) {
            let ran = self.part(output, &format!("{part}/{count}"));
            assert_eq!(ran.code, 0, "part {part}: {}", ran.err);
        }
    }

    /// Joins, and expects the bytes of one merge and nothing beside them.
    pub fn finishes(&self, output: &str) {
        let ran = self.finish(output, &[]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        self.is_whole(output);
    }

    pub fn is_whole(&self, output: &str) {
        assert!(contents(&self.at(output)) == self.whole, "`{output}` has other files");
        assert!(!self.at(&format!("{output}.partial")).exists(), "something is left");
    }

    fn parts_dir(&self, output: &str) -> PathBuf {
        self.at(&format!("{output}.partial/shardfold.parts"))
    }
}

/// Merges in `count` parts in this process, those with an odd number last, each cut otherwise; joins; and returns the files.
fn made_in(request: &Request, count: u32) -> Files {
    let work = quick_folder();
    let output = Location::of_path(work.path().join("merged"));
    let (even, odd): (Vec<u32>, Vec<u32>) = (0..count).rev().partition(|part| part % 2 == 0);
    for part in even.into_iter().chain(odd) {
        let slabs = (1 + part as usize % 3) << 18;
        let hooks = TestHooks {
            forced: Some((slabs, 2)),
            stride: Some(1 << 10),
            scalar: part % 2 == 1,
            ..TestHooks::default()
        };
        let threads = Some(1 + part as usize % 3);
        let part = PartNumber::new(part, count);
        let request = Request { part, hooks, threads, ..request.clone() };
        let merged = prepare(&request).and_then(|prepared| prepared.merge(&output, quiet().as_mut()));
        let summary = merged.unwrap_or_else(|error| panic!("{part:?} of {:?}: {error:?}", request.base));
        assert_eq!((summary.state, summary.part), ("part done", part.map(|part| part.to_string())));
    }
    let finishing = finishing(&output);
    let finished = finishing.finish(quiet().as_mut()).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(finished.state, "done");
    assert_eq!(finishing.finish(quiet().as_mut()).unwrap().state, "already done");
    contents(&work.path().join("merged"))
}

fn finishing(output: &Location) -> Finishing {
    Finishing {
        output: output.clone(),
        base: None,
        adapters: Vec::new(),
        cancel: Cancel::default(),
        hooks: TestHooks::default(),
    }
}

fn made_in_one(request: &Request) -> Files {
    let work = quick_folder();
    let output = work.path().join("merged");
    prepare(request).unwrap().merge(&Location::of_path(&output), quiet().as_mut()).unwrap();
    contents(&output)
}

#[test]
fn any_kind_of_merge_has_the_same_bytes_in_any_number_of_parts() {
    for case in [
        "llama-bf16-sharded",
        "llama-bf16-single",
        "tied-head",
        "fp8-kept",
        "fp8-sharded",
        "int4",
        "dora-sharded",
        "dora-gpt2",
        "experts-bf16",
        "tokens-sharded",
        "save-lm-head",
        "dora-then-lora",
        "vocabulary-grown-sharded",
    ] {
        let request = request_of(case);
        let one = made_in_one(&request);
        for count in [1, 2, 3, 7] {
            let many = made_in(&request, count);
            assert!(many == one, "{case} in {count} parts");
        }
    }
    for case in ["llama-bf16-single", "dora-sharded"] {
        let request = Request { sha256: true, ..request_of(case) };
        assert!(made_in(&request, 100) == made_in_one(&request), "{case} in 100 parts");
    }
}

#[test]
fn what_is_joined_is_verified() {
    let hosts = Hosts::new();
    hosts.make_parts("output", 3, &[]);
    hosts.finishes("output");
    let verify = |flags: &[&str]| {
        let mut command = command(&["verify"]);
        command.arg(hosts.at("output")).args(flags);
        let by_inputs = !flags.contains(&"--hashes-only");
        if by_inputs {
            command.arg("--base").arg(hosts.at("base")).arg("--adapter").arg(hosts.at("adapter"));
        }
        ran(command.output().unwrap())
    };
    for flags in [&["--hashes-only"][..], &[]] {
        let ran = verify(flags);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    }
    // One merge finds it done, and so do a part that is run late and a second `finish`.
    for ran in [hosts.merge("output", &[]), hosts.part("output", "1/3"), hosts.finish("output", &[])] {
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(ran.out.contains("already done"), "{}", ran.out);
    }
    fs::write(hosts.at("output/config.json"), "{}").unwrap();
    let ran = hosts.finish("output", &[]);
    assert_eq!(ran.code, 73);
    assert!(
        ran.err.contains("is the result of this merge, but `config.json` is not as it was written"),
        "{}",
        ran.err
    );
}

#[test]
fn an_output_that_is_there_and_empty_is_filled() {
    let hosts = Hosts::new();
    fs::create_dir(hosts.at("output")).unwrap();
    hosts.make_parts("output", 3, &[]);
    hosts.finishes("output");
}

#[test]
fn an_output_that_is_a_volume_is_filled_in_place() {
    let hosts = Hosts::new();
    fs::create_dir_all(hosts.at("output/lost+found")).unwrap();
    hosts.make_parts("output", 3, &[1]);
    let refused = hosts.merge("output", &[]);
    assert_eq!(refused.code, 73, "{}", refused.err);
    assert!(refused.err.contains("holds parts of this merge, which is made in 3"), "{}", refused.err);
    hosts.make_parts("output", 3, &[0, 2]);
    hosts.finishes("output");
    assert!(!hosts.at("output/.shardfold.partial").exists());
}

#[test]
fn parts_of_which_none_was_made_are_in_nobodys_way() {
    let hosts = Hosts::new();
    hosts.make_parts("output", 3, &[1, 2]);
    fs::remove_dir_all(hosts.parts_dir("output").join("part-00000-of-00003")).unwrap();
    // Another merge, in another number of parts.
    for part in ["0/2", "1/2"] {
        let ran = hosts.merge("output", &["--part", part, "--checksums", "sha256"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
    assert_eq!(hosts.finish("output", &[]).code, 0);
    assert!(hosts.at("output/SHA256SUMS").exists());
}

#[test]
fn parts_may_run_twice_at_once() {
    let hosts = Hosts::new();
    for round in 0..6 {
        let output = format!("output-{round}");
        let tasks: Vec<_> = (0..3)
            .flat_map(|part| [part; 3])
            .map(|part| {
                let part = format!("{part}/3");
                let flags = ["--part", &part, "--slab", "4KiB", "--depth", "1", "--stride", "1KiB"];
                let mut command = hosts.command(&output, &flags);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let mut states: Vec<String> = Vec::new();
        for task in tasks {
            let ran = ran(task.wait_with_output().unwrap());
            assert_eq!(ran.code, 0, "{}", ran.err);
            states.push(ran.out.split(':').next().unwrap().to_owned());
        }
        // Which of the runs of a part shows it is chance: one may show what another has just made.
        assert!(states.iter().all(|state| state.starts_with("part ")), "{states:?}");
        hosts.finishes(&output);
    }
}

#[test]
fn a_part_that_nothing_is_left_for_succeeds() {
    let hosts = Hosts::new();
    hosts.make_parts("output", 9, &[8]);
    let last = hosts.part("output", "8/9");
    assert_eq!(last.code, 0, "{}", last.err);
    assert!(
        last.err.contains("nothing is left for part 8/9: there are fewer tensors than parts"),
        "{}",
        last.err
    );
    hosts.finishes("output");
}

#[test]
fn a_part_that_is_missing_or_torn_is_named() {
    let hosts = Hosts::new();
    let ran = hosts.finish("output", &[]);
    assert_eq!(ran.code, 66);
    assert!(ran.err.contains("there are no parts of a merge for `"), "{}", ran.err);
    hosts.make_parts("output", 3, &[0, 2]);
    let ran = hosts.finish("output", &[]);
    assert_eq!(ran.code, 66, "{}", ran.err);
    assert!(ran.err.contains("parts 0, 2 of 3 for `"), "{}", ran.err);
    assert!(ran.err.contains("are missing\n"), "{}", ran.err);
    assert!(ran.err.contains("--part 0/3`, and then `shardfold finish`"), "{}", ran.err);
    assert!(!hosts.at("output").exists());
    hosts.make_parts("output", 3, &[1, 2]);
    assert!(hosts.finish("output", &[]).err.contains("part 2 of 3 for `"));
    hosts.make_parts("output", 3, &[0, 1]);
    // A record that is cut short, and a file that is.
    let place = hosts.parts_dir("output").join("part-00001-of-00003");
    let (record, text) = (place.join("shardfold.json"), fs::read(place.join("shardfold.json")).unwrap());
    fs::write(&record, &text[..text.len() / 2]).unwrap();
    let ran = hosts.finish("output", &[]);
    assert_eq!(ran.code, 65, "{}", ran.err);
    assert!(ran.err.contains("shardfold.json` cannot be read as shardfold wrote it"), "{}", ran.err);
    assert!(ran.err.contains("run `--part 1/3` again"), "{}", ran.err);
    fs::write(&record, text).unwrap();
    let file = contents(&place).into_keys().find(|name| name != "shardfold.json").unwrap();
    let bytes = fs::read(place.join(&file)).unwrap();
    fs::write(place.join(&file), &bytes[1..]).unwrap();
    let ran = hosts.finish("output", &[]);
    assert_eq!(ran.code, 65, "{}", ran.err);
    assert!(ran.err.contains(&format!("`{file}` of part 1 in `")), "{}", ran.err);
    // The part made again mends both.
    assert!(hosts.part("output", "1/3").out.starts_with("part done"));
    hosts.finishes("output");
}

#[test]
fn a_stretch_with_other_bytes_is_found_while_it_is_joined() {
    let hosts = Hosts::new();
    hosts.make_parts("output", 3, &[]);
    let place = hosts.parts_dir("output").join("part-00001-of-00003");
    let file = contents(&place).into_keys().find(|name| name.starts_with("shard-")).expect("a stretch");
    let mut bytes = fs::read(place.join(&file)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(place.join(&file), bytes).unwrap();
    let ran = hosts.finish("output", &[]);
    assert_eq!(ran.code, 65, "{}", ran.err);
    assert!(ran.err.contains(&format!("`{file}` of part 1 in `")), "{}", ran.err);
    assert!(ran.err.contains("run `--part 1/3` again, and then `shardfold finish`"), "{}", ran.err);
    let ran = hosts.part("output", "1/3");
    assert_eq!((ran.code, ran.out.starts_with("part done")), (0, true), "{}", ran.err);
    hosts.finishes("output");
}

#[test]
fn parts_of_another_merge_or_number_are_refused() {
    let hosts = Hosts::new();
    hosts.make_parts("output", 3, &[1, 2]);
    let refused = |ran: Ran, texts: &[&str]| {
        assert_eq!(ran.code, 73, "{}", ran.err);
        texts.iter().for_each(|text| assert!(ran.err.contains(text), "{text}: {}", ran.err));
    };
    refused(
        hosts.part("output", "1/4"),
        &[
            "holds parts of a merge that is made in 3, and this one was to be one of 4",
            "give every part the same number",
        ],
    );
    refused(
        hosts.merge("output", &[]),
        &["holds parts of this merge, which is made in 3", "shardfold finish"],
    );
    let other = hosts
        .merge("output", &["--part", "1/3", "--tokenizer", "base", "--allow-noop", "--checksums", "sha256"]);
    refused(other, &["it was begun by a merge of other inputs"]);
    // Parts that were begun at the same time see nothing of each other.
    hosts.make_parts("other", 4, &[]);
    let (from, to) = (hosts.parts_dir("other"), hosts.parts_dir("output"));
    copy_folder(&from.join("part-00001-of-00004"), &to.join("part-00001-of-00004"));
    refused(hosts.finish("output", &[]), &["made in 4, and this one was to be one of 3"]);
    fs::remove_dir_all(to.join("part-00001-of-00004")).unwrap();
    hosts.make_parts("output", 3, &[0]);
    let place = to.join("part-00002-of-00003");
    edit_json(&place.join("shardfold.json"), |record| {
        record.insert("plan".to_owned(), json!("0".repeat(64)));
    });
    let ran = hosts.finish("output", &[]);
    assert_eq!(ran.code, 65, "{}", ran.err);
    assert!(ran.err.contains("part 2 in `") && ran.err.contains("is of another merge"), "{}", ran.err);
    let cut =
        hosts.merge("begun", &["--abort-at", "20", "--slab", "4KiB", "--depth", "1", "--stride", "1KiB"]);
    assert_eq!(cut.code, -1);
    refused(hosts.part("begun", "0/3"), &["was begun by a merge without `--part`"]);
}

#[test]
fn a_part_that_is_still_being_made_is_named() {
    let hosts = Hosts::new();
    hosts.make_parts("output", 3, &[1]);
    let dir = hosts.parts_dir("output").join("part-00001-of-00003.partial");
    fs::create_dir(&dir).unwrap();
    let held = fs::File::open(&dir).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    let ran = hosts.finish("output", &[]);
    assert_eq!(ran.code, 73, "{}", ran.err);
    assert!(ran.err.contains("part 1 of 3 for `") && ran.err.contains("is still being made"), "{}", ran.err);
    // One that is stuck keeps no other from making it.
    hosts.make_parts("output", 3, &[0, 2]);
    hosts.finishes("output");
}

#[test]
fn a_store_without_renames_is_refused() {
    let hosts = Hosts::new();
    let state = hosts.at("state");
    let mut command = hosts.command("output", &["--part", "0/3", "--refuse-renames"]);
    let ran = ran(command.env("XDG_STATE_HOME", state).output().unwrap());
    assert_eq!(ran.code, 73, "{}", ran.err);
    assert!(
        ran.err.contains("cannot be made in parts: files cannot be renamed or synced there"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("hint: merge without `--part`"), "{}", ran.err);
    assert!(!hosts.at("output").exists());
}

#[test]
fn inputs_that_were_moved_are_named() {
    let hosts = Hosts::new();
    hosts.make_parts("output", 3, &[]);
    fs::rename(hosts.at("base"), hosts.at("moved")).unwrap();
    let ran = hosts.finish("output", &[]);
    assert_eq!(ran.code, 66, "{}", ran.err);
    let moved = hosts.at("moved");
    let ran =
        hosts.finish("output", &["--base", moved.to_str().unwrap(), "--adapter", "a", "--adapter", "b"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let ran = hosts.finish("output", &["--base", moved.to_str().unwrap(), "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&document["state"], &document["parts"]), (&json!("done"), &json!(3)));
    hosts.is_whole("output");
}

#[test]
fn what_all_parts_come_to_must_change_something() {
    let work = Work::quick(Some("tiny"));
    work.adapt(1, 4, 4, 1.0, 1e-30);
    let part = work.merge(&["--part", "0/1"]);
    assert_eq!(part.code, 0, "{}", part.err);
    let ran = ran(command(&["finish"]).arg(&work.output).output().unwrap());
    let one = work.merge_into(&work.folder.path().join("one"), &[]);
    assert_eq!((ran.code, one.code), (65, 65), "{}{}", ran.err, one.err);
    let first = |text: &str| text.lines().find(|line| line.starts_with("error")).map(str::to_owned);
    assert_eq!(first(&ran.err), first(&one.err));
    assert!(!work.output.exists());
}

#[test]
fn a_task_of_an_array_takes_its_part() {
    let hosts = Hosts::new();
    let slurm = |id: &str| {
        let mut command = hosts.command("output", &["--part", "auto"]);
        command.env("SLURM_ARRAY_TASK_ID", id).env("SLURM_ARRAY_TASK_MIN", "1");
        ran(command.env("SLURM_ARRAY_TASK_COUNT", "3").env("SLURM_ARRAY_TASK_STEP", "1").output().unwrap())
    };
    for id in ["1", "2"] {
        assert!(slurm(id).out.starts_with("part done"), "{id}");
    }
    let mut command = hosts.command("output", &["--part", "auto/3"]);
    let ran = ran(command.env("JOB_COMPLETION_INDEX", "2").output().unwrap());
    assert!(ran.out.starts_with("part done: 2/3 of `"), "{}{}", ran.out, ran.err);
    hosts.finishes("output");
}

#[test]
fn the_shell_recipe_runs() {
    let hosts = Hosts::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes/many-hosts.sh");
    let mut command = Command::new("sh");
    command.arg(script).arg("4").arg(hosts.at("output")).arg("--base").arg(hosts.at("base"));
    command.arg("--adapter").arg(hosts.at("adapter")).env("SHARDFOLD", binary());
    let ran = ran(command.output().unwrap());
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    hosts.is_whole("output");
}
