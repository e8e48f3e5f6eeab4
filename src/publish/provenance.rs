//! `shardfold.json`: what the result was made from, and the hash of every file. It holds no time and no path, so that the
//! same plan gives the same bytes anywhere.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::pipeline::milestone::ShardDone;
use crate::plan::out_tensor::{AdapterUse, Input, Plan};
use crate::plan::output_files::RECORD;
use crate::storage::location::Location;

/// Its file name.
pub(crate) const PROVENANCE: &str = RECORD;
/// That of 100,000 files; what is longer is none of ours.
const MOST_BYTES: u64 = 16 << 20;
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
    /// The shards, with their hashes.
    pub shards: Vec<ShardDone>,
    /// Every other file of the result but this one, likewise.
    #[serde(default)]
    pub files: Vec<ShardDone>,
}

impl Provenance {
    /// The provenance of a finished run.
    pub(crate) fn new(plan: &Plan, digest: &str, shards: &[ShardDone], files: Vec<ShardDone>) -> Provenance {
        Provenance {
            schema: SCHEMA,
            hash: HASH.to_owned(),
            shardfold: plan.version.clone(),
            plan: digest.to_owned(),
            adapters: plan.adapters.clone(),
            choices: plan.choices.clone(),
            inputs: plan.inputs.clone(),
            shards: shards.to_vec(),
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

    /// Its JSON.
    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers");
        text.push('\n');
        text
    }
}
