//! Merges that end at any call, in each way of publishing, and outputs on stores that refuse what others have.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::{Ran, command, contents, copy_folder, fixtures, quick_folder, ran};
use super::work::{Mounted, Work};

/// A merge in a folder of its own, of a base in two shards.
struct Case {
    folder: tempfile::TempDir,
    /// Where journals are kept that are not in the output.
    state: PathBuf,
    flags: &'static [&'static str],
    expected: BTreeMap<String, Vec<u8>>,
    base: BTreeMap<String, Vec<u8>>,
}

impl Case {
    fn new(flags: &'static [&'static str]) -> Case {
        let folder = quick_folder();
        copy_folder(&fixtures().join("golden/dora-sharded"), folder.path());
        let state = folder.path().join("state");
        let mut case = Case { folder, state, flags, expected: BTreeMap::new(), base: BTreeMap::new() };
        assert_eq!(case.run("expected", &[]).code, 0);
        case.expected = contents(&case.folder.path().join("expected"));
        case.base = contents(&case.folder.path().join("base"));
        case
    }

    fn run(&self, output: &str, flags: &[&str]) -> Ran {
        let at = |name: &str| self.folder.path().join(name);
        let mut command = command(&["merge", "--base"]);
        command
            .arg(at("base"))
            .arg("--adapter")
            .arg(at("adapter"))
            .arg("--output")
            .arg(at(output))
            .args(flags);
        ran(command.env("XDG_STATE_HOME", &self.state).output().unwrap())
    }

    /// Aborts at every call, runs again, and returns how many calls there were.
    fn abort_everywhere(&self, output: &str) -> u64 {
        let path = self.folder.path().join(output);
        for nth in 1.. {
            let nth_text = nth.to_string();
            let cut = ["--abort-at", &nth_text, "--slab", "16KiB", "--depth", "2", "--stride", "1KiB"];
            let first = self.run(output, &[&cut, self.flags].concat());
            let is_whole = |files: &BTreeMap<String, Vec<u8>>| *files == self.expected;
            if first.code == 0 {
                assert!(is_whole(&contents(&path)));
                return nth - 1;
            }
            assert_eq!(first.code, -1, "{}", first.err);
            let threads = if nth % 2 == 0 { "1" } else { "3" };
            let second = self.run(output, &[&["--threads", threads], self.flags].concat());
            assert_eq!(second.code, 0, "behind call {nth}: {}", second.err);
            assert!(is_whole(&contents(&path)), "other files behind call {nth}");
            assert!(
                contents(&self.folder.path().join("base")) == self.base,
                "the base changed at call {nth}"
            );
            self.clear(&path);
        }
        0
    }

    /// Empties the output, which may be a mount point, and removes what is beside it.
    fn clear(&self, path: &Path) {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() { fs::remove_dir_all(entry).unwrap() } else { fs::remove_file(entry).unwrap() }
        }
        let _ = fs::remove_dir(path);
        let beside = path.with_extension("partial");
        assert!(!beside.exists(), "{} is left", beside.display());
    }
}

#[test]
fn a_process_may_end_at_any_call() {
    let renamed = Case::new(&[]).abort_everywhere("output");
    let in_place = Case::new(&["--refuse-renames"]).abort_everywhere("output");
    println!("renamed: {renamed} calls; in place: {in_place}");
    assert!(renamed > 40 && in_place > 30, "{renamed} and {in_place} calls");
}

#[test]
fn a_process_may_end_while_a_mounted_output_is_filled() {
    let case = Case::new(&[]);
    let output = case.folder.path().join("mounted");
    fs::create_dir(&output).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&output, 16 << 20) else {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    };
    let moved = case.abort_everywhere("mounted");
    println!("moved into a mount point: {moved} calls");
}

/// Where renames are refused and no journal can be kept, nobody can tell what a process that ended left: it is never taken
/// for a result, and what the hint says makes the same command work again.
#[test]
fn a_process_may_end_at_any_call_without_a_journal() {
    let mut case = Case::new(&["--refuse-renames"]);
    case.state = PathBuf::from("/dev/null/state");
    let path = case.folder.path().join("output");
    let (mut refused, mut went_on) = (0, 0);
    for nth in 1.. {
        let nth_text = nth.to_string();
        let first = case.run("output", &[&["--abort-at", &nth_text], case.flags].concat());
        if first.code == 0 {
            break;
        }
        assert_eq!(first.code, -1, "{}", first.err);
        let left = contents_or_none(&path);
        let mut second = case.run("output", case.flags);
        if second.code == 73 {
            refused += 1;
            for text in ["is not the result of this merge; nothing was changed", "or remove them"] {
                assert!(second.err.contains(text), "behind call {nth}: no `{text}` in {}", second.err);
            }
            assert!(contents(&path) == left, "behind call {nth}: something was changed");
            left.keys().for_each(|name| fs::remove_file(path.join(name)).unwrap());
            second = case.run("output", case.flags);
        } else {
            went_on += 1;
        }
        assert_eq!(second.code, 0, "behind call {nth}: {}", second.err);
        assert!(contents(&path) == case.expected, "other files behind call {nth}");
        case.clear(&path);
    }
    println!("without a journal: {refused} ends were refused and cured, {went_on} needed no cure");
    assert!(refused > 10 && went_on > 10, "{refused} and {went_on}");
}

