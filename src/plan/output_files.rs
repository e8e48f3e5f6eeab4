//! The files of the output, each of which has a name of its own.

use crate::error::Error;
use crate::error::plan::PlanError;
use crate::plan::out_tensor::{CopiedFile, OutShard, Plan, SideFile};

/// The model card.
pub(crate) const CARD: &str = "README.md";
/// The record of what was merged.
pub(crate) const RECORD: &str = "shardfold.json";
/// The checksums of all other files.
pub(crate) const SUMS: &str = "SHA256SUMS";
/// What taking the merge back by arithmetic does not give.
pub(crate) const UNDO: &str = "shardfold.undo";
/// Where work in progress is written down: nothing of the output may have that name.
pub(crate) const WORK: &str = "shardfold.journal";
/// Where the parts of a merge lie until they are joined: nothing of the output may have that name either.
pub(crate) const PARTS: &str = "shardfold.parts";
/// What is needed to join them, there.
pub(crate) const JOB: &str = "job.json";

/// One file of the output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputFile<'p> {
    /// Its name.
    pub(crate) name: &'p str,
    /// Its length, if the plan tells it.
    pub(crate) bytes: Option<u64>,
    /// What it is.
    what: &'static str,
}

impl Plan {
    /// All files of the output.
    pub(crate) fn output_files(&self) -> Vec<OutputFile<'_>> {
        listed(&self.shards, &self.files, &self.copied, (self.sha256, self.undo))
    }
}

fn listed<'p>(
    shards: &'p [OutShard],
    files: &'p [SideFile],
    copied: &'p [CopiedFile],
    (sha256, undo): (bool, bool),
) -> Vec<OutputFile<'p>> {
    let own = |name, what| OutputFile { name, bytes: None, what };
    let mut all = vec![own(CARD, "the model card"), own(RECORD, "the record of the merge")];
    all.extend(sha256.then(|| own(SUMS, "the checksums")));
    all.extend(undo.then(|| own(UNDO, "what undoes the merge")));
    all.extend(shards.iter().map(|shard| OutputFile {
        name: &shard.name,
        bytes: Some(shard.bytes),
        what: "a shard",
    }));
    all.extend(files.iter().map(|file| OutputFile {
        name: &file.name,
        bytes: Some(file.content.len() as u64),
        what: "the index or the config",
    }));
    all.extend(copied.iter().map(|file| OutputFile {
        name: &file.name,
        bytes: Some(file.bytes),
        what: "a side file",
    }));
    all
}

/// One error for every name that two files of the output would have, or that is a directory for another. Of `made`, the first is
/// whether there are checksums, the second whether what undoes the merge is there.
pub(crate) fn check_names(
    shards: &[OutShard],
    files: &[SideFile],
    copied: &[CopiedFile],
    made: (bool, bool),
) -> Vec<Error> {
    let mut all = listed(shards, files, copied, made);
    all.push(OutputFile { name: WORK, bytes: None, what: "the journal of the merge" });
    all.push(OutputFile { name: PARTS, bytes: None, what: "the directory of its parts" });
    all.sort_unstable_by_key(|file| file.name);
    let mut errors = Vec::new();
    for (i, file) in all.iter().enumerate() {
        let is_below = |other: &OutputFile<'_>| {
            other.name.strip_prefix(file.name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // What begins with a name follows it, though not at once.
        let later = all[i + 1..].iter().take_while(|other| other.name.starts_with(file.name));
        if let Some(other) = later.into_iter().find(|other| is_below(other)) {
            let error = PlanError::NameTwice {
                first: file.name.to_owned(),
                what: file.what,
                second: other.name.to_owned(),
                other: other.what,
            };
            errors.push(Error::new(error).hint("rename the base's file, in its index too if it is a shard"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::out_tensor::Role;

    #[test]
    fn every_name_is_used_once() {
        let copied = |name: &str| CopiedFile { name: name.to_owned(), bytes: 1, beside: Role::Base };
        let check = |names: &[&str]| {
            let copied: Vec<CopiedFile> = names.iter().map(|name| copied(name)).collect();
            check_names(&[], &[], &copied, (true, true)).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(check(&["a", "a.b", "b/a", "readme.md", "shardfold.json5"]).is_empty());
        for names in [
            &["a", "a"][..],
            &["a", "a.b", "a/b"],
            &["README.md/x"],
            &["shardfold.json"],
            &["shardfold.undo"],
            &["shardfold.journal"],
            &["shardfold.parts/a"],
            &["SHA256SUMS/a"],
        ] {
            assert_eq!(check(names).len(), 1, "{names:?}");
        }
    }
}
