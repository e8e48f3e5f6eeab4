//! Outputs found again or fought over: already done means all of it, and no run takes what may be another's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;

use serde_json::json;
use shardfold::testing::{Faulty, write_small};
use shardfold::{Cancel, Code, Location, Memory, Request, Store, Style, Terminal, choose, prepare};

use super::support::{contents, copy_folder, fixtures};
use super::work::{Work, edit_json};

fn refuses(work: &Work, texts: &[&str]) {
    let ran = work.merge(&[]);
    assert_eq!(ran.code, 73, "{}", ran.err);
    for text in texts {
        assert!(ran.err.contains(text), "no `{text}` in\n{}", ran.err);
    }
}

#[test]
fn already_done_means_every_file() {
    let work = Work::demo();
    fs::write(work.base.join("tokenizer.json"), "{\"a\": 1}").unwrap();
    work.succeeds(&[]);
    let ran = work.succeeds(&[]);
    assert!(ran.out.contains("already done"), "{}", ran.out);
    assert!(ran.err.contains("OUTPUT is finished: checking the hashes of its "), "{}", ran.err);
    let whole = work.folder.path().join("whole");
    super::support::copy_folder(&work.output, &whole);
    let again = |change: &dyn Fn(&Path)| {
        fs::remove_dir_all(&work.output).unwrap();
        super::support::copy_folder(&whole, &work.output);
        change(&work.output);
    };
    // Missing and other files, all of them named.
    again(&|out| {
        fs::remove_file(out.join("config.json")).unwrap();
        fs::remove_file(out.join("model.safetensors.index.json")).unwrap();
        fs::write(out.join("tokenizer.json"), "").unwrap();
    });
    refuses(
        &work,
        &[
            "`config.json`",
            "`model.safetensors.index.json`",
            "`tokenizer.json`",
            "are not as they were written",
        ],
    );
    // Garbage of the same length, in the card too.
    again(&|out| fs::write(out.join("tokenizer.json"), "{\"a\": 2}").unwrap());
    refuses(&work, &["`tokenizer.json` is not as it was written"]);
    again(&|out| fs::write(out.join("README.md"), "other").unwrap());
    refuses(&work, &["`README.md` is not as it was written"]);
    // A record that lacks files.
    for field in ["shards", "files"] {
        again(&|out| {
            edit_json(&out.join("shardfold.json"), |fields| {
                fields.insert(field.to_owned(), json!([]));
            });
        });
        refuses(&work, &["`shardfold.json` is not as it was written"]);
    }
    // A side file of the base that changed at equal length is another merge.
    again(&|_| fs::write(work.base.join("tokenizer.json"), "{\"a\": 3}").unwrap());
    refuses(&work, &["was made with another `tokenizer.json` than there is now"]);
}

