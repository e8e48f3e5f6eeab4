//! What of the base need not be read: its bytes can be shared with the output, and its own record has their hashes.

use crate::error::Result;
use crate::merge::prepare::Prepared;
use crate::pipeline::milestone::ShardDone;
use crate::pipeline::shared::SharedInputs;
use crate::plan::out_tensor::{Content, OutHeader, OutShard, OutTensor, Role};
use crate::publish::hashing::FileHashing;
use crate::publish::provenance::{PROVENANCE, Provenance};
use crate::storage::io::settings::{Sharing, Unchanged};
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::storage::times::FileTimes;
use crate::tensor::reference::FileId;

/// Seconds after a record was written within which its own files may still change: their modes are set last.
const SETTLING: i64 = 2;

impl Prepared {
    /// What `store` can share with the base, of which the hashes are known.
    ///
    /// # Errors
    /// As reading the base and its record; [`ErrorKind::Stopped`](crate::error::kind::ErrorKind::Stopped).
    pub(crate) fn shared_inputs(&self, store: &dyn Store) -> Result<SharedInputs> {
        let Some((_, first)) = self.base().next() else { return Ok(SharedInputs::default()) };
        let mut sharing = store.sharing("", first);
        sharing.ranges |= self.shares;
        let mut shared = SharedInputs::new(sharing);
        if sharing == Sharing::default() {
            return Ok(shared);
        }
        let (record, mark) = self.record_of_base()?;
        for (i, input) in self.plan.inputs.iter().enumerate().filter(|(_, input)| input.role == Role::Base) {
            let (file, source) = (FileId(i as u32), self.sources[i].as_ref());
            let recorded = record.iter().flat_map(|record| &record.shards);
            let recorded = recorded.into_iter().find(|shard| shard.name == input.name);
            if let Some(recorded) = recorded.filter(|shard| has_stood(shard, source, mark)) {
                shared.add(file, &recorded.sections);
            } else if sharing.files
                && self.unchanged == Unchanged::Link
                && let Some(shard) =
                    self.plan.shards.iter().find(|shard| is_all_of(shard, file, source.len()))
            {
                // Its hashes are part of the result, and nobody else would read it.
                shared.add(file, &self.hashed(shard, source)?.sections);
            }
        }
        Ok(shared)
    }

    /// The record of a base that shardfold made, and when it was written.
    fn record_of_base(&self) -> Result<(Option<Provenance>, Option<FileTimes>)> {
        let base = &self.places[0];
        let record = Provenance::read(base)?;
        let mark = if record.is_some() { base.open(PROVENANCE)?.times() } else { None };
        Ok((record, mark))
    }

    fn hashed(&self, shard: &OutShard, source: &dyn Source) -> Result<ShardDone> {
        let mut tick = |_: &_| {};
        let mut hashing = FileHashing::new(1, source.len(), &self.cancel, &mut tick);
        hashing.of_shard(source, shard)
    }
}

/// Whether a file surely is what was recorded of it: it has that length, and has not changed since.
fn has_stood(recorded: &ShardDone, source: &dyn Source, mark: Option<FileTimes>) -> bool {
    let is_settled = |times: FileTimes, mark: FileTimes| {
        times.clock == mark.clock && times.changed.0 <= mark.changed.0.saturating_add(SETTLING)
    };
    let is_whole = recorded.section_bytes() == Some(source.len()) && recorded.bytes == source.len();
    is_whole && source.times().zip(mark).is_some_and(|(times, mark)| is_settled(times, mark))
}

/// Whether a shard of the output is all of a file as it is.
fn is_all_of(shard: &OutShard, file: FileId, len: u64) -> bool {
    let is_header = matches!(shard.header, OutHeader::Copied { from, .. } if from == file);
    let is_copy = |tensor: &OutTensor| matches!(&tensor.content, Content::Copy { from, claim: None } if from.file == file && from.offset == tensor.offset);
    is_header && shard.bytes == len && shard.tensors.iter().all(is_copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::pipeline::file_hash::SectionSum;
    use crate::pipeline::hash_value::HashValue;

    struct Aged(u64, i64);

    impl Source for Aged {
        fn len(&self) -> u64 {
            self.0
        }

        fn read_at(&self, _: &mut [u8], _: u64) -> Result<()> {
            Ok(())
        }

        fn done_before(&self, _: u64) {}

        fn times(&self) -> Option<FileTimes> {
            Some(at(self.1))
        }
    }

    fn at(second: i64) -> FileTimes {
        FileTimes { clock: 0, written: (1, 0), changed: (second, 0), named: (99, 0) }
    }

    #[test]
    fn a_file_is_trusted_that_has_its_length_and_no_later_change_than_its_record() {
        let section = SectionSum { tensor: "".into(), bytes: 8, hash: HashValue([0; 32]), pieces: [].into() };
        let (name, hash, sections) = (String::new(), String::new(), vec![section]);
        let recorded = ShardDone { name, bytes: 8, hash, sha256: None, sections };
        let mark = Some(at(50));
        assert!(has_stood(&recorded, &Aged(8, 40), mark) && has_stood(&recorded, &Aged(8, 52), mark));
        assert!(!has_stood(&recorded, &Aged(8, 53), mark), "changed since");
        assert!(!has_stood(&recorded, &Aged(7, 40), mark) && !has_stood(&recorded, &Aged(8, 40), None));
        let other = FileTimes { clock: 1, ..at(50) };
        assert!(!has_stood(&recorded, &Aged(8, 40), Some(other)), "by another clock");
        let none = ShardDone { sections: Vec::new(), ..recorded };
        assert!(!has_stood(&none, &Aged(8, 40), mark), "without hashes of its sections");
    }
}
