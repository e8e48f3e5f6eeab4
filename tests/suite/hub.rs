//! A name alone: bases and adapters found in the local cache of the Hugging Face hub.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::support::{Ran, command, contents, copy_folder, fixtures, folder, ran};

const COMMIT: &str = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d";
const OTHER: &str = "1a2b999999999999999999999999999999999999";

/// A cache that holds the demo as `shardfold/demo` and `shardfold/style`, made of symlinks as the hub's tools make them.
struct Cache {
    folder: tempfile::TempDir,
}

impl Cache {
    fn demo() -> Cache {
        let cache = Cache { folder: folder() };
        cache.add("demo", COMMIT, &fixtures().join("demo/base"));
        cache.add("style", COMMIT, &fixtures().join("demo/adapter"));
        cache.set_ref("demo", "main", COMMIT);
        cache.set_ref("style", "main", COMMIT);
        cache
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.folder.path().join("home/hub").join(format!("models--shardfold--{name}"))
    }

    fn snapshot(&self, name: &str) -> PathBuf {
        self.repository(name).join("snapshots").join(COMMIT)
    }

    fn add(&self, name: &str, commit: &str, from: &Path) {
        let blobs = self.repository(name).join("blobs");
        let snapshot = self.repository(name).join("snapshots").join(commit);
        fs::create_dir_all(&blobs).unwrap();
        fs::create_dir_all(&snapshot).unwrap();
        for (i, (file, bytes)) in contents(from).into_iter().enumerate() {
            fs::write(blobs.join(format!("{commit}{i}")), bytes).unwrap();
            symlink(format!("../../blobs/{commit}{i}"), snapshot.join(file)).unwrap();
        }
    }