/// The files of a folder, none where it is not there.
fn contents_or_none(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    if folder.exists() { contents(folder) } else { BTreeMap::new() }
}

#[test]
fn an_output_without_renames_is_written_in_place_and_gone_on_with() {
    let case = Case::new(&["--refuse-renames"]);
    let output = case.folder.path().join("output");
    let note = "files cannot be renamed or synced in `";
    let first = case.run("output", &["--refuse-renames", "--json"]);
    assert!(first.code == 0 && first.err.contains(note), "{}", first.err);
    assert!(contents(&output) == case.expected);
    assert_eq!(contents(&case.folder.path().join("state")).len(), 0, "the journal is gone");
    // Found again, and other merges and other files are safe from it.
    let again = case.run("output", &["--refuse-renames"]);
    assert!(again.code == 0 && again.out.contains("already done"), "{}", again.err);
    fs::remove_file(output.join("shardfold.json")).unwrap();
    assert_eq!(case.run("output", &["--refuse-renames"]).code, 73);
    fs::remove_dir_all(&output).unwrap();
    // Cut off behind its first shard: that is kept.
    let mut kept = 0;
    for nth in 10.. {
        let nth = nth.to_string();
        let first = case.run("output", &["--refuse-renames", "--abort-at", &nth]);
        if first.code == 0 {
            break;
        }
        // Under its own name a record may be cut short; a whole one says that all is there.
        let record = fs::read(output.join("shardfold.json")).unwrap_or_default();
        let is_whole = serde_json::from_slice::<Value>(&record).is_ok();
        assert!(!is_whole || contents(&output) == case.expected, "behind call {nth}");
        if fs::read_dir(&output).is_ok() && nth == "14" {
            // What somebody else put there is not touched.
            fs::write(output.join("thesis.txt"), "years of work").unwrap();
            assert_eq!(case.run("output", &["--refuse-renames"]).code, 73);
            fs::remove_file(output.join("thesis.txt")).unwrap();
        }
        let second = case.run("output", &["--refuse-renames", "--json"]);
        assert_eq!(second.code, 0, "{}", second.err);
        let json: Value = serde_json::from_str(&second.out).unwrap();
        kept = kept.max(json["kept_bytes"].as_u64().unwrap());
        assert!(contents(&output) == case.expected, "behind call {nth}");
        fs::remove_dir_all(&output).unwrap();
    }
    assert!(kept > 0, "nothing was kept");
}

#[test]
fn a_result_that_is_refused_leaves_the_output_as_it_was() {
    let case = Case::new(&[]);
    let base = case.folder.path().join("base");
    fs::create_dir_all(base.join("1_Pooling/deep")).unwrap();
    fs::write(base.join("1_Pooling/deep/config.json"), "{}").unwrap();
    let output = case.folder.path().join("output");
    let expect = ["--expect", &"0".repeat(64)];
    for flags in [&["--refuse-renames"][..], &[]] {
        let ran = case.run("output", &[flags, &expect].concat());
        assert!(ran.code != 0 && ran.err.contains("expect"), "{}", ran.err);
        assert!(!output.exists(), "{flags:?}");
        fs::create_dir(&output).unwrap();
        assert_ne!(case.run("output", &[flags, &expect].concat()).code, 0);
        assert_eq!(fs::read_dir(&output).unwrap().count(), 0, "{flags:?}");
        fs::remove_dir(&output).unwrap();
    }
}

#[test]
fn a_staging_directory_of_somebody_else_is_refused() {
    let work = Work::demo();
    let theirs = work.folder.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    symlink(&theirs, work.partial()).unwrap();
    let ran = work.merge(&[]);
    assert_eq!(ran.code, 73, "{}", ran.err);
    assert!(
        ran.err.contains("output.partial` is a link or has one in it, or belongs to another user"),
        "{}",
        ran.err
    );
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
    // Of another user, where this one can give files away.
    fs::remove_file(work.partial()).unwrap();
    fs::create_dir(work.partial()).unwrap();
    if std::os::unix::fs::chown(work.partial(), Some(12_345), None).is_ok() {
        assert_eq!(work.merge(&[]).code, 73);
        assert_eq!(fs::read_dir(work.partial()).unwrap().count(), 0);
    }
}
