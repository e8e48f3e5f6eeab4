//! [`FileHash`]: the hash of a file by its sections, as its bytes come.
//!
//! Each section, the header or a tensor, has the BLAKE3 of its own bytes, wherever in which file it stands: two results can be
//! compared tensor by tensor, and a tensor that was only copied has the hash that it had. The hash of the file is the BLAKE3
//! of its sections' hashes, 32 bytes each, one after the other.

use serde::{Deserialize, Serialize};

use crate::pipeline::hash_value::HashValue;
use crate::pipeline::section_hash::{SectionHash, SectionState};
use crate::pipeline::stretch_values::StretchValues;

/// What is known of a section by its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SectionSum {
    /// The tensor that it is; empty for a header, and where only its place tells.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub(crate) tensor: Box<str>,
    /// Its length.
    pub(crate) bytes: u64,
    /// BLAKE3 of its bytes.
    pub(crate) hash: HashValue,
    /// BLAKE3's values of its pieces of 16 MiB, but for the last of them: where it differs shows by them.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub(crate) pieces: Box<[HashValue]>,
}

/// How far the hash of a file is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileState {
    /// The sections that are whole, or those of them that no earlier state has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) sections: Vec<SectionSum>,
    /// The state of the one behind them.
    #[serde(flatten)]
    pub(crate) open: SectionState,
}

impl FileState {
    /// Bytes that it is the state of, of a file whose state this is all of.
    pub(crate) fn bytes(&self) -> Option<u64> {
        let whole = self.sections.iter().map(|section| section.bytes);
        whole.chain([self.open.bytes()]).try_fold(0_u64, u64::checked_add)
    }

    /// Whether a file with sections of these lengths can have it.
    pub(crate) fn fits(&self, lens: &[u64]) -> bool {
        let FileState { sections, open } = self;
        let room = lens.get(sections.len()).copied().unwrap_or_default();
        sections.len() <= lens.len()
            && sections.iter().zip(lens).all(|(section, len)| section.bytes == *len)
            && open.bytes() <= room
            && open.is_sound()
    }
}

/// The hash of the bytes of a file so far.
pub(crate) struct FileHash {
    /// The lengths of all sections.
    lens: Vec<u64>,
    done: Vec<SectionSum>,
    /// How many of them are in a state that was handed out.
    told: usize,
    open: SectionHash,
}

impl FileHash {
    /// Of a file with sections of these lengths.
    pub(crate) fn new(lens: Vec<u64>) -> FileHash {
        let done = Vec::with_capacity(lens.len());
        let mut hash = FileHash { lens, done, told: 0, open: SectionHash::default() };
        hash.close_whole();
        hash
    }

    /// The hash of the bytes that `state` is of; none if a file with such sections has no such state.
    pub(crate) fn from_state(lens: Vec<u64>, state: &FileState) -> Option<FileHash> {
        if !state.fits(&lens) {
            return None;
        }
        let (done, told) = (state.sections.clone(), state.sections.len());
        Some(FileHash { lens, done, told, open: SectionHash::from_state(&state.open)? })
    }

    /// Adds the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.update_with(bytes, &StretchValues::default());
    }

    /// Adds the next bytes, of which some stretches are hashed already. What is behind the last section counts for nothing.
    pub(crate) fn update_with(&mut self, bytes: &[u8], hashed: &StretchValues) {
        let mut rest = bytes;
        while let Some(room) = self.room().filter(|_| !rest.is_empty()) {
            let (own, behind) = rest.split_at(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            let section = self.done.len();
            self.open.update_with(own, |stretch| hashed.of(section, stretch));
            self.close_whole();
            rest = behind;
        }
    }

    /// Adds the next section, whose hash is known.
    pub(crate) fn pass(&mut self, section: &SectionSum) {
        debug_assert_eq!(self.room(), Some(section.bytes), "sections are passed from their first byte on");
        self.done.push(section.clone());
        self.close_whole();
    }

    /// Bytes that are missing of the section under way.
    fn room(&self) -> Option<u64> {
        Some(self.lens.get(self.done.len())? - self.open.bytes())
    }

    /// Ends the section under way if all its bytes came, and empty ones behind it.
    fn close_whole(&mut self) {
        while self.room() == Some(0) {
            let bytes = self.lens[self.done.len()];
            let (hash, pieces) = self.open.finish();
            self.done.push(SectionSum { tensor: "".into(), bytes, hash, pieces: pieces.into() });
        }
    }

    /// The state of as many of the bytes as can be written down, behind the last that was handed out. More bytes must come.
    pub(crate) fn state(&mut self) -> FileState {
        let sections = self.done[self.told..].to_vec();
        self.told = self.done.len();
        FileState { sections, open: self.open.state() }
    }

    /// Whether these are the bytes that `state`, which is all of the file's, was written down behind.
    pub(crate) fn is_at(&mut self, state: &FileState) -> bool {
        self.done == state.sections && self.open.state() == state.open
    }

    /// All sections; those that lack bytes are left out.
    pub(crate) fn finish(self) -> Vec<SectionSum> {
        self.done
    }
}