/// Changes one weight of a shard where no sample of its identity is, and gives the file its old time again.
fn change_unsampled(path: &Path) {
    let written = fs::metadata(path).unwrap().modified().unwrap();
    let mut bytes = fs::read(path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let apart = (bytes.len() - start - 4096) / 15;
    assert!(apart > 4200, "nothing lies between samples");
    bytes[start + (apart + 4096) / 2] ^= 0x50;
    fs::write(path, bytes).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
}

/// What becomes of a merge's base, given another.
type Change<'c> = &'c dyn Fn(&mut Work, &Path);

const AGAIN: &str = "may have changed since OUTPUT was made: checking its ";

/// Runs the merge that made the output again: it is still done, or the base is another by now.
fn is_still(work: &Work, is_done: bool, is_merged_again: bool) {
    let before = contents(&work.output);
    let ran = work.merge(&[]);
    assert_eq!(ran.code, if is_done { 0 } else { 73 }, "{}", ran.err);
    assert_eq!(ran.err.contains(AGAIN), is_merged_again, "{}", ran.err);
    if is_done {
        assert!(ran.out.contains("already done"), "{}", ran.out);
    } else {
        let text =
            "was made before the base changed: its `model-00002-of-00003.safetensors` would be another";
        assert!(ran.err.contains(text), "{}", ran.err);
    }
    assert!(contents(&work.output) == before && !work.partial().exists());
}

#[test]
fn a_base_that_changed_between_its_samples_is_another() {
    let work = Work::demo();
    work.succeeds(&[]);
    is_still(&work, true, false);
    // Copied again it is the same, which another merge shows.
    let copy = work.folder.path().join("copy");
    copy_folder(&work.base, &copy);
    fs::remove_dir_all(&work.base).unwrap();
    fs::rename(&copy, &work.base).unwrap();
    is_still(&work, true, true);
    let dry: serde_json::Value = serde_json::from_str(&work.merge(&["--dry-run", "--json"]).out).unwrap();
    assert_eq!(dry["already_done"], true);
    change_unsampled(&work.shard(2));
    is_still(&work, false, true);
    assert_eq!(work.merge(&["--dry-run"]).code, 73);
}

#[test]
fn another_base_under_the_same_name_is_another_however_old_it_is() {
    // By another name, in another directory of that name, and by another link.
    let named = |work: &mut Work, other: &Path| work.base = other.to_path_buf();
    let moved = |work: &mut Work, other: &Path| {
        fs::rename(&work.base, work.folder.path().join("old")).unwrap();
        fs::rename(other, &work.base).unwrap();
    };
    let linked = |work: &mut Work, other: &Path| {
        fs::remove_file(work.shard(2)).unwrap();
        symlink(other.join("model-00002-of-00003.safetensors"), work.shard(2)).unwrap();
    };
    let ways: [Change; 3] = [&named, &moved, &linked];
    for change in ways {
        let mut work = Work::demo();
        let other = work.folder.path().join("other");
        copy_folder(&work.base, &other);
        change_unsampled(&other.join("model-00002-of-00003.safetensors"));
        work.succeeds(&[]);
        is_still(&work, true, false);
        change(&mut work, &other);
        is_still(&work, false, true);
    }
}

#[test]
fn what_is_hashed_whole_needs_no_second_merge() {
    let flip = |path: &Path| {
        let written = fs::metadata(path).unwrap().modified().unwrap();
        let text = fs::read_to_string(path).unwrap();
        let changed = text.replacen("_id\": 1", "_id\": 2", 1);
        assert!(changed != text, "{text}");
        fs::write(path, changed).unwrap();
        fs::File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
    };
    for name in ["config.json", "generation_config.json"] {
        let work = Work::demo();
        work.succeeds(&[]);
        flip(&work.base.join(name));
        refuses(&work, &[&format!("was made with another `{name}` than there is now")]);
    }
    let work = Work::demo();
    work.succeeds(&[]);
    change_unsampled(&work.weights());
    refuses(&work, &["already exists and is not the result of this merge"]);
}

#[test]
fn a_journal_alone_blocks_nobody() {
    let work = Work::demo();
    let other = "{\"shardfold\":\"0.1.0\",\"plan\":\"of another\"}\n";
    for text in ["", "{\"shardf", other] {
        fs::create_dir(work.partial()).unwrap();
        fs::write(work.partial().join("shardfold.journal"), text).unwrap();
        work.succeeds(&[]);
        assert!(!work.partial().exists());
        fs::remove_dir_all(&work.output).unwrap();
    }
    // A torn journal beside what no merge writes is somebody's.
    fs::create_dir(work.partial()).unwrap();
    fs::write(work.partial().join("shardfold.journal"), "").unwrap();
    fs::write(work.partial().join("thesis.txt"), "years of work").unwrap();
    refuses(&work, &["output.partial` already exists"]);
    assert!(work.partial().join("thesis.txt").exists());
}

#[test]
fn an_output_inside_an_input_is_refused() {
    let work = Work::demo();
    for output in
        [work.base.clone(), work.base.join("merged"), work.base.join("a/b"), work.adapter.join("merged")]
    {
        let ran = work.merge_into(&output, &[]);
        assert_eq!(ran.code, 73, "{}", ran.err);
        assert!(ran.err.contains("lies inside the input"), "{}", ran.err);
    }
    assert!(!work.base.join("merged").exists() && !work.base.join("a").exists());
    // A directory beside it whose name begins alike is none.
    let ran = work.merge_into(&work.folder.path().join("base-merged"), &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn names_of_the_output_are_used_once() {
    // The index may call a shard as it likes if only the name is one of a file of tensors, and what has it is the shard.
    let rename = |work: &Work, name: &str| {
        fs::rename(work.shard(2), work.base.join(name)).unwrap();
        let index = work.base.join("model.safetensors.index.json");
        let text = fs::read_to_string(&index).unwrap().replace("model-00002-of-00003.safetensors", name);
        fs::write(index, text).unwrap();
    };
    let expected = Work::demo();
    expected.succeeds(&[]);
    let shard = fs::read(expected.output.join("model-00002-of-00003.safetensors")).unwrap();
    for name in ["shard1.safetensors", "value_head.safetensors", "mm_projector.safetensors"] {
        let work = Work::demo();
        rename(&work, name);
        work.succeeds(&[]);
        assert!(fs::read(work.output.join(name)).unwrap() == shard, "{name}: not the merged shard");
    }
    // What is not called as a file of tensors is, or has a name that the result needs, is refused.
    for name in [
        "shard1",
        "weights.dat",
        "tokenizer.json",
        "generation_config.json",
        "README.md",
        "shardfold.json",
        "shardfold.journal",
    ] {
        let work = Work::demo();
        rename(&work, name);
        let ran = work.merge(&[]);
        assert_eq!(ran.code, 65, "{}", ran.err);
        assert!(ran.err.contains(&format!("`{name}`")), "{}", ran.err);
        assert!(!work.output.exists());
    }
    let work = Work::demo();
    fs::create_dir(work.base.join("README.md")).unwrap();
    fs::write(work.base.join("README.md/x"), "x").unwrap();
    assert_eq!(work.merge(&[]).code, 65);
}

fn inputs() -> Memory {
    let store = Memory::new();
    for dir in ["base", "adapter"] {
        for (name, bytes) in contents(&fixtures().join("demo").join(dir)) {
            write_small(&store, &format!("work/{dir}/{name}"), &bytes).unwrap();
        }
    }
    store
}

fn merge(store: impl Store + 'static, start: &Barrier) -> shardfold::Result<&'static str> {
    let work = Location::new(store).join("work");
    let request = Request {
        base: Some(work.join("base").into()),
        adapters: vec![(work.join("adapter").into(), 1f64.into())],
        threads: Some(1),
        ..Request::default()
    };
    let prepared = prepare(&request)?;
    start.wait();
    let mut reporter = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    Ok(prepared.merge(&work.join("output"), reporter.as_mut())?.state)
}

#[test]
fn runs_without_locks_leave_one_whole_output() {
    let alone = inputs();
    merge(alone.clone(), &Barrier::new(1)).unwrap();
    let output = |store: &Memory| {
        let names = store.names().into_iter().filter(|name| name.starts_with("work/output/"));
        names.map(|name| (name.clone(), store.get(&name).unwrap())).collect::<Vec<_>>()
    };
    for round in 0..10 {
        let store = inputs();
        // What a live run may own: the name that all look for.
        write_small(&store, "work/output.partial/shardfold.journal", b"").unwrap();
        let start = Arc::new(Barrier::new(3));
        let runs: Vec<_> = (0..3)
            .map(|_| {
                let (store, start) = (Faulty::new(store.clone()).refusing_locks(), start.clone());
                thread::spawn(move || merge(store, &start))
            })
            .collect();
        let ends: Vec<_> = runs.into_iter().map(|run| run.join().unwrap()).collect();
        let done = ends.iter().filter(|end| matches!(end, Ok("done"))).count();
        assert_eq!(done, 1, "round {round}: {ends:?}");
        for end in &ends {
            assert!(
                end.as_ref().map_or_else(|error| error.exit_code() == Code::Output, |_| true),
                "{ends:?}"
            );
        }
        assert!(output(&store) == output(&alone), "round {round}: the output is not whole");
        let left: Vec<String> = store.names().into_iter().filter(|name| name.contains(".partial")).collect();
        assert_eq!(left, ["work/output.partial/shardfold.journal"], "round {round}");
    }
}

#[test]
fn why_an_output_cannot_be_made_is_told() {
    let work = Work::demo();
    let file = work.folder.path().join("file");
    fs::write(&file, "a file").unwrap();
    for (output, reason) in [
        (Path::new("ftp://host/merged"), "because it is a URL"),
        (Path::new("/proc/nothing/merged"), "because No such file or directory"),
        (&file.join("merged"), "hint: a part of the path is a file"),
    ] {
        let ran = work.merge_into(output, &[]);
        assert_eq!(ran.code, 73, "{}", ran.err);
        assert!(ran.err.contains("error: cannot create `") && ran.err.contains(reason), "{}", ran.err);
    }
}
