//! [`FileHash`]: the BLAKE3 of a file as its bytes come, whose state can be written down and taken up again.
//!
//! BLAKE3 is a tree over chunks of 1 KiB, so that an aligned stretch of a file has a value of its own, whatever comes before
//! or behind it. The state is the values of the largest aligned stretches so far, few however long the file: of `n` whole
//! stretches as many as `n` has ones in binary. The hash is the one that `b3sum` prints.

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};

/// Bytes of a stretch: a power of two of chunks, long enough for the vectors of any CPU.
pub(crate) const STRETCH: u64 = 64 << 10;

/// The hash of the bytes so far.
pub(crate) struct FileHash {
    /// Values of aligned stretches, each as long as those behind it together or longer; the last may be due to be joined.
    values: Vec<ChainingValue>,
    /// Stretches that they stand for.
    whole: u64,
    /// The stretch after them, which is not joined before a byte behind it comes: the last of a file is treated otherwise.
    last: Hasher,
    filled: u64,
}

/// What can be written down of a [`FileHash`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashState {
    /// Whole stretches from the start.
    stretches: u64,
    /// The values of the aligned stretches that they make, the longest first, in hex.
    values: Vec<String>,
    /// The value of the bytes behind them, in hex: they are read again, and must be the same.
    tail: String,
}

impl HashState {
    /// Bytes that it is the state of.
    pub(crate) fn bytes(&self) -> u64 {
        self.stretches.saturating_mul(STRETCH)
    }
}

impl Default for FileHash {
    fn default() -> FileHash {
        FileHash { values: Vec::new(), whole: 0, last: Hasher::new(), filled: 0 }
    }
}

impl FileHash {
    /// The hash of the bytes that `state` is of; none if there is no such state.
    pub(crate) fn from_state(state: &HashState) -> Option<FileHash> {
        let values = state.values.iter().map(|hex| blake3::Hash::from_hex(hex).ok());
        let values: Vec<ChainingValue> = values.map(|hash| Some(*hash?.as_bytes())).collect::<Option<_>>()?;
        if values.len() as u32 != state.stretches.count_ones() || state.stretches > u64::MAX / STRETCH {
            return None;
        }
        let mut hash = FileHash { values, whole: state.stretches, ..FileHash::default() };
        hash.begin_stretch();
        Some(hash)
    }

    /// Adds the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.filled == STRETCH {
                self.end_stretch();
            }
            let room = (STRETCH - self.filled).min(rest.len() as u64);
            let (now, later) = rest.split_at(room as usize);
            self.last.update(now);
            self.filled += room;
            rest = later;
        }
    }

    /// The state of as many of the bytes as can be written down: of all but the last stretch, if that is not whole. More bytes
    /// must come.
    pub(crate) fn state(&mut self) -> HashState {
        if self.filled == STRETCH {
            self.end_stretch();
        }
        self.join();
        let values = self.values.iter().map(|value| blake3::Hash::from(*value).to_hex().to_string());
        HashState { stretches: self.whole, values: values.collect(), tail: self.tail() }
    }

    /// Whether these are the bytes that `state` was written down behind.
    pub(crate) fn is_at(&mut self, state: &HashState) -> bool {
        self.state() == *state
    }

    /// The value of the last stretch, in hex.
    fn tail(&self) -> String {
        if self.filled == 0 {
            return String::new();
        }
        blake3::Hash::from(self.last.finalize_non_root()).to_hex().to_string()
    }

    /// The hash of all bytes, in hex.
    pub(crate) fn finish(mut self) -> String {
        if self.whole == 0 {
            return self.last.finalize().to_hex().to_string();
        }
        self.join();
        let mut right = self.last.finalize_non_root();
        while self.values.len() > 1
            && let Some(left) = self.values.pop()
        {
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        let left = self.values.pop().unwrap_or_default();
        merge_subtrees_root(&left, &right, Mode::Hash).to_hex().to_string()
    }

    fn end_stretch(&mut self) {
        self.join();
        self.values.push(self.last.finalize_non_root());
        self.whole += 1;
        self.begin_stretch();
    }

    fn begin_stretch(&mut self) {
        self.last = Hasher::new();
        self.last.set_input_offset(self.whole * STRETCH);
        self.filled = 0;
    }

    /// Joins stretches of equal length, once it is known that bytes come behind them.
    fn join(&mut self) {
        while self.values.len() > self.whole.count_ones() as usize
            && let (Some(right), Some(left)) = (self.values.pop(), self.values.pop())
        {
            self.values.push(merge_subtrees_non_root(&left, &right, Mode::Hash));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: u64) -> Vec<u8> {
        (0..len).map(|i| ((i * i) >> 7) as u8).collect()
    }

    #[test]
    fn it_is_the_hash_of_all_bytes_however_they_come() {
        for len in
            [0, 1, STRETCH - 1, STRETCH, STRETCH + 1, 2 * STRETCH, 3 * STRETCH + 7, 8 * STRETCH, 13 * STRETCH]
        {
            let bytes = bytes(len);
            for step in [1000, STRETCH as usize, 3 * STRETCH as usize + 1] {
                let mut hash = FileHash::default();
                bytes.chunks(step).for_each(|piece| hash.update(piece));
                assert_eq!(hash.finish(), blake3::hash(&bytes).to_hex().as_str(), "{len} by {step}");
            }
        }
    }

    #[test]
    fn a_state_is_taken_up_again_wherever_it_was_written_down() {
        let bytes = bytes(11 * STRETCH + 5);
        let whole = blake3::hash(&bytes).to_hex();
        for cut in (0..bytes.len() as u64).step_by(STRETCH as usize / 2 + 1) {
            let mut first = FileHash::default();
            first.update(&bytes[..cut as usize]);
            let text = serde_json::to_string(&first.state()).expect("strings and numbers");
            let state: HashState = serde_json::from_str(&text).expect("as it was written");
            assert!(state.bytes() <= cut && cut - state.bytes() < STRETCH, "{cut}");
            let mut second = FileHash::from_state(&state).expect("a state");
            second.update(&bytes[state.bytes() as usize..cut as usize]);
            assert!(second.is_at(&state), "{cut}");
            second.update(&bytes[cut as usize..]);
            first.update(&bytes[cut as usize..]);
            assert_eq!([second.finish(), first.finish()], [whole.as_str(); 2], "{cut}");
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let value = "00".repeat(32);
        let state = |stretches, values: &[&str]| HashState {
            stretches,
            values: values.iter().map(|&value| value.to_owned()).collect(),
            tail: String::new(),
        };
        assert!(FileHash::from_state(&state(0, &[])).is_some());
        assert!(FileHash::from_state(&state(4, &[&value])).is_some());
        let many = [value.as_str(); 64];
        for wrong in [state(1, &[]), state(2, &many[..2]), state(1, &["no hex"]), state(u64::MAX, &many)] {
            assert!(FileHash::from_state(&wrong).is_none(), "{wrong:?}");
        }
    }
}
