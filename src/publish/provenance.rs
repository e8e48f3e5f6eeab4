//! `shardfold.json`: what the result was made from, and the hash of every file. It holds no time and no path, so that the
//! same plan gives the same bytes anywhere.

use std::io::BufReader;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pipeline::milestone::ShardDone;
use crate::plan::out_tensor::{AdapterUse, Input, Plan};
use crate::plan::output_files::{RECORD, SUMS};
use crate::storage::location::Location;
use crate::storage::store::Store;
use crate::storage::stream::SourceReader;

/// Its file name.
pub(crate) const PROVENANCE: &str = RECORD;
/// The most that is read of it: that of 300,000 tensors; what is longer is none of ours.
const MOST_BYTES: u64 = 64 << 20;
/// Bytes that are read at a time.
const STEP: usize = 1 << 16;
/// The layout that is written. Fields may be added to it; one that changes its meaning makes a new one. Before the second, the
/// hash of a shard was that of its bytes.
const SCHEMA: u32 = 2;
const HASH: &str = "blake3";

/// The layout of files from before it had a number.
fn first_schema() -> u32 {
    1
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
        mut shards: Vec<ShardDone>,
        files: Vec<ShardDone>,
    ) -> Provenance {
        for (shard, planned) in shards.iter_mut().zip(&plan.shards) {
            // The first is the header.
            for (section, tensor) in shard.sections.iter_mut().skip(1).zip(&planned.tensors) {
                section.tensor = tensor.name.as_str().into();
            }
        }
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
    /// As [`Store::open`](crate::storage::store::Store::open) and [`Source::read_at`](crate::storage::source::Source::read_at).
    pub(crate) fn read(dir: &Location) -> Result<Option<Provenance>> {
        if !dir.has_file(PROVENANCE)? {
            return Ok(None);
        }
        let source = dir.open(PROVENANCE)?;
        if source.len() > MOST_BYTES {
            return Ok(None);
        }
        let mut reader = SourceReader::new(source.as_ref());
        let read = serde_json::from_reader(BufReader::with_capacity(STEP, &mut reader));
        match reader.failed {
            Some(error) => Err(error),
            None => Ok(read.ok().filter(|found: &Provenance| found.schema == SCHEMA && found.hash == HASH)),
        }
    }

    /// Every file whose hash it has.
    pub(crate) fn all_files(&self) -> impl Iterator<Item = &ShardDone> {
        self.shards.iter().chain(&self.files)
    }

    /// The digest of the files that it lists.
    pub(crate) fn digest_of_files(&self) -> String {
        result_digest(self.all_files())
    }
}

/// The digest of a result: BLAKE3 of a line for each file in the order of names, which has its hash, two spaces and its name.
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
