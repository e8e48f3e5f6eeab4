//! Where the result appears: whole or not at all, and never in the place of something else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::SystemTime;

use serde_json::{Value, json};
use shardfold::{Code, Event, Location, Reporter, Request, prepare};

use super::support::{contents, ran, recorded_hash};
use super::work::{Mounted, Work, edit};

/// Every file of a folder with its bytes and when it was changed.
fn state(folder: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let changed = |name: &str| fs::metadata(folder.join(name)).unwrap().modified().unwrap();
    contents(folder).into_iter().map(|(name, bytes)| (name.clone(), (bytes, changed(&name)))).collect()
}

/// Merges, expects the code and the texts, and that nothing of `kept` has changed.
fn leaves(work: &Work, code: i32, says: &[&str], kept: &Path) {
    let before = state(kept);
    let ran = work.merge(&[]);
    assert_eq!(ran.code, code, "{}", ran.err);
    for text in says {
        assert!(ran.err.contains(text) || ran.out.contains(text), "no `{text}` in\n{}{}", ran.out, ran.err);
    }
    assert!(state(kept) == before, "{} was changed", kept.display());
}

/// Whether the output is a whole result and nothing else: the files of the demo and no more.
fn is_whole(output: &Path) {
    let names: Vec<String> = contents(output).into_keys().collect();
    assert_eq!(
        names,
        [
            "README.md",
            "config.json",
            "generation_config.json",
            "model-00001-of-00003.safetensors",
            "model-00002-of-00003.safetensors",
            "model-00003-of-00003.safetensors",
            "model.safetensors.index.json",
            "shardfold.json"
        ]
    );
}

#[test]
fn an_output_that_is_absent_or_an_empty_folder() {
    let absent = Work::demo();
    let ran = absent.succeeds(&[]);
    assert!(ran.out.contains("merged into `"), "{}", ran.out);
    is_whole(&absent.output);
    assert!(!absent.partial().exists());

    let empty = Work::demo();
    fs::create_dir(&empty.output).unwrap();
    empty.succeeds(&[]);
    is_whole(&empty.output);
    assert!(!empty.partial().exists());

    assert!(contents(&absent.output) == contents(&empty.output), "the same merge in two folders differs");
}