    fn set_ref(&self, name: &str, revision: &str, content: &str) {
        let path = self.repository(name).join("refs").join(revision);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Changes the config of `style`.
    fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.snapshot("style").join("adapter_config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, config.to_string()).unwrap();
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = command(args);
        command.env_remove("HF_HUB_CACHE").env_remove("HUGGINGFACE_HUB_CACHE");
        command.env("HF_HOME", self.folder.path().join("home")).current_dir(self.folder.path());
        ran(command.output().expect("the binary starts"))
    }

    fn done(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran
    }

    fn refused(&self, args: &[&str], code: i32, says: &[&str]) {
        let ran = self.run(args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.err);
        for part in says {
            assert!(ran.err.contains(part), "no `{part}` in\n{}", ran.err);
        }
        assert!(!self.folder.path().join("out").exists());
    }

    fn output(&self, name: &str) -> std::collections::BTreeMap<String, Vec<u8>> {
        contents(&self.folder.path().join(name))
    }
}

const BY_NAMES: &[&str] =
    &["merge", "--base", "shardfold/demo", "--adapter", "shardfold/style", "--output", "out"];

#[test]
fn names_merge_as_their_folders_do_wherever_the_cache_is() {
    let (cache, elsewhere) = (Cache::demo(), Cache::demo());
    cache.done(BY_NAMES);
    elsewhere.done(BY_NAMES);
    let out = cache.output("out");
    assert_eq!(out, elsewhere.output("out"));
    let text: String = out.values().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect();
    assert!(!text.contains(&*cache.folder.path().to_string_lossy()));
    assert!(String::from_utf8_lossy(&out["README.md"]).contains("| shardfold/style | LORA | 1 |"));

    let demo = fixtures().join("demo");
    let (base, adapter) = (demo.join("base"), demo.join("adapter"));
    let paths = [base.to_str().unwrap(), adapter.to_str().unwrap()];
    cache.done(&["merge", "--base", paths[0], "--adapter", paths[1], "--output", "by-paths"]);
    let by_paths = cache.output("by-paths");
    let shards = || out.keys().filter(|name| name.ends_with(".safetensors"));
    assert_eq!(shards().count(), 3);
    assert!(shards().all(|name| out[name] == by_paths[name]));
    // The same command again finds its result; a weight takes a name as well.
    assert!(cache.done(BY_NAMES).out.contains("already done"));
    let scaled =
        ["plan", "--base", "shardfold/demo@main", "--scaled-adapter", "shardfold/style@1a2b", "-0.5"];
    assert!(cache.done(&scaled).out.contains("shardfold/style"));
}

#[test]
fn a_base_left_out_is_the_one_that_the_adapter_names() {
    let cache = Cache::demo();
    let args = ["merge", "--adapter", "shardfold/style", "--output", "out"];
    let said = cache.done(&args).err;
    let notice =
        format!("note: base: `shardfold/demo@{COMMIT}` (from adapter_config.json of `shardfold/style`)\n");
    assert!(said.contains(&notice), "{said}");
    let left_out = cache.output("out");
    fs::remove_dir_all(cache.folder.path().join("out")).unwrap();
    cache.done(BY_NAMES);
    assert_eq!(left_out, cache.output("out"));
    fs::remove_dir_all(cache.folder.path().join("out")).unwrap();

    // A folder by that name wins; a revision is followed.
    copy_folder(&fixtures().join("demo/base"), &cache.folder.path().join("shardfold/demo"));
    let said = cache.done(&["plan", "--adapter", "shardfold/style"]).err;
    assert!(said.contains("base: `shardfold/demo` (from adapter_config.json"), "{said}");
    fs::remove_dir_all(cache.folder.path().join("shardfold")).unwrap();
    cache.configure(|config| config["revision"] = "v1".into());
    cache.refused(
        &args,
        2,
        &[
            "no `--base` given, and the base model `shardfold/demo@v1` of adapter `shardfold/style` is not in the local cache",
            &format!("because revision `v1` of `shardfold/demo` is not cached (cached: `{COMMIT}`)"),
            "hint: `hf download shardfold/demo --revision v1` fetches it, if that is a repo id; or name it with `--base`",
        ],
    );
    cache.set_ref("demo", "v1", COMMIT);
    assert!(
        cache
            .done(&["plan", "--adapter", "shardfold/style"])
            .err
            .contains(&format!("`shardfold/demo@{COMMIT}`"))
    );
    cache.configure(|config| config["base_model_name_or_path"] = Value::Null);
    cache.refused(
        &args,
        2,
        &["no `--base` given, and adapter_config.json of `shardfold/style` names no base model"],
    );
    cache.refused(&["plan", "--adapter", "nowhere"], 66, &["`nowhere` is neither a directory nor a model"]);
}

#[test]
fn names_that_are_not_in_the_cache_are_told() {
    let cache = Cache::demo();
    let args = ["merge", "--base", "shardfold/dmeo", "--adapter", "shardfold/syle", "--output", "out"];
    let hub = cache.repository("dmeo");
    let at = hub.parent().expect("the cache").display();
    let is_unknown =
        |name| format!("`{name}` is neither a directory nor a model in the Hugging Face cache (`{at}`)");
    cache.refused(
        &args,
        66,
        &[
            &is_unknown("shardfold/dmeo"),
            &is_unknown("shardfold/syle"),
            "hint: `hf download shardfold/dmeo` fetches it, if that is a repo id",
        ],
    );
    cache.refused(&["inspect", "shardfold/dmeo"], 66, &[&is_unknown("shardfold/dmeo")]);
    cache.add("demo", OTHER, &fixtures().join("demo/base"));
    cache.refused(
        &["inspect", "shardfold/demo@1a2b"],
        66,
        &["`1a2b` begins several commits in", COMMIT, OTHER],
    );
    cache.done(&["inspect", "shardfold/demo@1a2b9"]);
}

#[test]
fn hostile_refs_are_refused() {
    let cache = Cache::demo();
    for content in ["../../../../shardfold/demo", "", "/", "..", "1a2b/../..", "\u{1b}[2J"] {
        cache.set_ref("demo", "main", content);
        let says = [
            "refs/main` holds `",
            "which is no commit",
            "hint: `hf download shardfold/demo` writes it again",
        ];
        cache.refused(BY_NAMES, 65, &says);
        cache.refused(&["inspect", "shardfold/demo"], 65, &says);
    }
}

#[test]
fn snapshots_that_are_not_whole_are_refused() {
    let cache = Cache::demo();
    let lose = |repository: &str, file: &str| {
        let link = cache.snapshot(repository).join(file);
        fs::remove_file(fs::canonicalize(link).unwrap()).unwrap();
    };
    let base = "`hf download shardfold/demo` fetches what a snapshot lacks";
    lose("demo", "generation_config.json");
    cache.refused(BY_NAMES, 66, &["generation_config.json` is a broken link", base]);
    lose("demo", "config.json");
    cache.refused(BY_NAMES, 66, &["config.json` is a broken link", base]);
    lose("demo", "model-00002-of-00003.safetensors");
    cache.refused(BY_NAMES, 66, &["model-00002-of-00003.safetensors` is a broken link", base]);
    let adapter = "`hf download shardfold/style` fetches what a snapshot lacks";
    lose("style", "adapter_model.safetensors");
    cache.refused(&["inspect", "shardfold/style"], 66, &["adapter_model.safetensors", adapter]);
    lose("style", "adapter_config.json");
    let args = ["merge", "--adapter", "shardfold/style", "--output", "out"];
    cache.refused(&args, 66, &["adapter_config.json` is a broken link", adapter]);
}

#[test]
fn what_a_name_holds_can_be_inspected() {
    let cache = Cache::demo();
    for (name, folder) in [("demo", "base"), ("style", "adapter")] {
        let name = format!("shardfold/{name}");
        let by_name = cache.done(&["inspect", &name]);
        let by_path = cache.done(&["inspect", fixtures().join("demo").join(folder).to_str().unwrap()]);
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        assert!(first(&by_name.out).ends_with(&name), "{}", by_name.out);
        assert!(by_name.out.lines().skip(1).eq(by_path.out.lines().skip(1)));
        assert_eq!(by_name.err, "");
    }
}
