//! `shardfold.json`: what the result was made from, and the hash of every shard. It holds no time and no path, so that the
//! same plan gives the same bytes anywhere.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::pipeline::writer::ShardDone;
use crate::plan::out_tensor::{AdapterUse, Input, Plan};
use crate::storage::Store;
use crate::storage::folder::Folder;
use crate::storage::list::read_small;

/// Its file name.
pub(crate) const RECORD: &str = "shardfold.json";
const MOST_BYTES: u64 = 256 << 20;

/// The content of `shardfold.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
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
}

impl Record {
    /// The record of a finished run.
    pub(crate) fn new(plan: &Plan, digest: &str, shards: &[ShardDone]) -> Record {
        Record {
            shardfold: plan.version.clone(),
            plan: digest.to_owned(),
            adapters: plan.adapters.clone(),
            choices: plan.choices.clone(),
            inputs: plan.inputs.clone(),
            shards: shards.to_vec(),
        }
    }

    /// The record in `folder`, if there is one that can be read.
    ///
    /// # Errors
    /// [`ErrorKind::Read`].
    pub(crate) fn read(folder: &Path) -> Result<Option<Record>> {
        let bytes = read_small(&folder.join(RECORD), MOST_BYTES)?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Its JSON.
    pub(crate) fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers");
        text.push('\n');
        text
    }

    /// Reads every shard in `folder` again and compares its hash.
    ///
    /// # Errors
    /// [`ErrorKind::OutputDamaged`] for the first that is not as it was written; [`ErrorKind::Stopped`].
    pub(crate) fn check(&self, folder: &Path, cancel: &Cancel) -> Result<()> {
        let store = Folder::open(folder)?;
        let mut buf = vec![0; 1 << 20];
        for shard in &self.shards {
            let damaged = || {
                let (path, file) = (folder.to_owned(), shard.name.clone());
                Error::new(ErrorKind::OutputDamaged { path, file })
                    .hint("move the folder away and run the merge again")
            };
            let source = store.source(&shard.name).map_err(|cause| damaged().because(cause))?;
            if source.len() != shard.bytes {
                return Err(damaged());
            }
            let mut hasher = blake3::Hasher::new();
            let mut at = 0;
            while at < shard.bytes {
                cancel.check()?;
                let step = (shard.bytes - at).min(buf.len() as u64) as usize;
                source.read_at(&mut buf[..step], at)?;
                hasher.update(&buf[..step]);
                at += step as u64;
                source.done_before(at);
            }
            if hasher.finalize().to_hex().as_str() != shard.hash {
                return Err(damaged());
            }
        }
        Ok(())
    }
}