#[test]
fn an_output_in_a_folder_that_is_not_there_yet() {
    let work = Work::demo();
    let output = work.folder.path().join("results/today/merged");
    let ran = work.merge_into(&output, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    is_whole(&output);
}

#[test]
fn an_output_by_a_relative_name() {
    let work = Work::demo();
    for name in ["merged", "./merged2", "merged3/", "sub/../merged4", "new/deep/merged5"] {
        fs::create_dir_all(work.folder.path().join("sub")).unwrap();
        let mut command = work.command_into(Path::new(name), &[]);
        let ran = ran(command.current_dir(work.folder.path()).output().unwrap());
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        is_whole(&work.folder.path().join(name));
    }
}

#[test]
fn a_finished_output_is_recognised() {
    let work = Work::demo();
    work.succeeds(&[]);
    leaves(&work, 0, &["already done"], &work.output);
    let json: Value = serde_json::from_str(&work.succeeds(&["--json"]).out).unwrap();
    assert_eq!(json["state"], "already done");
    // Another way to the same result is the same merge.
    let before = state(&work.output);
    let ran = work.succeeds(&["--threads", "1", "--max-ram", "64MiB", "--scalar"]);
    assert!(ran.out.contains("already done"), "{}", ran.out);
    assert!(state(&work.output) == before);
    assert!(!work.partial().exists());
}

#[test]
fn a_finished_output_that_was_changed_is_refused() {
    for damage in [
        |path: &Path| {
            let mut bytes = fs::read(path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        },
        |path: &Path| fs::write(path, b"short").unwrap(),
        |path: &Path| fs::remove_file(path).unwrap(),
    ] {
        let work = Work::demo();
        work.succeeds(&[]);
        damage(&work.output.join("model-00002-of-00003.safetensors"));
        let says =
            ["is the result of this merge, but `model-00002-of-00003.safetensors` is not as it was written"];
        leaves(&work, 73, &says, &work.output);
        assert!(!work.partial().exists());
    }
}

#[test]
fn the_result_of_another_merge_is_refused() {
    let work = Work::demo();
    work.succeeds(&[]);
    // Another adapter, another weight, another base: each is another merge.
    let (before, adapter) = (state(&work.output), work.adapter.to_str().unwrap());
    let ran = work.merge(&["--scaled-adapter", adapter, "0.5"]);
    assert_eq!(ran.code, 73, "{}", ran.err);
    assert!(
        ran.err.contains("it is of another merge (it has 1 adapter, this one 2 adapters)"),
        "{}",
        ran.err
    );
    assert!(state(&work.output) == before);
    edit(&work.shard(1), |tensors| tensors[0].data[0] ^= 1);
    leaves(
        &work,
        73,
        &["output` already exists and is not the result of this merge", "hint: "],
        &work.output,
    );
    assert!(!work.partial().exists());
}

#[test]
fn whatever_else_is_there_is_left_alone() {
    let work = Work::demo();
    fs::create_dir(&work.output).unwrap();
    fs::write(work.output.join("thesis.txt"), "years of work").unwrap();
    leaves(
        &work,
        73,
        &[
            "output` already exists and is not the result of this merge",
            "name an output that does not exist yet",
        ],
        &work.output,
    );

    let work = Work::demo();
    fs::create_dir_all(work.output.join("empty")).unwrap();
    assert_eq!(work.merge(&[]).code, 73);
    assert!(work.output.join("empty").is_dir());

    let work = Work::demo();
    fs::write(&work.output, "a file").unwrap();
    let ran = work.merge(&[]);
    assert_eq!(ran.code, 73, "{}", ran.err);
    assert_eq!(fs::read_to_string(&work.output).unwrap(), "a file");
    assert!(!work.partial().exists());

    // The base itself, and a base in which the output would be.
    let work = Work::demo();
    let before = state(&work.base);
    assert_eq!(work.merge_into(&work.base, &[]).code, 73);
    assert!(state(&work.base) == before);
}

#[test]
fn what_another_merge_staged_is_left_alone() {
    let work = Work::demo();
    fs::create_dir(work.partial()).unwrap();
    fs::write(
        work.partial().join("shardfold.journal"),
        "{\"shardfold\":\"0.1.0\",\"plan\":\"of another\"}\n",
    )
    .unwrap();
    fs::write(work.partial().join("model-00001-of-00003.safetensors"), "another's").unwrap();
    leaves(
        &work,
        73,
        &[
            "output.partial` already exists and is not the result of this merge",
            "hint: it was begun by a merge of other inputs",
        ],
        &work.partial(),
    );
    assert!(!work.output.exists());

    // So is what nobody knows.
    fs::remove_file(work.partial().join("shardfold.journal")).unwrap();
    leaves(
        &work,
        73,
        &["output.partial` already exists and is not the result of this merge"],
        &work.partial(),
    );
    assert!(!work.output.exists());
}

#[test]
fn what_was_cut_off_before_it_began_is_nobodys() {
    let work = Work::demo();
    let first = work.folder.path().join("first");
    assert_eq!(work.merge_into(&first, &[]).code, 0);
    let expected = contents(&first);
    let begun = "{\"shardfold\":\"0.1.0\",\"pl";
    for (name, text) in
        [("shardfold.journal", ""), ("shardfold.journal", begun), (".shardfold.journal.1-0.tmp", begun)]
    {
        fs::create_dir(work.partial()).unwrap();
        fs::write(work.partial().join(name), text).unwrap();
        work.succeeds(&[]);
        assert!(contents(&work.output) == expected && !work.partial().exists(), "{name}: {text}");
        fs::remove_dir_all(&work.output).unwrap();
    }
    // A whole first line that is not ours is somebody's.
    fs::create_dir(work.partial()).unwrap();
    fs::write(work.partial().join("shardfold.journal"), "notes\n").unwrap();
    leaves(
        &work,
        73,
        &["output.partial` already exists and is not the result of this merge"],
        &work.partial(),
    );
}

#[test]
fn a_move_into_place_that_was_cut_off_goes_on() {
    let work = Work::demo();
    let first = work.folder.path().join("first");
    assert_eq!(work.merge_into(&first, &[]).code, 0);
    let expected = contents(&first);
    let record: Value = serde_json::from_slice(&expected["shardfold.json"]).unwrap();
    // Staged beside, and a file of it moved into an output that could not be replaced by a rename.
    fs::rename(&first, work.partial()).unwrap();
    let inside = work.output.join(".shardfold.partial");
    fs::create_dir_all(&inside).unwrap();
    let head = format!("{{\"shardfold\":\"0.1.0\",\"plan\":{}}}\n", record["plan"]);
    fs::write(inside.join("shardfold.journal"), head).unwrap();
    let moved = "generation_config.json";
    fs::rename(work.partial().join(moved), work.output.join(moved)).unwrap();
    work.succeeds(&[]);
    assert!(contents(&work.output) == expected && !work.partial().exists());
}

#[test]
fn what_the_same_merge_staged_is_started_over() {
    let work = Work::demo();
    let plan: Value = serde_json::from_str(&work.succeeds(&["--json"]).out).unwrap();
    let expected = contents(&work.output);
    fs::rename(&work.output, work.folder.path().join("first")).unwrap();
    fs::create_dir(work.partial()).unwrap();
    let head = format!("{{\"shardfold\":\"0.1.0\",\"plan\":{}}}\n", plan["digest"]);
    fs::write(work.partial().join("shardfold.journal"), head).unwrap();
    fs::write(work.partial().join("model-00001-of-00003.safetensors"), "half of it").unwrap();
    fs::write(work.partial().join(".config.json.1-1.tmp"), "by an earlier run").unwrap();
    // What no merge leaves is somebody's.
    let other = work.partial().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("file"), "precious").unwrap();
    let ran = work.merge(&[]);
    assert!(
        ran.code == 73 && ran.err.contains("hint: `other` in it is no file of this merge"),
        "{}",
        ran.err
    );
    assert_eq!(fs::read(other.join("file")).unwrap(), b"precious");
    fs::remove_dir_all(&other).unwrap();
    work.succeeds(&[]);
    assert!(contents(&work.output) == expected);
    assert!(!work.partial().exists());
}

#[test]
fn what_a_move_into_place_left_goes_when_all_is_there() {
    let work = Work::demo();
    let plan: Value = serde_json::from_str(&work.succeeds(&["--json"]).out).unwrap();
    let left = work.output.join(".shardfold.partial");
    fs::create_dir(&left).unwrap();
    let head = format!("{{\"shardfold\":\"0.1.0\",\"plan\":{}}}\n", plan["digest"]);
    fs::write(left.join("shardfold.journal"), head).unwrap();
    fs::create_dir(work.partial()).unwrap();
    work.succeeds(&[]);
    assert!(!left.exists() && !work.partial().exists());
}

#[test]
fn what_was_whole_but_not_yet_shown_is_taken_for_the_merge_s_own() {
    let work = Work::demo();
    work.succeeds(&[]);
    let expected = contents(&work.output);
    fs::rename(&work.output, work.partial()).unwrap();
    work.succeeds(&[]);
    assert!(contents(&work.output) == expected);
    assert!(!work.partial().exists());
}

#[test]
fn a_mounted_output_is_filled_in_place() {
    let work = Work::demo();
    let plain = work.folder.path().join("plain");
    assert_eq!(work.merge_into(&plain, &[]).code, 0);
    fs::create_dir(&work.output).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&work.output, 16 << 20) else {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    };
    work.succeeds(&[]);
    is_whole(&work.output);
    assert!(contents(&plain) == contents(&work.output));
    assert!(!work.output.join(".shardfold.partial").exists() && !work.partial().exists());
    leaves(&work, 0, &["already done"], &work.output);

    // Half-way in its place, as after a kill: the same merge goes on.
    let inside = work.output.join(".shardfold.partial");
    fs::create_dir(&inside).unwrap();
    for name in ["config.json", "shardfold.json", "model-00003-of-00003.safetensors"] {
        fs::rename(work.output.join(name), inside.join(name)).unwrap();
    }
    let ran = work.succeeds(&[]);
    assert!(ran.out.starts_with("merged into"), "{}", ran.out);
    is_whole(&work.output);
    assert!(contents(&plain) == contents(&work.output));
    assert!(!inside.exists());
}