/// The hash of a file with these sections, in hex.
pub(crate) fn hash_of(sections: &[SectionSum]) -> String {
    let mut hasher = blake3::Hasher::new();
    for section in sections {
        hasher.update(&section.hash.0);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::section_hash::STRETCH;

    const LENS: [u64; 7] = [0, 9, 0, 3 * STRETCH + 5, STRETCH, 0, 7];

    fn bytes() -> Vec<u8> {
        (0..LENS.iter().sum::<u64>()).map(|i| ((i * i) >> 7) as u8).collect()
    }

    fn own(bytes: &[u8]) -> Vec<SectionSum> {
        let mut rest = bytes;
        let sum = |&len: &u64| {
            let (own, behind) = rest.split_at(len as usize);
            rest = behind;
            let hash = HashValue(*blake3::hash(own).as_bytes());
            SectionSum { tensor: "".into(), bytes: len, hash, pieces: [].into() }
        };
        LENS.iter().map(sum).collect()
    }

    #[test]
    fn each_section_has_the_hash_of_its_bytes() {
        let bytes = bytes();
        for step in [1, 8, 1000, STRETCH as usize, bytes.len()] {
            let mut hash = FileHash::new(LENS.to_vec());
            bytes.chunks(step).for_each(|some| hash.update(some));
            hash.update(b"behind the last");
            assert_eq!(hash.finish(), own(&bytes), "{step}");
        }
        let by_hand: Vec<u8> = own(&bytes).iter().flat_map(|section| section.hash.0).collect();
        assert_eq!(hash_of(&own(&bytes)), blake3::hash(&by_hand).to_hex().as_str());
        let mut short = FileHash::new(LENS.to_vec());
        short.update(&bytes[..bytes.len() - 1]);
        assert_eq!(short.finish(), own(&bytes)[..6]);
    }

    #[test]
    fn states_hold_what_earlier_ones_do_not_and_together_are_taken_up_again() {
        let bytes = bytes();
        let cuts = [1, 9, 10, 9 + STRETCH, 9 + 3 * STRETCH, 14 + 3 * STRETCH, 20 + 3 * STRETCH];
        let mut hash = FileHash::new(LENS.to_vec());
        let (mut all, mut from) = (Vec::new(), 0);
        for cut in cuts {
            hash.update(&bytes[from..cut as usize]);
            from = cut as usize;
            let text = serde_json::to_string(&hash.state()).expect("strings and numbers");
            let FileState { sections, open }: FileState = serde_json::from_str(&text).expect("as written");
            all.extend(sections);
            let state = FileState { sections: all.clone(), open };
            let reached = state.bytes().expect("few");
            assert!(reached <= cut && cut - reached < STRETCH, "{cut}");
            let mut other = FileHash::from_state(LENS.to_vec(), &state).expect("a state");
            other.update(&bytes[reached as usize..from]);
            assert!(other.is_at(&state), "{cut}");
            other.update(&bytes[from..]);
            assert_eq!(other.finish(), own(&bytes), "{cut}");
        }
        assert_eq!(all.len(), 4, "none was told twice");
    }

    #[test]
    fn a_state_of_other_sections_is_refused() {
        let mut hash = FileHash::new(LENS.to_vec());
        hash.update(&bytes()[..9 + 2 * STRETCH as usize]);
        let state = hash.state();
        assert!(FileHash::from_state(LENS.to_vec(), &state).is_some());
        for wrong in [vec![], vec![0, 9], vec![0, 8, 0, 1 << 30], vec![0, 9, 0, 2 * STRETCH - 1]] {
            assert!(FileHash::from_state(wrong.clone(), &state).is_none(), "{wrong:?}");
        }
    }
}
