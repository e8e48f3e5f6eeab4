//! `shardfold.json`: what the result was made from, and the hash of every file. It holds no time and no path, so that the
//! same plan gives the same bytes anywhere.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pipeline::milestone::ShardDone;
use crate::plan::out_tensor::{AdapterUse, Input, Plan};
use crate::plan::output_files::{RECORD, SUMS};
use crate::storage::location::Location;

/// Its file name.
pub(crate) const PROVENANCE: &str = RECORD;
/// The most that is read of it: that of 100,000 files; what is longer is none of ours.
pub(crate) const MOST_BYTES: u64 = 16 << 20;
/// The layout that is written. Fields may be added to it; one that changes its meaning makes a new one.
const SCHEMA: u32 = 1;
const HASH: &str = "blake3";

/// The layout of files from before it had a number.
fn first_schema() -> u32 {
    SCHEMA
}

fn usual_hash() -> String {
    HASH.to_owned()
}

/// The content of `shardfold.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Provenance {
    /// Version of this layout.
    #[serde(default = "first_schema")]
    pub schema: u32,
    /// The function behind every hash and digest of it.
    #[serde(default = "usual_hash")]
    pub hash: String,
    /// Version of shardfold that wrote the result.
    pub shardfold: String,
    /// Digest of its plan.
    pub plan: String,
    /// The adapters, in order, with their weights.
    pub adapters: Vec<AdapterUse>,
    /// What was decided beyond adding deltas.
    #[serde(default)]
    pub choices: Vec<String>,
    /// What identifies each file that was read.
    pub inputs: Vec<Input>,
    /// BLAKE3 over the hashes and names of all other files.
    #[serde(default)]
    pub result: String,
    /// The file with the checksums of all others, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<String>,
    /// The shards, with their hashes.
    pub shards: Vec<ShardDone>,
    /// Every other file of the result but this one, likewise.
    #[serde(default)]
    pub files: Vec<ShardDone>,
}

impl Provenance {
    /// The provenance of a finished run.
    pub(crate) fn new(
        plan: &Plan,
        digest: &str,
        shards: Vec<ShardDone>,
        files: Vec<ShardDone>,
    ) -> Provenance {
        Provenance {
            schema: SCHEMA,
            hash: HASH.to_owned(),
            shardfold: plan.version.clone(),
            plan: digest.to_owned(),
            adapters: plan.adapters.clone(),
            choices: plan.choices.clone(),
            inputs: plan.inputs.clone(),
            result: result_digest(shards.iter().chain(&files)),
            checksums: plan.sha256.then(|| SUMS.to_owned()),
            shards,
            files,
        }
    }

    /// The provenance in `dir`, if there is one that can be read: a later layout is not.
    ///
    /// # Errors
    /// [`StorageError::Unreadable`].
    pub(crate) fn read(dir: &Location) -> Result<Option<Provenance>> {
        let start = dir.read_start(PROVENANCE, MOST_BYTES)?.filter(|start| start.is_whole);
        let read: Option<Provenance> = start.and_then(|start| serde_json::from_slice(&start.bytes).ok());
        Ok(read.filter(|found| found.schema == SCHEMA && found.hash == HASH))
    }

    /// Every file whose hash it has.
    pub(crate) fn all_files(&self) -> impl Iterator<Item = &ShardDone> {
        self.shards.iter().chain(&self.files)
    }

    /// The digest of the files that it lists.
    pub(crate) fn digest_of_files(&self) -> String {
        result_digest(self.all_files())
    }

    /// Its JSON.
    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers");
        text.push('\n');
        text
    }
}

/// The digest of a result: BLAKE3 of a line for each file in the order of names, which has its hash, two spaces and its name,
/// as `b3sum` prints it.
fn result_digest<'f>(files: impl Iterator<Item = &'f ShardDone>) -> String {
    let mut files: Vec<&ShardDone> = files.collect();
    files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut hasher = blake3::Hasher::new();
    for file in files {
        for text in [&file.hash, "  ", &file.name, "\n"] {
            hasher.update(text.as_bytes());
        }
    }
    hasher.finalize().to_hex().to_string()
}