#[test]
fn links_are_followed() {
    // An output that is a link to an empty folder elsewhere.
    let work = Work::demo();
    let elsewhere = work.folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &work.output).unwrap();
    work.succeeds(&[]);
    is_whole(&elsewhere);
    assert!(fs::symlink_metadata(&work.output).unwrap().is_symlink());
    assert!(!work.folder.path().join("elsewhere.partial").exists() && !work.partial().exists());

    // A base like a snapshot of a Hugging Face cache: every file a link to a blob.
    let mut cached = Work::demo();
    let repository = cached.folder.path().join("models--org--name");
    let blobs = repository.join("blobs");
    fs::create_dir_all(repository.join("snapshots")).unwrap();
    fs::rename(&cached.base, &blobs).unwrap();
    cached.base = repository.join("snapshots/base");
    fs::create_dir(&cached.base).unwrap();
    for (i, name) in contents(&blobs).into_keys().enumerate() {
        let blob = format!("blob{i}");
        fs::rename(blobs.join(&name), blobs.join(&blob)).unwrap();
        symlink(Path::new("../../blobs").join(&blob), cached.base.join(&name)).unwrap();
    }
    cached.succeeds(&[]);
    is_whole(&cached.output);
    assert!(contents(&cached.output) == contents(&work.output));
    for entry in fs::read_dir(&cached.output).unwrap() {
        assert!(entry.unwrap().file_type().unwrap().is_file(), "a result has no links");
    }
}

