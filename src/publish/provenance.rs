//! `shardfold.json`: what the result was made from, and the hash of every file. It holds no time and no path, so that the
//! same plan gives the same bytes anywhere.

use std::fmt;
use std::io::BufReader;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Result;
use crate::pipeline::milestone::ShardDone;
use crate::plan::out_tensor::{AdapterUse, Input, Plan};
use crate::plan::output_files::{RECORD, SUMS, UNDO};
use crate::storage::location::Location;
use crate::storage::store::Store;
use crate::storage::stream::SourceReader;

/// Its file name.
pub(crate) const PROVENANCE: &str = RECORD;
/// The most that is read of it: that of 300,000 tensors; what is longer is none of ours.
const MOST_BYTES: u64 = 64 << 20;
/// The most files that a record lists.
const MOST_FILES: usize = 150_000;
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

/// A list of files, unless it is longer than any of ours: a short text could have many.
fn few_files<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<ShardDone>, D::Error> {
    deserializer.deserialize_seq(FewFiles)
}

struct FewFiles;

impl<'de> Visitor<'de> for FewFiles {
    type Value = Vec<ShardDone>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MOST_FILES} files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Vec<ShardDone>, A::Error> {
        let mut files = Vec::new();
        while let Some(file) = list.next_element()? {
            if files.len() == MOST_FILES {
                return Err(de::Error::invalid_length(files.len() + 1, &self));
            }
            files.push(file);
        }
        Ok(files)
    }
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
    /// The file by which the merge is taken back, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
    /// The shards, with their hashes.
    #[serde(deserialize_with = "few_files")]
    pub shards: Vec<ShardDone>,
    /// Every other file of the result but this one, likewise.
    #[serde(default, deserialize_with = "few_files")]
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
                section.tensor = (&*tensor.name).into();
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
            undo: plan.undo.then(|| UNDO.to_owned()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::files::write_small;
    use crate::storage::memory::Memory;

    #[test]
    fn a_record_of_more_files_than_there_can_be_is_none() {
        let dir = Location::new(Memory::new()).join("dir");
        let read = |files: usize| {
            let list = vec![r#"{"name":"","bytes":0,"hash":""}"#; files].join(",");
            let start = r#"{"schema":2,"shardfold":"","plan":"","adapters":[],"inputs":[],"shards":[]"#;
            let text = format!(r#"{start},"files":[{list}]}}"#);
            write_small(&dir, PROVENANCE, text.as_bytes()).unwrap();
            Provenance::read(&dir).unwrap().map(|record| record.files.len())
        };
        assert_eq!(read(2), Some(2));
        assert_eq!(read(MOST_FILES), Some(MOST_FILES));
        assert_eq!(read(MOST_FILES + 1), None);
    }
}
