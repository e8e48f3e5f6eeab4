//! [`FileHash`]: the BLAKE3 of a file as its bytes come, whose state can be written down and taken up again.
//!
//! BLAKE3 is a tree over chunks of 1 KiB, so that an aligned stretch of a file has a value of its own, whatever comes before
//! or behind it: [`StretchValues`], which whoever has the bytes in its cache may compute. The state is the values of the largest
//! aligned stretches so far, few however long the file: of `n` whole stretches as many as `n` has ones in binary. The hash is
//! the one that `b3sum` prints.
//!
//! On the way there, every longer aligned piece has a value too. They are handed out beside the hash, at no cost: whoever finds
//! another hash later learns by them where the file differs.

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};

/// Bytes of a stretch: a power of two of chunks, long enough for the vectors of any CPU.
pub(crate) const STRETCH: u64 = 64 << 10;
/// Stretches of a piece, a power of two, and its bytes: a checkpoint of 141 GB has 8,400.
const PIECE_STRETCHES: u64 = 256;
pub(crate) const PIECE: u64 = PIECE_STRETCHES * STRETCH;

/// The values of the whole stretches among some bytes of a file.
#[derive(Debug, Default)]
pub(crate) struct StretchValues {
    /// Which stretch of the file the first is.
    first: u64,
    values: Vec<ChainingValue>,
}

impl StretchValues {
    /// Computes those among `bytes`, which begin at byte `at` of their file. Its first stretch is left to [`FileHash`]: if
    /// there is no other, it has another value.
    pub(crate) fn compute(&mut self, bytes: &[u8], at: u64) {
        self.values.clear();
        self.first = at.div_ceil(STRETCH).max(1);
        let before = (self.first * STRETCH - at).min(bytes.len() as u64);
        let stretches = bytes[before as usize..].chunks_exact(STRETCH as usize);
        self.values.extend((self.first..).zip(stretches).map(|(place, stretch)| {
            let mut hasher = Hasher::new();
            hasher.set_input_offset(place * STRETCH);
            hasher.update(stretch).finalize_non_root()
        }));
    }

    /// Forgets them.
    pub(crate) fn clear(&mut self) {
        self.values.clear();
    }

    /// The value of a stretch.
    fn of(&self, stretch: u64) -> Option<ChainingValue> {
        self.values.get(usize::try_from(stretch.checked_sub(self.first)?).ok()?).copied()
    }
}

/// The hash of the bytes so far.
pub(crate) struct FileHash {
    /// Values of aligned stretches, each as long as those behind it together or longer; the last may be due to be joined.
    values: Vec<ChainingValue>,
    /// Stretches that they stand for.
    whole: u64,
    /// The stretch after them, which is not joined before a byte behind it comes: the last of a file is treated otherwise.
    last: Hasher,
    /// The value of that stretch, where somebody else computed it.
    known: Option<ChainingValue>,
    filled: u64,
    /// The values of whole pieces, in hex; the last of a file is none.
    pieces: Vec<String>,
}

/// What is known of a file by its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileSum {
    /// The hash of all bytes, in hex.
    pub(crate) hash: String,
    /// The values of its pieces, in hex, but for the last of them.
    pub(crate) pieces: Vec<String>,
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
    /// The values of whole pieces, in hex.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pieces: Vec<String>,
}

impl HashState {
    /// Bytes that it is the state of.
    pub(crate) fn bytes(&self) -> u64 {
        self.stretches.saturating_mul(STRETCH)
    }
}

impl Default for FileHash {
    fn default() -> FileHash {
        FileHash {
            values: Vec::new(),
            whole: 0,
            last: Hasher::new(),
            known: None,
            filled: 0,
            pieces: Vec::new(),
        }
    }
}

impl FileHash {
    /// The hash of the bytes that `state` is of; none if there is no such state.
    pub(crate) fn from_state(state: &HashState) -> Option<FileHash> {
        let values = state.values.iter().map(|hex| blake3::Hash::from_hex(hex).ok());
        let values: Vec<ChainingValue> = values.map(|hash| Some(*hash?.as_bytes())).collect::<Option<_>>()?;
        let pieces = state.pieces.clone();
        let is_sound = values.len() as u32 == state.stretches.count_ones()
            && pieces.len() as u64 == state.stretches / PIECE_STRETCHES
            && state.stretches <= u64::MAX / STRETCH;
        if !is_sound {
            return None;
        }
        let mut hash = FileHash { values, whole: state.stretches, pieces, ..FileHash::default() };
        hash.begin_stretch();
        Some(hash)
    }

