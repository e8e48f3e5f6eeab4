//! [`SharedInputs`]: bytes of inputs that the output has without reading them, since they can be shared and their hashes are
//! known.

use std::collections::HashMap;
use std::ops::Range;

use crate::storage::io::block::BLOCK;
use crate::storage::io::settings::Sharing;
use crate::tensor::reference::FileId;

use crate::pipeline::file_hash::SectionSum;

/// What of the inputs is shared.
#[derive(Default)]
pub struct SharedInputs {
    /// What the output's store can share.
    sharing: Sharing,
    /// The sections of inputs whose hashes are known: where each begins, in order.
    files: HashMap<FileId, Vec<(u64, SectionSum)>>,
}

impl SharedInputs {
    /// Nothing yet, in a store that can share so much.
    pub(crate) fn new(sharing: Sharing) -> SharedInputs {
        SharedInputs { sharing, files: HashMap::new() }
    }

    /// Adds the sections of a file, all of them in order.
    pub(crate) fn add(&mut self, file: FileId, sections: &[SectionSum]) {
        let mut at = 0_u64;
        let placed = sections.iter().map(|section| {
            let start = at;
            at = at.saturating_add(section.bytes);
            (start, SectionSum { tensor: "".into(), ..section.clone() })
        });
        self.files.insert(file, placed.collect());
    }

    /// The section of a file that these bytes are all of.
    pub(crate) fn section(&self, file: FileId, range: &Range<u64>) -> Option<&SectionSum> {
        let sections = self.files.get(&file)?;
        let first = sections.partition_point(|(start, _)| *start < range.start);
        let at_start = sections[first..].iter().take_while(|(start, _)| *start == range.start);
        at_start.map(|(_, section)| section).find(|section| section.bytes == range.end - range.start)
    }

    /// Whether a section of a file is shared, which is wanted from byte `to` of the output on; `whole` if all of the file is
    /// wanted.
    pub(crate) fn is_shared(&self, file: FileId, range: &Range<u64>, to: u64, whole: bool) -> bool {
        let block = BLOCK as u64;
        let can = self.sharing.ranges && range.start % block == to % block || self.sharing.files && whole;
        can && self.section(file, range).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::hash_value::HashValue;

    fn section(bytes: u64) -> SectionSum {
        SectionSum { tensor: "t".into(), bytes, hash: HashValue([bytes as u8; 32]), pieces: [].into() }
    }

    #[test]
    fn what_is_known_and_lies_on_blocks_is_shared() {
        let mut inputs = SharedInputs::new(Sharing { ranges: true, files: false });
        inputs.add(FileId(1), &[10, 0, 5000, 7].map(section));
        let hash_of = |range: Range<u64>| inputs.section(FileId(1), &range).map(|section| section.hash.0[0]);
        assert_eq!(hash_of(0..10), Some(10));
        assert_eq!(hash_of(10..10), Some(0));
        assert_eq!(hash_of(10..5010), Some(5000 % 256).map(|byte: u32| byte as u8));
        for other in [0..9, 10..5009, 11..5011, 5017..5018] {
            assert_eq!(hash_of(other.clone()), None, "{other:?}");
        }
        let shared = |inputs: &SharedInputs, to, whole| inputs.is_shared(FileId(1), &(10..5010), to, whole);
        assert!(shared(&inputs, 10, false) && shared(&inputs, 10 + 2 * BLOCK as u64, false));
        assert!(!shared(&inputs, 11, false) && !shared(&inputs, 11, true));
        assert!(!inputs.is_shared(FileId(0), &(10..5010), 10, false));
        inputs.sharing = Sharing { ranges: false, files: true };
        assert!(!shared(&inputs, 10, false) && shared(&inputs, 10, true));
        inputs.sharing = Sharing::default();
        assert!(!shared(&inputs, 10, true));
    }
}
