//! The files beside the shards: those that are copied, the index and the config, the model card, the checksums, the record.

use crate::cancel::Cancel;
use crate::error::run::RunError;
use crate::error::{Error, Result};
use crate::merge::prepare::Prepared;
use crate::pipeline::milestone::ShardDone;
use crate::plan::out_tensor::Plan;
use crate::plan::output_files::{CARD, SUMS};
use crate::publish::checksums::{Checksums, sums_text};
use crate::publish::into_place::in_order;
use crate::publish::model_card::model_card;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::storage::files::{copy_file, write_small};
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;

/// Files beyond which they are made to last together: one by one 20,000 take many seconds.
const MANY: usize = 256;

/// What a file beside the shards holds.
#[derive(Clone, Copy)]
enum Content<'c> {
    /// All of another file.
    File(&'c dyn Source),
    /// A text that the plan has.
    Text(&'c str),
}

/// A result that is whole and not yet shown.
pub(crate) struct Completed {
    /// All its files, with their lengths.
    pub(crate) files: Vec<(String, u64)>,
    /// Its digest.
    pub(crate) result: String,
}

/// What stands beside the shards of a result.
pub(crate) struct Completion<'c> {
    /// The plan.
    pub(crate) plan: &'c Plan,
    /// Its digest.
    pub(crate) digest: &'c str,
    /// The text of the model card.
    pub(crate) card: String,
    /// The files that the plan copies, in its order.
    pub(crate) copied: &'c [Box<dyn Source>],
    /// The digest that the result must have, if one was asked for.
    pub(crate) expected: Option<&'c str>,
    /// What stops it.
    pub(crate) cancel: &'c Cancel,
}

impl Prepared {
    /// What stands beside the shards.
    pub(crate) fn completion(&self) -> Completion<'_> {
        Completion {
            plan: &self.plan,
            digest: &self.digest,
            card: model_card(&self.plan, &self.base_name, self.library),
            copied: &self.copied,
            expected: self.expected.as_deref(),
            cancel: &self.cancel,
        }
    }
}

impl Completion<'_> {
    /// Writes the files beside `shards` into `store`, the record last; what undoes the merge is there, if it is one of them.
    ///
    /// # Errors
    /// [`RunError::OtherResult`]; as copying and writing.
    pub(crate) fn complete(
        &self,
        store: &Location,
        (mut shards, undo): (Vec<ShardDone>, Option<ShardDone>),
        checksums: Option<&Checksums>,
    ) -> Result<Completed> {
        let mut others = self.write_others(store)?;
        others.extend(undo);
        if let Some(checksums) = checksums {
            for file in shards.iter_mut().chain(&mut others) {
                checksums.add_to(file, store, self.cancel)?;
            }
        }
        let names = shards.iter().chain(&others).map(|file| (file.name.clone(), file.bytes));
        let mut files: Vec<(String, u64)> = names.collect();
        let record = Provenance::new(self.plan, self.digest, shards, others);
        self.check_result(&record.result)?;
        let sum = record.sum();
        if self.plan.sha256 {
            let text = sums_text(&record, &sum.sha256);
            write_small(store, SUMS, text.as_bytes())?;
            files.push((SUMS.to_owned(), text.len() as u64));
        }
        record.write(store, sum.bytes)?;
        files.push((PROVENANCE.to_owned(), sum.bytes));
        Ok(Completed { files, result: record.result })
    }

    /// Fails if another result was asked for than the one with the digest `found`.
    ///
    /// # Errors
    /// [`RunError::OtherResult`].
    pub(crate) fn check_result(&self, found: &str) -> Result<()> {
        match self.expected {
            Some(expected) if !expected.eq_ignore_ascii_case(found) => {
                let error = RunError::OtherResult { expected: expected.to_owned(), found: found.to_owned() };
                let hint = "base, adapters, flags or the version of shardfold are others than they were then";
                Err(Error::new(error).hint(hint))
            }
            _ => Ok(()),
        }
    }

    /// Writes what is copied, the index, the config and the card.
    fn write_others(&self, store: &Location) -> Result<Vec<ShardDone>> {
        let own = self.plan.files.iter().map(|file| (file.name.as_str(), file.content.as_str()));
        let own = own.chain([(CARD, self.card.as_str())]).map(|(name, text)| (name, Content::Text(text)));
        let copied = self.plan.copied.iter().zip(self.copied);
        let copied = copied.map(|(file, source)| (file.name.as_str(), Content::File(source.as_ref())));
        let others: Vec<(&str, Content<'_>)> = copied.chain(own).collect();
        let is_many = others.len() > MANY;
        let each = if is_many { &store.together() } else { store };
        let mut done = Vec::new();
        let mut buf = vec![0; 1 << 18];
        // Whoever sees the output grow takes it for a checkpoint late.
        for &(name, content) in in_order(&others, |(name, _)| name) {
            let (bytes, hash) = match content {
                Content::File(source) => {
                    (source.len(), copy_file(source, each, name, &mut buf, self.cancel)?)
                }
                Content::Text(text) => {
                    write_small(each, name, text.as_bytes())?;
                    (text.len() as u64, blake3::hash(text.as_bytes()).to_hex().to_string())
                }
            };
            done.push(ShardDone { name: name.to_owned(), bytes, hash, sha256: None, sections: Vec::new() });
        }
        if is_many {
            store.sync_all()?;
        }
        Ok(done)
    }
}