    /// Adds the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.update_with(bytes, &StretchValues::default());
    }

    /// Adds the next bytes, of which some stretches are hashed already.
    pub(crate) fn update_with(&mut self, bytes: &[u8], hashed: &StretchValues) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.filled == STRETCH {
                self.end_stretch();
            }
            let room = (STRETCH - self.filled).min(rest.len() as u64);
            let (now, later) = rest.split_at(room as usize);
            self.known = hashed.of(self.whole).filter(|_| room == STRETCH);
            if self.known.is_none() {
                self.last.update(now);
            }
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
        let values = self.values.iter().map(hex).collect();
        HashState { stretches: self.whole, values, tail: self.tail(), pieces: self.pieces.clone() }
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
        hex(&self.last_value())
    }

    /// The hash of all bytes, and of the pieces.
    pub(crate) fn finish(mut self) -> FileSum {
        self.join();
        let pieces = std::mem::take(&mut self.pieces);
        FileSum { hash: self.root(), pieces }
    }

    fn root(mut self) -> String {
        if self.whole == 0 {
            return self.last.finalize().to_hex().to_string();
        }
        let mut right = self.last_value();
        while self.values.len() > 1
            && let Some(left) = self.values.pop()
        {
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        let left = self.values.pop().unwrap_or_default();
        merge_subtrees_root(&left, &right, Mode::Hash).to_hex().to_string()
    }

    fn last_value(&self) -> ChainingValue {
        self.known.unwrap_or_else(|| self.last.finalize_non_root())
    }

    fn end_stretch(&mut self) {
        self.join();
        self.values.push(self.last_value());
        self.whole += 1;
        self.begin_stretch();
    }

    fn begin_stretch(&mut self) {
        self.last = Hasher::new();
        self.last.set_input_offset(self.whole * STRETCH);
        self.known = None;
        self.filled = 0;
    }

    /// Joins stretches of equal length, once it is known that bytes come behind them.
    fn join(&mut self) {
        let mut stretches = 1;
        while self.values.len() > self.whole.count_ones() as usize
            && let (Some(right), Some(left)) = (self.values.pop(), self.values.pop())
        {
            let joined = merge_subtrees_non_root(&left, &right, Mode::Hash);
            self.values.push(joined);
            stretches *= 2;
            if stretches == PIECE_STRETCHES {
                self.pieces.push(hex(&joined));
            }
        }
    }
}

fn hex(value: &ChainingValue) -> String {
    blake3::Hash::from(*value).to_hex().to_string()
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
                assert_eq!(hash.finish().hash, blake3::hash(&bytes).to_hex().as_str(), "{len} by {step}");
            }
        }
    }

    #[test]
    fn stretches_that_are_hashed_elsewhere_give_the_same_hash_and_state() {
        for len in [STRETCH, STRETCH + 1, 2 * STRETCH, 7 * STRETCH, 13 * STRETCH + 9] {
            let bytes = bytes(len);
            for step in [1000, STRETCH as usize, 2 * STRETCH as usize, 3 * STRETCH as usize + 1] {
                let (mut hash, mut plain) = (FileHash::default(), FileHash::default());
                let mut values = StretchValues::default();
                for (i, piece) in bytes.chunks(step).enumerate() {
                    values.compute(piece, (i * step) as u64);
                    hash.update_with(piece, &values);
                    plain.update(piece);
                    if i % 3 == 1 && ((i + 1) * step) < bytes.len() {
                        assert_eq!(hash.state(), plain.state(), "{len} by {step}");
                    }
                }
                assert_eq!(hash.finish(), plain.finish(), "{len} by {step}");
            }
        }
    }

    #[test]
    fn whole_stretches_behind_the_first_are_hashed_elsewhere() {
        let mut values = StretchValues::default();
        let many = bytes(5 * STRETCH);
        let mut found = |len: u64, at: u64| {
            values.compute(&many[..len as usize], at);
            (values.first, values.values.len())
        };
        assert_eq!(found(3 * STRETCH, 0), (1, 2), "the first of a file has another value if it is all");
        assert_eq!(found(3 * STRETCH, 2 * STRETCH), (2, 3));
        assert_eq!(found(3 * STRETCH, 2 * STRETCH + 1), (3, 2));
        assert_eq!(found(STRETCH, 2 * STRETCH + 1).1, 0);
        assert_eq!(found(10, 2 * STRETCH - 1).1, 0);
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
            assert_eq!([second.finish().hash, first.finish().hash], [whole.as_str(); 2], "{cut}");
        }
    }

    #[test]
    fn a_piece_has_a_value_that_its_own_bytes_decide() {
        let bytes = bytes(3 * PIECE + 5);
        let sum_of = |bytes: &[u8]| {
            let (first, rest) = bytes.split_at(bytes.len() - 9);
            let mut hash = FileHash::default();
            first.chunks(1 << 20).for_each(|some| hash.update(some));
            // It is taken up again on the way, too.
            let state = hash.state();
            let mut hash = FileHash::from_state(&state).expect("a state");
            hash.update(&first[state.bytes() as usize..]);
            hash.update(rest);
            hash.finish()
        };
        let whole = sum_of(&bytes);
        assert_eq!(whole.hash, blake3::hash(&bytes).to_hex().as_str());
        let own = |i: usize| {
            let mut hasher = Hasher::new();
            hasher.set_input_offset(i as u64 * PIECE);
            hasher.update(&bytes[i * PIECE as usize..(i + 1) * PIECE as usize]);
            hex(&hasher.finalize_non_root())
        };
        assert_eq!(whole.pieces, [own(0), own(1), own(2)]);
        let mut other = bytes.clone();
        other[PIECE as usize + 9] ^= 1;
        let other = sum_of(&other).pieces;
        let differing: Vec<usize> = (0..3).filter(|&i| other[i] != whole.pieces[i]).collect();
        assert_eq!(differing, [1]);
        assert_eq!(sum_of(&bytes[..2 * PIECE as usize]).pieces, whole.pieces[..1], "the last is none");
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let value = "00".repeat(32);
        let state = |stretches, values: &[&str]| HashState {
            stretches,
            values: values.iter().map(|&value| value.to_owned()).collect(),
            tail: String::new(),
            pieces: Vec::new(),
        };
        assert!(FileHash::from_state(&state(0, &[])).is_some());
        assert!(FileHash::from_state(&state(4, &[&value])).is_some());
        let many = [value.as_str(); 64];
        for wrong in [
            state(1, &[]),
            state(256, &[&value]),
            state(2, &many[..2]),
            state(1, &["no hex"]),
            state(u64::MAX, &many),
        ] {
            assert!(FileHash::from_state(&wrong).is_none(), "{wrong:?}");
        }
    }
}