#[test]
fn what_belongs_to_a_checkpoint_is_carried_over() {
    let work = Work::demo();
    let carried = [
        "tokenizer.json",
        "tokenizer.model",
        "chat_template.jinja",
        "modeling_demo.py",
        "1_Pooling/config.json",
        "LICENSE",
    ];
    let left = [
        "README.md",
        "pytorch_model.bin",
        "model.gguf",
        "tf_model.h5",
        "optimizer.pt",
        "scheduler.pt",
        "trainer_state.json",
        "training_args.bin",
        "rng_state.pth",
        "consolidated.safetensors",
        "onnx/model.onnx",
        "original/params.json",
        "checkpoint-500/config.json",
        ".cache/file",
        "shardfold.json",
    ];
    for name in carried.iter().chain(&left) {
        let path = work.base.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("text of {name}")).unwrap();
    }
    let ran = work.succeeds(&[]);
    assert!(ran.err.contains("note: `consolidated.safetensors` is not in the index; skipped"), "{}", ran.err);
    let found = contents(&work.output);
    for name in carried {
        assert_eq!(found.get(name).map(Vec::as_slice), Some(format!("text of {name}").as_bytes()), "{name}");
    }
    for name in ["config.json", "generation_config.json", "model.safetensors.index.json"] {
        assert!(found[name] == fs::read(work.base.join(name)).unwrap(), "{name}");
    }
    for name in left {
        let own = ["README.md", "shardfold.json"].contains(&name);
        let text = found.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(
            if own { text != Some(format!("text of {name}")) } else { text.is_none() },
            "{name} was copied"
        );
    }
}

