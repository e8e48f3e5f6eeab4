//! Merges that were cut off go on where they stopped, inside a shard too, whatever budget and threads the next run has.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use shardfold::testing::{Failure, Faulty, Operation, TestHooks};
use shardfold::{Cancel, Code, Folder, Location, Request, Result, Style, Summary, Terminal, choose, prepare};

use super::support::{contents, copy_folder, fixtures, quick_folder};

/// Cases with what may lie on both sides of a cut: reductions over rows and columns, blocks with scales, stacks of experts,
/// replaced and copied tensors, an untied head, a base in one file.
const CASES: [&str; 10] = [
    "dora-gpt2",
    "dora-sharded",
    "experts-two-adapters",
    "fp8-sharded-kept",
    "gpt-oss",
    "int4-sharded",
    "lokr-llama",
    "oft-llama",
    "tied-sharded",
    "vocabulary-saved",
];

/// A merge of a folder with a base and one or two adapters.
struct Merge {
    folder: tempfile::TempDir,
    is_kept_quantized: bool,
}

/// Tile buffers, threads, and bytes from one milestone to the next.
#[derive(Clone, Copy)]
struct Settings {
    forced: Option<(usize, usize)>,
    threads: usize,
    stride: Option<u64>,
}

const FIRST: Settings = Settings { forced: Some((16_384, 2)), threads: 2, stride: Some(1) };
const SECOND: Settings = Settings { forced: Some((36_864, 3)), threads: 1, stride: Some(40_000) };
const THIRD: Settings = Settings { forced: None, threads: 3, stride: None };

