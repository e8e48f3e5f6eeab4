//! What the suite's files share: a work folder, the command, and safetensors files made on the spot.

#![allow(dead_code, reason = "each file of the suite uses what it needs")]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use shardfold::testing::Dtype;
use shardfold::testing::build_header;

/// The fixtures of the repository.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A folder that goes when dropped.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// The same in memory where the system has such a place: for many small merges, whose syncs would be most of the time.
pub fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| folder())
}

/// What a run of the command gave.
pub struct Ran {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its stdout.
    pub out: String,
    /// Its stderr.
    pub err: String,
}

/// The command with arguments. It asks no hub: tests that have one of their own say where it is.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).env("HF_HUB_OFFLINE", "1");
    command
}

/// The binary, by a second name that this run of the tests has of it. Whoever builds meanwhile, perhaps with other features,
/// takes the file at its path away and puts another there.
pub fn binary() -> &'static Path {
    static OWN: OnceLock<PathBuf> = OnceLock::new();
    OWN.get_or_init(|| {
        let built = Path::new(env!("CARGO_BIN_EXE_shardfold"));
        let runs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runs");
        let dir = runs.join(std::process::id().to_string());
        // Those of runs that have ended, by the numbers of their processes, where the system shows these.
        let processes = Path::new("/proc");
        let has_ended = |name: OsString| processes.is_dir() && !processes.join(name).exists();
        for entry in fs::read_dir(&runs).into_iter().flatten().flatten() {
            if entry.path() == dir || has_ended(entry.file_name()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let own = dir.join("shardfold");
        let linked = fs::create_dir_all(&dir).and_then(|()| fs::hard_link(built, &own));
        if linked.is_ok() { own } else { built.to_owned() }
    })
}

/// Runs the command to its end.
pub fn run(args: &[&str]) -> Ran {
    ran(command(args).output().expect("the binary starts"))
}

/// What an output says.
pub fn ran(output: Output) -> Ran {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// Writes a safetensors file of tensors given by name, dtype, shape and bytes.
pub fn write_safetensors(path: &Path, tensors: &[(&str, Dtype, &[u64], Vec<u8>)]) {
    let entries: Vec<(&str, Dtype, &[u64])> = tensors.iter().map(|(n, d, s, _)| (*n, *d, *s)).collect();
    let header = build_header(&entries, &[("format", "pt")]).expect("a small header");
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    tensors.iter().for_each(|(_, _, _, data)| bytes.extend(data));
    fs::write(path, bytes).expect("a small file");
}

/// The little-endian bytes of f32 values.
pub fn f32s(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Copies a folder and what is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder to read").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).expect("a file to copy")),
        }
    }
}

/// Every file below a folder with its bytes, by relative name.
pub fn contents(folder: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let found = shardfold::Location::of_path(folder).files(&|_| false).expect("a folder to list");
    found
        .into_iter()
        .map(|file| (file.name.clone(), fs::read(folder.join(&file.name)).expect("a file")))
        .collect()
}

/// The hash that a record has of a file, as the documentation has it: of a shard, over the hashes of its header and of every
/// tensor in the order of their bytes, which are given with names and lengths.
pub fn recorded_hash(name: &str, bytes: &[u8]) -> (String, Vec<(String, usize, String)>) {
    if !name.ends_with(".safetensors") {
        return (blake3::hash(bytes).to_string(), Vec::new());
    }
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("a length")) as usize;
    let entries: serde_json::Map<String, Value> =
        serde_json::from_slice(&bytes[8..header]).expect("a header");
    let place =
        |entry: &Value, i: usize| header + entry["data_offsets"][i].as_u64().expect("a place") as usize;
    let tensors = entries.iter().filter(|(name, _)| *name != "__metadata__");
    let mut ranges: Vec<_> =
        tensors.map(|(name, entry)| (place(entry, 0)..place(entry, 1), name.as_str())).collect();
    ranges.push((0..header, ""));
    ranges.sort_by_key(|(range, _)| (range.start, range.end));
    let hashes = ranges.iter().map(|(range, _)| blake3::hash(&bytes[range.clone()]));
    let hashes: Vec<blake3::Hash> = hashes.collect();
    let all: Vec<u8> = hashes.iter().flat_map(|hash| *hash.as_bytes()).collect();
    let sections = ranges.iter().zip(&hashes);
    let sections = sections.map(|((range, name), hash)| ((*name).to_owned(), range.len(), hash.to_string()));
    (blake3::hash(&all).to_string(), sections.collect())
}