#[test]
fn the_card_and_the_record_say_what_was_merged_and_not_where() {
    let mut work = Work::demo();
    // What the adapter calls its base is named where the directory is called so.
    work.succeeds(&[]);
    let card = fs::read_to_string(work.output.join("README.md")).unwrap();
    assert!(card.starts_with("---\nlibrary_name: transformers\n") && card.contains("# base with"), "{card}");
    fs::remove_dir_all(&work.output).unwrap();
    let demo = work.folder.path().join("demo");
    fs::rename(&work.base, &demo).unwrap();
    work.base = demo;
    work.succeeds(&[]);
    let text = |name| fs::read_to_string(work.output.join(name)).unwrap();
    let (card, record) = (text("README.md"), text("shardfold.json"));
    assert!(
        card.starts_with("---\nbase_model:\n- \"shardfold/demo\"\nbase_model_relation: finetune\n"),
        "{card}"
    );
    assert!(card.contains("| adapter | LORA | 1 |"), "{card}");
    let here = work.folder.path().to_str().unwrap();
    assert!(!card.contains(here) && !record.contains(here));
    fn strings(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) => found.push(text.clone()),
            Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
            Value::Object(fields) => fields.values().for_each(|value| strings(value, found)),
            _ => {}
        }
    }
    let record: Value = serde_json::from_str(&record).unwrap();
    let mut found = Vec::new();
    strings(&record, &mut found);
    assert!(found.iter().all(|text| !text.contains('/')), "{found:?}");
    assert_eq!(record["shards"].as_array().unwrap().len(), 3);
    for shard in record["shards"].as_array().unwrap() {
        let name = shard["name"].as_str().unwrap();
        let bytes = fs::read(work.output.join(name)).unwrap();
        let (hash, sections) = recorded_hash(name, &bytes);
        assert_eq!(shard["hash"], hash);
        assert_eq!(shard["bytes"], bytes.len());
        let recorded = shard["sections"].as_array().unwrap();
        assert_eq!(recorded.len(), sections.len());
        for (section, (tensor, bytes, hash)) in recorded.iter().zip(sections) {
            assert_eq!(section["tensor"].as_str().unwrap_or_default(), tensor);
            assert_eq!((&section["bytes"], &section["hash"]), (&json!(bytes), &json!(hash)));
        }
    }
}

#[test]
fn two_runs_at_once_leave_one_result() {
    let expected = Work::demo();
    expected.succeeds(&[]);
    let expected = contents(&expected.output);
    for round in 0..8 {
        let work = Work::demo();
        let start = || {
            let mut command = work.command(&[]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let runs: Vec<_> = (0..3).map(|_| start()).collect();
        let ends: Vec<_> = runs.into_iter().map(|run| ran(run.wait_with_output().unwrap())).collect();
        let merged = ends.iter().filter(|end| end.code == 0 && end.out.starts_with("merged into")).count();
        let said: Vec<_> = ends.iter().map(|end| format!("{}: {}{}", end.code, end.out, end.err)).collect();
        assert_eq!(merged, 1, "round {round}: {said:#?}");
        for end in &ends {
            let is_done =
                end.code == 0 && (end.out.starts_with("merged into") || end.out.starts_with("already done"));
            assert!(is_done || end.code == 73, "round {round}: {said:#?}");
        }
        assert!(contents(&work.output) == expected, "round {round}: the result is not whole: {said:#?}");
        assert!(!work.partial().exists(), "round {round}: something staged is left: {said:#?}");
    }
}

#[test]
fn json_is_one_document() {
    let work = Work::demo();
    let ran = work.succeeds(&["--json"]);
    let json: Value = serde_json::from_str(&ran.out).expect("one document");
    assert_eq!(json["state"], "done");
    assert!(json["peak_rss"].as_u64().unwrap() > 1 << 20, "{json}");
    assert!(json["output_bytes"].as_u64().unwrap() > 300_000 && json["tensors"]["merged"] == 28, "{json}");
    for line in ran.err.lines() {
        let event: Value = serde_json::from_str(line).expect("a JSON object a line");
        assert!(event["event"].is_string(), "{event}");
    }
    // What goes wrong leaves stdout empty.
    fs::remove_dir_all(&work.adapter).unwrap();
    let ran = work.merge(&["--json"]);
    assert!(ran.code == 66 && ran.out.is_empty(), "{}", ran.out);
}

#[test]
fn quiet_says_nothing() {
    let work = Work::demo();
    let ran = work.succeeds(&["--quiet"]);
    assert!(ran.out.is_empty() && ran.err.is_empty(), "{}{}", ran.out, ran.err);
}

#[test]
fn a_plan_writes_nothing() {
    let work = Work::demo();
    let before = contents(work.folder.path());
    let plan = |flags: &[&str]| {
        let mut command = super::support::command(&["plan"]);
        command.arg("--base").arg(&work.base).arg("--adapter").arg(&work.adapter).args(flags);
        ran(command.output().unwrap())
    };
    for ran in [plan(&[]), work.merge(&["--dry-run"])] {
        assert_eq!(ran.code, 0, "{}", ran.err);
        for text in ["budget     ", "minimum    "] {
            assert!(ran.out.contains(text), "no `{text}` in {}", ran.out);
        }
    }
    for ran in [plan(&["--json"]), work.merge(&["--dry-run", "--json"])] {
        assert_eq!(ran.code, 0, "{}", ran.err);
        let json: Value = serde_json::from_str(&ran.out).expect("one document");
        assert!(json["budget"]["smallest"].as_u64().unwrap() > 1 << 20, "{json}");
        assert_eq!(json["already_done"], false);
    }
    assert!(contents(work.folder.path()) == before && !work.output.exists() && !work.partial().exists());

    work.succeeds(&[]);
    let done: Value = serde_json::from_str(&work.merge(&["--dry-run", "--json"]).out).unwrap();
    assert_eq!(done["already_done"], true);
}

#[test]
fn a_merge_reports_what_it_decided() {
    for (case, texts) in [
        (
            "tied-head",
            &["note: `lm_head.weight` has a tensor of its own", "`tie_word_embeddings` becomes false"][..],
        ),
        (
            "mxfp4",
            &[
                "note: the quantized base is decoded to BF16: 9.7 KiB of weights become 18 KiB",
                "`--keep-quantized` keeps them quantized",
                "note: `quantization_config` is dropped from config.json",
            ],
        ),
    ] {
        let work = Work::golden(case);
        let ran = work.succeeds(&[]);
        for text in texts {
            assert!(ran.err.contains(text), "{case}: no `{text}` in {}", ran.err);
        }
    }
}

/// Makes something at a path when the run tells what it decided: it has looked at its output by then.
struct Appearing<'p>(&'p Path);

impl Reporter for Appearing<'_> {
    fn event(&mut self, event: &Event<'_>) {
        if matches!(event, Event::Note(_)) && !self.0.exists() {
            fs::create_dir(self.0).unwrap();
            fs::write(self.0.join("thesis.txt"), "years of work").unwrap();
        }
    }
}