impl Merge {
    fn of(from: &Path) -> Merge {
        let folder = quick_folder();
        copy_folder(from, folder.path());
        Merge { folder, is_kept_quantized: from.to_string_lossy().ends_with("-kept") }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn request(&self, settings: Settings) -> Request {
        let adapters = ["adapter", "adapter-1", "adapter-2"].map(|name| self.at(name)).into_iter();
        Request {
            base: Some(self.at("base").into()),
            adapters: adapters.filter(|path| path.is_dir()).map(|path| (path.into(), 1f64.into())).collect(),
            threads: Some(settings.threads),
            keep_quantized: self.is_kept_quantized,
            hooks: TestHooks { forced: settings.forced, stride: settings.stride, ..TestHooks::default() },
            ..Request::default()
        }
    }

    fn run(&self, settings: Settings, output: &Location) -> Result<Summary> {
        let mut quiet = choose(Style::Quiet, Terminal::default(), &Cancel::default());
        prepare(&self.request(settings))?.merge(output, quiet.as_mut())
    }

    fn here(&self, settings: Settings, name: &str) -> Result<Summary> {
        self.run(settings, &Location::of_path(self.at(name)))
    }

    /// Runs until the `nth` sync of anything fails.
    fn cut_off(&self, settings: Settings, nth: u64) {
        let store =
            Faulty::new(Folder::new(self.folder.path())).failing(Operation::Sync, nth, Failure::Errno(5));
        let run = self.run(settings, &Location::new(store).join("output"));
        assert_eq!(run.expect_err("it fails").exit_code(), Code::Io);
    }

    /// Syncs of a whole run.
    fn syncs(&self, settings: Settings) -> u64 {
        let store = Faulty::new(Folder::new(self.folder.path()));
        self.run(settings, &Location::new(store.clone()).join("counted")).unwrap();
        fs::remove_dir_all(self.at("counted")).unwrap();
        store.count(Operation::Sync)
    }
}

/// Bytes of shards that the journal of an output says are kept.
fn claimed(merge: &Merge) -> u64 {
    let journal = fs::read_to_string(merge.at("output.partial/shardfold.journal")).unwrap_or_default();
    let lines = journal.lines().skip(2).map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (mut whole, mut part) = (0, 0);
    for line in lines {
        let bytes = |kind: &str| line[kind]["bytes"].as_u64();
        whole += bytes("shard").unwrap_or(0);
        part = bytes("part").unwrap_or(0);
    }
    whole + part
}

/// What a summary counted, without what depends on the run.
fn counted(summary: &Summary) -> Value {
    let mut applied = serde_json::to_value(&summary.applied).unwrap();
    // Sums of other tiles are rounded otherwise.
    let round = |value: &mut Value| {
        if let Some(number) = value.as_f64() {
            *value = format!("{number:.9e}").into();
        }
    };
    for list in ["adapters", "modules"] {
        for entry in applied[list].as_array_mut().into_iter().flatten() {
            entry.as_object_mut().unwrap().values_mut().for_each(round);
        }
    }
    applied
}

#[test]
fn a_shard_that_was_whole_and_not_recorded_yet_is_gone_on_with() {
    for case in ["dora-sharded", "dora-gpt2"] {
        let merge = Merge::of(&fixtures().join("golden").join(case));
        merge.here(THIRD, "whole").unwrap();
        let whole = contents(&merge.at("whole"));
        let mut unrecorded = 0;
        for nth in 1.. {
            // The journal is what is written behind a commit.
            let store = Faulty::new(Folder::new(merge.folder.path()));
            let store = store.failing(Operation::Write, nth, Failure::Errno(5));
            if merge.run(FIRST, &Location::new(store).join("output")).is_ok() {
                break;
            }
            let journal =
                fs::read_to_string(merge.at("output.partial/shardfold.journal")).unwrap_or_default();
            let there = whole.keys().filter(|name| name.ends_with(".safetensors"));
            let there = there.filter(|name| merge.at("output.partial").join(name).is_file()).count();
            unrecorded += usize::from(there > journal.matches("{\"shard\":").count());
            let claimed = claimed(&merge);
            let summary = merge.here(THIRD, "output").unwrap();
            assert!(summary.kept_bytes >= claimed, "{case}: less than {claimed} was kept behind write {nth}");
            assert!(contents(&merge.at("output")) == whole, "{case}: other bytes behind write {nth}");
            fs::remove_dir_all(merge.at("output")).unwrap();
        }
        assert!(unrecorded > 0, "{case}: no shard was whole and not recorded");
    }
}

#[test]
fn a_merge_goes_on_behind_every_milestone() {
    let mut points = 0;
    for case in CASES {
        let merge = Merge::of(&fixtures().join("golden").join(case));
        let expected = merge.here(THIRD, "whole").unwrap();
        let whole = contents(&merge.at("whole"));
        let syncs = merge.syncs(FIRST);
        let mut most_kept = 0;
        for nth in (3..syncs).step_by((syncs as usize / 7).max(1)) {
            merge.cut_off(FIRST, nth);
            assert!(!merge.at("output").exists());
            // Twice: the second run is cut off as well, a little later.
            if nth % 2 == 0 && nth + 9 < syncs {
                merge.cut_off(FIRST, 6);
            }
            let claimed = claimed(&merge);
            let summary = merge.here(if nth % 3 == 0 { SECOND } else { THIRD }, "output").unwrap();
            assert!(summary.kept_bytes >= claimed, "{case}: less than {claimed} was kept behind sync {nth}");
            assert!(contents(&merge.at("output")) == whole, "{case}: other bytes behind sync {nth}");
            assert_eq!(summary.state, "done");
            // Of a result that was whole and only not shown yet nothing is counted.
            let is_all = summary.kept_bytes == summary.output_bytes;
            if summary.applied.is_some() || !is_all {
                assert_eq!(counted(&summary), counted(&expected), "{case}: other counts behind sync {nth}");
            }
            assert!(!merge.at("output.partial").exists());
            most_kept = most_kept.max(summary.kept_bytes);
            fs::remove_dir_all(merge.at("output")).unwrap();
            points += 1;
        }
        assert!(2 * most_kept > expected.output_bytes, "{case}: at most {most_kept} bytes were kept");
    }
    println!("{points} cuts");
}

/// The demo, cut off when it has two shards and a half.
fn cut_off() -> (Merge, std::collections::BTreeMap<String, Vec<u8>>) {
    let merge = Merge::of(&fixtures().join("demo"));
    merge.here(THIRD, "whole").unwrap();
    let whole = contents(&merge.at("whole"));
    let settings = Settings { stride: Some(16_000), ..FIRST };
    merge.cut_off(settings, merge.syncs(settings) * 2 / 3);
    (merge, whole)
}

fn kept(merge: &Merge) -> (u64, String) {
    let mut command = super::support::command(&["merge", "--json"]);
    command.arg("--base").arg(merge.at("base")).arg("--adapter").arg(merge.at("adapter"));
    command.arg("--output").arg(merge.at("output"));
    let ran = super::support::ran(command.output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    (json["kept_bytes"].as_u64().unwrap(), ran.err)
}

#[test]
fn what_is_kept_is_told_and_hashed() {
    let (merge, whole) = cut_off();
    let (bytes, err) = kept(&merge);
    assert!(bytes > 120_000, "{bytes}");
    assert!(err.contains("\"event\":\"continuing\""), "{err}");
    assert!(contents(&merge.at("output")) == whole);
    // The open shard, a whole one, and one that is too short.
    let part = |merge: &Merge| {
        let names = fs::read_dir(merge.at("output.partial")).unwrap().map(|entry| entry.unwrap().path());
        names
            .into_iter()
            .find(|path| path.extension().is_some_and(|end| end == "part"))
            .expect("an open shard")
    };
    let first = |merge: &Merge| merge.at("output.partial/model-00001-of-00003.safetensors");
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[9_000] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let cut = |path: &Path| fs::File::options().write(true).open(path).unwrap().set_len(10_000).unwrap();
    let damages: [&dyn Fn(&Merge); 4] =
        [&|merge| flip(&part(merge)), &|merge| flip(&first(merge)), &|merge| cut(&part(merge)), &|merge| {
            fs::remove_file(first(merge)).unwrap()
        }];
    for (i, damage) in damages.into_iter().enumerate() {
        let (merge, whole) = cut_off();
        damage(&merge);
        let (less, err) = kept(&merge);
        assert!(less < bytes, "damage {i}: {less} of {bytes}");
        assert!(err.contains("is not what an interrupted run of this merge left: made again"), "{err}");
        assert!(contents(&merge.at("output")) == whole, "damage {i}");
    }
}

#[test]
fn a_trusted_journal_saves_reading_what_was_left() {
    let (merge, whole) = cut_off();
    let mut quiet = choose(Style::Quiet, Terminal::default(), &Cancel::default());
    let request = Request { trust_journal: true, ..merge.request(THIRD) };
    let output = Location::of_path(merge.at("output"));
    // Its length is enough: what is wrong in it stays.
    let first = merge.at("output.partial/model-00001-of-00003.safetensors");
    let mut bytes = fs::read(&first).unwrap();
    bytes[9_000] ^= 1;
    fs::write(&first, &bytes).unwrap();
    let summary = prepare(&request).unwrap().merge(&output, quiet.as_mut()).unwrap();
    assert!(summary.kept_bytes > 120_000);
    let found = contents(&merge.at("output"));
    for (name, expected) in &whole {
        assert_eq!(found[name] == *expected, name != "model-00001-of-00003.safetensors", "{name}");
    }
}

#[test]
fn a_torn_line_and_what_is_behind_it_are_not_there() {
    let (merge, whole) = cut_off();
    let journal = merge.at("output.partial/shardfold.journal");
    let text = fs::read_to_string(&journal).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() > 6, "{text}");
    for cut in [text.len() - 1, text.len() - 40, lines[0].len() + 10, lines[0].len() + lines[1].len() + 9] {
        let (merge, whole) = cut_off();
        fs::write(merge.at("output.partial/shardfold.journal"), &text[..cut]).unwrap();
        // It is another run's journal by its times: nothing of it serves, and nothing breaks.
        kept(&merge);
        assert!(contents(&merge.at("output")) == whole);
    }
    fs::write(&journal, &text[..text.len() - 1]).unwrap();
    let (most, _) = kept(&merge);
    assert!(most > 100_000, "{most}");
    assert!(contents(&merge.at("output")) == whole);
    // Lines that no run of this plan wrote.
    for (from, to) in
        [("\"row\":", "\"row\":1"), ("\"bytes\":", "\"bytes\":9"), ("model-00001", "model-0000x")]
    {
        let (merge, whole) = cut_off();
        let journal = merge.at("output.partial/shardfold.journal");
        let text = fs::read_to_string(&journal).unwrap();
        let begin = text.match_indices('\n').nth(1).unwrap().0;
        fs::write(&journal, format!("{}{}", &text[..begin], text[begin..].replace(from, to))).unwrap();
        kept(&merge);
        assert!(contents(&merge.at("output")) == whole, "{from}");
    }
}

#[test]
fn a_base_that_changed_meanwhile_starts_over() {
    let (merge, whole) = cut_off();
    let shard = merge.at("base/model-00002-of-00003.safetensors");
    // The same bytes, written again.
    fs::write(&shard, fs::read(&shard).unwrap()).unwrap();
    let (bytes, err) = kept(&merge);
    assert_eq!(bytes, 0);
    assert!(err.contains("the base is not what it was when a merge into"), "{err}");
    assert!(contents(&merge.at("output")) == whole);
}

#[test]
fn a_result_that_was_whole_and_not_yet_shown_is_shown() {
    let (merge, whole) = cut_off();
    kept(&merge);
    let output = merge.at("output");
    fs::rename(&output, merge.at("output.partial")).unwrap();
    let all: u64 =
        whole.iter().filter(|(name, _)| name.ends_with(".safetensors")).map(|(_, b)| b.len() as u64).sum();
    assert_eq!(kept(&merge).0, all);
    assert!(contents(&output) == whole);
}

#[test]
fn another_merge_is_told_what_differs() {
    let (merge, _) = cut_off();
    let mut command = super::support::command(&["merge", "--base"]);
    command.arg(merge.at("base")).arg("--scaled-adapter").arg(merge.at("adapter")).arg("0.5");
    let ran = super::support::ran(command.arg("--output").arg(merge.at("output")).output().unwrap());
    assert_eq!(ran.code, 73, "{}", ran.err);
    let text = "it was begun by a merge of other inputs (its adapter `adapter` has weight 1, here 0.5)";
    assert!(ran.err.contains(text), "{}", ran.err);
    assert!(merge.at("output.partial/model-00001-of-00003.safetensors").exists());
}
