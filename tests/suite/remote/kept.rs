//! `--cache`: what is read of the hub is in its cache afterwards, as the hub's own tools lay it out, whatever happens meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};
use shardfold::testing::git_blob_name;

use super::server::{BytesFault, Faults, LFS_FROM, LoopbackHub};
use super::{COMMIT, Remote, assert_same, without_record};
use crate::support::{contents, copy_folder, fixtures, quick_folder, ran};

const KEPT: [&str; 6] = ["merge", "--base", "shardfold/base", "--adapter", "shardfold/adapter", "--cache"];

impl Remote {
    /// The directory of a repository in the cache.
    fn cached(&self, name: &str) -> PathBuf {
        self.at(&format!("home/hub/models--shardfold--{name}"))
    }

    fn keep(&self, output: &str) -> super::Ran {
        self.run(&[&KEPT[..], &["-o", output]].concat())
    }

    fn kept(&self, output: &str) {
        let ran = self.keep(output);
        assert_eq!(ran.code, 0, "{}", ran.err);
    }

    fn begin_keeping(&self, output: &str) -> Child {
        let mut command = self.command(&[&KEPT[..], &["-o", output]].concat());
        command.env("HF_HUB_DOWNLOAD_TIMEOUT", "60").stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Names and lengths of what is in `blobs`.
    fn blobs(&self, name: &str) -> Vec<(String, u64)> {
        let Ok(all) = fs::read_dir(self.cached(name).join("blobs")) else { return Vec::new() };
        let mut all: Vec<_> = all
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
            .collect();
        all.sort();
        all
    }

    /// Fails unless the cache has all of a repository that is in `dir`, as the hub's tools lay it out, and nothing else.
    fn assert_cached(&self, name: &str, dir: &Path) {
        let mut blobs = BTreeSet::new();
        for (file, bytes) in contents(dir) {
            let is_large = bytes.len() as u64 >= LFS_FROM;
            let hash = if is_large { sha256(&bytes) } else { git_blob_name(&bytes) };
            let link = self.cached(name).join("snapshots").join(COMMIT).join(&file);
            let up = "../".repeat(file.matches('/').count());
            assert_eq!(
                fs::read_link(&link).unwrap(),
                Path::new(&format!("../../{up}blobs/{hash}")),
                "{file}"
            );
            assert!(fs::read(&link).unwrap() == bytes, "{file}");
            blobs.insert((hash, bytes.len() as u64));
        }
        assert_eq!(self.blobs(name), blobs.into_iter().collect::<Vec<_>>());
        assert_eq!(fs::read_to_string(self.cached(name).join("refs/main")).unwrap(), COMMIT);
        let mut names: Vec<_> =
            fs::read_dir(self.cached(name)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["blobs", "refs", "snapshots"]);
        let links = contents(&self.cached(name).join("snapshots").join(COMMIT));
        assert!(links.keys().eq(contents(dir).keys()), "{:?}", links.keys());
    }

    /// Requests for the bytes of a file of the base.
    fn requests(&self, file: &str) -> Vec<Option<(u64, u64)>> {
        let seen = self
            .hub
            .seen()
            .into_iter()
            .filter(|seen| seen.path.contains(file) && !seen.path.contains("/api/"));
        seen.filter(|seen| seen.is_second).map(|seen| seen.range).collect()
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until something is so.
fn until(what: &str, is: impl Fn() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_copy_is_laid_out_as_the_hubs_tools_do_and_is_read_without_the_hub() {
    let remote = Remote::demo();
    let demo = fixtures().join("demo");
    let expected = remote.merged_from_disk(&demo);
    let ran = remote.keep("merged");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let says = format!("fetching `shardfold/base@{COMMIT}` into the Hugging Face cache: ");
    assert!(ran.err.contains(&says) && !ran.err.contains("no copy of it is kept"), "{}", ran.err);
    assert_same(contents(&remote.at("merged")), &expected, "demo");
    remote.assert_cached("base", &demo.join("base"));
    remote.assert_cached("adapter", &demo.join("adapter"));
    // Whoever asks again asks the cache alone, with the flag and without.
    let requests = remote.hub.seen().len();
    for flags in [&["--cache"][..], &[]] {
        let args = ["plan", "--base", "shardfold/base", "--adapter", "shardfold/adapter"];
        let ran = remote.run(&[&args[..], flags].concat());
        assert!(ran.code == 0 && !ran.err.contains("fetching"), "{}", ran.err);
    }
    assert_eq!(remote.hub.seen().len(), requests);
    // As from disk, it is the same merge.
    let ran = remote.merge("merged");
    assert!(ran.code == 0 && ran.out.contains("already done"), "{}{}", ran.out, ran.err);
}

#[test]
fn every_command_that_has_inputs_keeps_them_and_shows_how_far_it_is() {
    let inputs = ["--base", "shardfold/base", "--adapter", "shardfold/adapter"];
    let merged = Remote::demo();
    merged.kept("merged");
    for command in [&["plan"][..], &["verify", "merged"], &["report", "merged", "-o", "page.html"]] {
        let remote = Remote::demo();
        copy_folder(&merged.at("merged"), &remote.at("merged"));
        let mut run = remote.command(&[command, &inputs].concat());
        let ran = ran(run.env("SHARDFOLD_CACHE", "1").output().unwrap());
        assert_eq!(ran.code, 0, "{command:?}: {}", ran.err);
        remote.assert_cached("base", &fixtures().join("demo/base"));
    }
    let remote = Remote::demo();
    let ran = remote.run(&[&["plan", "--json", "--cache"][..], &inputs].concat());
    let events = ran.err.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let begun: Vec<Value> = events.filter(|event| event["event"] == "fetching").collect();
    let bytes: u64 = contents(&fixtures().join("demo/base")).values().map(|bytes| bytes.len() as u64).sum();
    assert_eq!((begun.len(), begun[0]["total_bytes"].as_u64()), (2, Some(bytes)), "{}", ran.err);
}

#[test]
fn a_server_that_fails_now_and_then_changes_nothing() {
    let expected = Remote::demo().merged_from_disk(&fixtures().join("demo"));
    let faults = [
        Faults { percent: Some((5, 1)), ..Faults::default() },
        Faults { percent: Some((30, 2)), ..Faults::default() },
        Faults { bytes: BytesFault::EndsAfter(20_000), ..Faults::default() },
        Faults { bytes: BytesFault::Slow, ..Faults::default() },
        Faults { signed_uses: Some(1), ..Faults::default() },
        Faults { stalls: 3, ..Faults::default() },
    ];
    for (i, faults) in faults.into_iter().enumerate() {
        let remote = Remote::demo().failing(faults);
        remote.kept("merged");
        assert_same(contents(&remote.at("merged")), &expected, &format!("fault {i}"));
        remote.assert_cached("base", &fixtures().join("demo/base"));
    }
}

#[test]
fn a_download_that_was_killed_shows_no_blob_and_goes_on_where_it_stopped() {
    let remote = Remote::demo();
    let shard = "model-00001-of-00003.safetensors";
    let bytes = fs::read(fixtures().join("demo/base").join(shard)).unwrap();
    let hash = sha256(&bytes);
    for (signal, came) in [("KILL", 66_000), ("TERM", 30_000)] {
        remote.hub.set_faults(Faults { bytes: BytesFault::StallsAfter(came), ..Faults::default() });
        let before = remote.requests(shard).len();
        let mut child = remote.begin_keeping("merged");
        until("a shard comes", || remote.requests(shard).len() > before);
        sleep(Duration::from_millis(300));
        let stopped = Instant::now();
        let id = child.id().to_string();
        assert!(std::process::Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let status = child.wait().unwrap();
        assert_eq!(status.code(), if signal == "TERM" { Some(75) } else { None });
        assert!(stopped.elapsed() < Duration::from_secs(2), "{:?}", stopped.elapsed());
        assert!(!remote.blobs("base").iter().any(|(name, _)| *name == hash), "{:?}", remote.blobs("base"));
        for part in ["snapshots", "refs"] {
            assert!(!remote.cached("base").join(part).exists(), "{part} is made last");
        }
        assert!(!remote.at("merged").exists());
    }
    let part = (format!("{hash}.incomplete"), 0);
    let found =
        remote.blobs("base").into_iter().find(|(name, _)| *name == part.0).expect("what came is kept");
    assert!(found.1 > 66_000 && found.1 < bytes.len() as u64, "both runs added to it: {found:?}");
    remote.hub.set_faults(Faults::default());
    let before = remote.requests(shard).len();
    remote.kept("merged");
    let asked = &remote.requests(shard)[before..];
    assert_eq!(asked, [Some((found.1, bytes.len() as u64 - 1))], "it goes on behind what came");
    remote.assert_cached("base", &fixtures().join("demo/base"));
}

#[test]
fn bytes_that_are_not_the_hubs_are_refused_by_name_and_not_kept() {
    let remote = Remote::demo().failing(Faults { bytes: BytesFault::OtherByte("", 10), ..Faults::default() });
    let args = [&KEPT[..], &["-o", "merged"]].concat();
    remote.refused(
        &args,
        74,
        &["`shardfold/base@1a2b3c4d5e6f/", "came with other bytes than the hub lists: its git's SHA-1 is `"],
    );
    assert_eq!(remote.blobs("base"), []);
    // A part that an earlier run left, and that is damaged, is not gone on with twice.
    let remote = Remote::demo();
    let shard = fs::read(fixtures().join("demo/base/model-00002-of-00003.safetensors")).unwrap();
    let blobs = remote.cached("base").join("blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{}.incomplete", sha256(&shard)));
    fs::write(&part, vec![7; 1000]).unwrap();
    let says = [
        "model-00002-of-00003.safetensors` came with other bytes",
        "its SHA-256 is `",
        "run the same command again",
    ];
    remote.refused(&args, 74, &says);
    assert!(!part.exists() && !blobs.join(sha256(&shard)).exists());
    remote.kept("merged");
    remote.assert_cached("base", &fixtures().join("demo/base"));
    // A blob that was cut is no blob.
    let blob = blobs.join(sha256(&shard));
    fs::write(&blob, &shard[..1000]).unwrap();
    fs::remove_file(
        remote.cached("base").join("snapshots").join(COMMIT).join("model-00001-of-00003.safetensors"),
    )
    .unwrap();
    remote.kept("merged-again");
    remote.assert_cached("base", &fixtures().join("demo/base"));
}

#[test]
fn a_snapshot_that_lacks_a_shard_is_completed() {
    let remote = Remote::demo();
    remote.kept("merged");
    let shard = "model-00003-of-00003.safetensors";
    let link = remote.cached("base").join("snapshots").join(COMMIT).join(shard);
    let before = remote.requests("safetensors").len();
    fs::remove_file(&link).unwrap();
    remote.kept("again");
    assert_eq!(remote.requests("safetensors").len(), before, "its blob is there");
    fs::remove_file(fs::canonicalize(&link).unwrap()).unwrap();
    fs::remove_file(&link).unwrap();
    remote.kept("and-again");
    assert_eq!(remote.requests("safetensors").len(), before + 1);
    assert_eq!(remote.requests(shard).len(), 2);
    remote.assert_cached("base", &fixtures().join("demo/base"));
}

#[test]
fn a_repository_as_programs_leave_it_that_wanted_the_config_alone_is_completed() {
    let remote = Remote::demo();
    let repository = remote.cached("base");
    let snapshot = repository.join("snapshots").join(COMMIT);
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(repository.join("refs")).unwrap();
    fs::write(repository.join("refs/main"), COMMIT).unwrap();
    // Where there are no links, the file itself is there: it is left alone.
    fs::copy(fixtures().join("demo/base/config.json"), snapshot.join("config.json")).unwrap();
    remote.kept("merged");
    assert!(fs::symlink_metadata(snapshot.join("config.json")).unwrap().is_file());
    let names = contents(&fixtures().join("demo/base"));
    assert!(contents(&snapshot) == names);
}

#[test]
fn two_runs_at_once_do_each_other_no_harm_and_fetch_each_file_once() {
    let remote = Remote::demo().failing(Faults { bytes: BytesFault::Slow, ..Faults::default() });
    let mut runs = ["one", "other"].map(|output| remote.begin_keeping(output));
    for run in &mut runs {
        assert!(run.wait().unwrap().success());
    }
    remote.assert_cached("base", &fixtures().join("demo/base"));
    let [one, other] = ["one", "other"].map(|output| without_record(contents(&remote.at(output))));
    assert!(one == other);
    for shard in ["model-00001-of-00003", "model-00002-of-00003", "model-00003-of-00003"] {
        assert_eq!(remote.requests(shard).len(), 1, "{shard}");
    }
}

#[test]
fn a_directory_of_a_repository_is_kept_alone() {
    let dir = quick_folder();
    copy_folder(&fixtures().join("demo/base"), &dir.path().join("part"));
    copy_folder(&fixtures().join("demo/base"), &dir.path().join("other"));
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    let remote = Remote::demo();
    remote.hub.add("shardfold/several", COMMIT, dir.path());
    let args = ["merge", "--base", "shardfold/several/part", "--adapter", "shardfold/adapter", "--cache"];
    let ran = remote.run(&[&args[..], &["-o", "merged"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let snapshot = remote.cached("several").join("snapshots").join(COMMIT);
    assert!(contents(&snapshot.join("part")) == contents(&fixtures().join("demo/base")));
    let found = fs::read_dir(&snapshot).unwrap().count();
    assert_eq!(found, 1, "nothing else of it");
}

#[test]
fn what_no_merge_reads_is_not_fetched() {
    let dir = quick_folder();
    copy_folder(&fixtures().join("demo/base"), dir.path());
    for name in ["pytorch_model.bin", "model.gguf", "original/consolidated.00.pth"] {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, [7; 5000]).unwrap();
    }
    let remote = Remote::demo();
    let expected = remote.merged_from_disk(&fixtures().join("demo"));
    remote.hub.add("shardfold/base", COMMIT, dir.path());
    remote.kept("merged");
    assert_same(contents(&remote.at("merged")), &expected, "demo");
    remote.assert_cached("base", &fixtures().join("demo/base"));
    // Where there is nothing that a merge reads, nothing is fetched, and it is refused as ever.
    fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    for shard in 1..4 {
        fs::remove_file(dir.path().join(format!("model-0000{shard}-of-00003.safetensors"))).unwrap();
    }
    for name in ["model.gguf", "pytorch_model.bin"] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    remote.hub.add("shardfold/pickles", COMMIT, dir.path());
    let args = ["plan", "--base", "shardfold/pickles", "--adapter", "shardfold/adapter", "--cache"];
    let ran = remote.run(&args);
    assert!(
        ran.code != 0 && ran.err.contains("no safetensors checkpoint at `shardfold/pickles@"),
        "{}",
        ran.err
    );
    assert!(!remote.cached("pickles").exists());
}

#[test]
fn a_disk_without_room_is_told_before_the_first_byte() {
    let dir = quick_folder();
    copy_folder(&fixtures().join("demo/base"), dir.path());
    // Nothing but its length is there.
    fs::File::create(dir.path().join("model.safetensors")).unwrap().set_len(1 << 50).unwrap();
    let remote = Remote::demo();
    remote.hub.add("shardfold/base", COMMIT, dir.path());
    let says = [
        "home/hub/models--shardfold--base` has room for ",
        "and 1 PiB of `shardfold/base` are to come",
        "without `--cache`",
    ];
    remote.refused(&[&KEPT[..], &["-o", "merged"]].concat(), 74, &says);
    let base = dir.path().to_str().unwrap();
    assert!(remote.requests(base).is_empty() && remote.blobs("base").is_empty());
}

#[test]
fn without_a_network_what_is_not_there_is_refused_with_the_reason() {
    let remote = Remote::demo();
    let mut run = remote.command(&[&KEPT[..], &["-o", "merged"]].concat());
    let ran = ran(run.env("HF_HUB_OFFLINE", "1").output().unwrap());
    assert_eq!(ran.code, 66, "{}", ran.err);
    for says in [
        "`shardfold/base` is neither a directory nor a model in the Hugging Face cache",
        "so that `--cache` fetches nothing: unset it where there is a network",
    ] {
        assert!(ran.err.contains(says), "{}", ran.err);
    }
    assert!(remote.hub.seen().is_empty() && remote.names().is_empty(), "{:?}", remote.names());
}

#[test]
fn a_branch_and_a_commit_are_found_again_by_their_names() {
    let hub = LoopbackHub::new();
    hub.add("shardfold/base", COMMIT, &fixtures().join("demo/base"));
    hub.add("shardfold/adapter", COMMIT, &fixtures().join("demo/adapter"));
    hub.set_revision("shardfold/base", "refs/pr/1", COMMIT);
    let remote = Remote { hub, folder: quick_folder() };
    for (base, reference) in [
        (format!("shardfold/base@{COMMIT}"), None),
        ("shardfold/base@refs/pr/1".to_owned(), Some("refs/refs/pr/1")),
    ] {
        let args = ["plan", "--base", &base, "--adapter", "shardfold/adapter", "--cache"];
        let ran = remote.run(&args);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let refs = remote.cached("base").join("refs");
        assert_eq!(refs.exists(), reference.is_some(), "a commit needs no ref");
        if let Some(reference) = reference {
            assert_eq!(fs::read_to_string(remote.cached("base").join(reference)).unwrap(), COMMIT);
        }
        let requests = remote.hub.seen().len();
        assert_eq!(remote.run(&args).code, 0);
        assert_eq!(remote.hub.seen().len(), requests);
    }
}