#[test]
fn an_output_that_appears_while_a_run_begins_is_left_alone() {
    let work = Work::golden("tied-head");
    let request = Request {
        base: Some(work.base.clone().into()),
        adapters: vec![(work.adapter.clone().into(), 1f64.into())],
        ..Request::default()
    };
    let prepared = prepare(&request).unwrap();
    let output = Location::of_path(&work.output);
    let error = prepared.merge(&output, &mut Appearing(&work.output)).unwrap_err();
    assert_eq!(error.exit_code(), Code::Output, "{error:?}");
    assert!(error.advice().is_some_and(|advice| advice.starts_with("it has finished just now")), "{error:?}");
    let left: Vec<(String, Vec<u8>)> = contents(&work.output).into_iter().collect();
    assert_eq!(left, [("thesis.txt".to_owned(), b"years of work".to_vec())]);
    assert!(!work.partial().exists());
}

#[test]
#[cfg(target_os = "linux")]
fn an_output_in_memory_that_a_limit_counts_is_noted_or_refused() {
    let work = Work::quick(None);
    if !work.folder.path().starts_with("/dev/shm") {
        eprintln!("skipped: there is no file system in memory here");
        return;
    }
    fs::write(work.base.join("vocab.bin"), vec![7; 8 << 20]).unwrap();
    // The limit is that of a job; the budget is below it.
    let merge = |mib: &str| {
        let mut command = work.command(&["--max-ram", "64MiB"]);
        ran(command.env("SLURM_MEM_PER_NODE", mib).output().unwrap())
    };
    let refused = merge("60");
    let says = "lies in memory (a tmpfs), and the result and the run need 72 MiB: ";
    assert!(refused.code == 73 && refused.err.contains(says), "{}", refused.err);
    assert!(refused.err.contains("hint: name an output on a disk"), "{}", refused.err);
    assert!(!work.output.exists() && !work.partial().exists());
    let noted = merge("110");
    let says = "lies in memory (a tmpfs), where the result takes 8.";
    assert!(noted.code == 0 && noted.err.contains(says), "{}", noted.err);
    fs::remove_dir_all(&work.output).unwrap();
    // Where much more is free than it takes, there is nothing to say.
    let silent = merge("2000");
    assert!(silent.code == 0 && !silent.err.contains("in memory"), "{}", silent.err);
}
