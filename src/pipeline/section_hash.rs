//! [`SectionHash`]: the BLAKE3 of a section of a file as its bytes come, whose state can be written down and taken up again.
//!
//! BLAKE3 is a tree over chunks of 1 KiB, so that an aligned stretch of a section has a value of its own, whatever comes before
//! or behind it: whoever has the bytes in its cache may compute it ([`StretchValues`](super::stretch_values::StretchValues)).
//! The state is the values of the largest aligned stretches so far, few however long the section: of `n` whole stretches as
//! many as `n` has ones in binary. The hash is the one that `b3sum` prints of these bytes.
//!
//! On the way there, every longer aligned piece has a value too. They are kept beside the hash, at no cost: whoever finds
//! another hash later learns by them where the section differs.

use blake3::Hasher;
use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};

use crate::pipeline::hash_value::HashValue;

/// Bytes of a stretch: a power of two of chunks, long enough for the vectors of any CPU.
pub(crate) const STRETCH: u64 = 64 << 10;
/// Stretches of a piece, a power of two, and its bytes: a checkpoint of 141 GB has 8,400.
const PIECE_STRETCHES: u64 = 256;
pub(crate) const PIECE: u64 = PIECE_STRETCHES * STRETCH;

/// The hash of the bytes so far.
pub(crate) struct SectionHash {
    /// Values of aligned stretches, each as long as those behind it together or longer; the last may be due to be joined.
    values: Vec<ChainingValue>,
    /// Stretches that they stand for.
    whole: u64,
    /// The stretch after them, which is not joined before a byte behind it comes: the last of a section is treated otherwise.
    last: Hasher,
    /// The value of that stretch, where somebody else computed it.
    known: Option<ChainingValue>,
    filled: u64,
    /// The values of whole pieces; the last of a section is none.
    pieces: Vec<HashValue>,
}

/// What can be written down of a [`SectionHash`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SectionState {
    /// Whole stretches from the start.
    stretches: u64,
    /// The values of the aligned stretches that they make, the longest first.
    values: Vec<HashValue>,
    /// The value of the bytes behind them: they are read again, and must be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tail: Option<HashValue>,
    /// The values of whole pieces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pieces: Vec<HashValue>,
}

impl SectionState {
    /// Bytes that it is the state of.
    pub(crate) fn bytes(&self) -> u64 {
        self.stretches.saturating_mul(STRETCH)
    }

    /// Whether there is such a state.
    pub(crate) fn is_sound(&self) -> bool {
        self.values.len() as u32 == self.stretches.count_ones()
            && self.pieces.len() as u64 == self.stretches / PIECE_STRETCHES
            && self.stretches <= u64::MAX / STRETCH
    }
}

impl Default for SectionHash {
    fn default() -> SectionHash {
        SectionHash {
            values: Vec::new(),
            whole: 0,
            last: Hasher::new(),
            known: None,
            filled: 0,
            pieces: Vec::new(),
        }
    }
}

impl SectionHash {
    /// The hash of the bytes that `state` is of; none if there is no such state.
    pub(crate) fn from_state(state: &SectionState) -> Option<SectionHash> {
        if !state.is_sound() {
            return None;
        }
        let values: Vec<ChainingValue> = state.values.iter().map(|value| value.0).collect();
        let pieces = state.pieces.clone();
        let mut hash = SectionHash { values, whole: state.stretches, pieces, ..SectionHash::default() };
        hash.begin_stretch();
        Some(hash)
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.whole * STRETCH + self.filled
    }

    /// Adds the next bytes; `hashed` has the values of some stretches.
    pub(crate) fn update_with(&mut self, bytes: &[u8], hashed: impl Fn(u64) -> Option<ChainingValue>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.filled == STRETCH {
                self.end_stretch();
            }
            let room = (STRETCH - self.filled).min(rest.len() as u64);
            let (now, later) = rest.split_at(room as usize);
            self.known = if room == STRETCH { hashed(self.whole) } else { None };
            if self.known.is_none() {
                self.last.update(now);
            }
            self.filled += room;
            rest = later;
        }
    }

    /// The state of as many of the bytes as can be written down: of all but the last stretch, if that is not whole. More bytes
    /// must come.
    pub(crate) fn state(&mut self) -> SectionState {
        if self.filled == STRETCH {
            self.end_stretch();
        }
        self.join();
        let values = self.values.iter().copied().map(HashValue).collect();
        let tail = (self.filled > 0).then(|| HashValue(self.last_value()));
        SectionState { stretches: self.whole, values, tail, pieces: self.pieces.clone() }
    }

    /// The hash of all bytes, and the values of the pieces. What comes next is another section.
    pub(crate) fn finish(&mut self) -> (HashValue, Vec<HashValue>) {
        self.join();
        let hash = self.root();
        (self.whole, self.known, self.filled) = (0, None, 0);
        self.values.clear();
        self.last = Hasher::new();
        (hash, std::mem::take(&mut self.pieces))
    }

    fn root(&mut self) -> HashValue {
        if self.whole == 0 {
            return HashValue(*self.last.finalize().as_bytes());
        }
        let mut right = self.last_value();
        while self.values.len() > 1
            && let Some(left) = self.values.pop()
        {
            right = merge_subtrees_non_root(&left, &right, Mode::Hash);
        }
        let left = self.values.pop().unwrap_or_default();
        HashValue(*merge_subtrees_root(&left, &right, Mode::Hash).as_bytes())
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
                self.pieces.push(HashValue(joined));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::sections::SectionSpan;
    use crate::pipeline::stretch_values::StretchValues;

    fn bytes(len: u64) -> Vec<u8> {
        (0..len).map(|i| ((i * i) >> 7) as u8).collect()
    }

    fn add(hash: &mut SectionHash, bytes: &[u8]) {
        hash.update_with(bytes, |_| None);
    }

    fn hex(hash: &mut SectionHash) -> String {
        hash.finish().0.to_string()
    }

    #[test]
    fn it_is_the_hash_of_all_bytes_however_they_come() {
        // One is used for all: what is finished leaves nothing behind.
        let mut hash = SectionHash::default();
        for len in
            [0, 1, STRETCH - 1, STRETCH, STRETCH + 1, 2 * STRETCH, 3 * STRETCH + 7, 8 * STRETCH, 13 * STRETCH]
        {
            let bytes = bytes(len);
            for step in [1000, STRETCH as usize, 3 * STRETCH as usize + 1] {
                bytes.chunks(step).for_each(|piece| add(&mut hash, piece));
                assert_eq!(hash.bytes(), len);
                assert_eq!(hex(&mut hash), blake3::hash(&bytes).to_hex().as_str(), "{len} by {step}");
            }
        }
    }

    #[test]
    fn stretches_that_are_hashed_elsewhere_give_the_same_hash_and_state() {
        for len in [STRETCH, STRETCH + 1, 2 * STRETCH, 7 * STRETCH, 13 * STRETCH + 9] {
            let bytes = bytes(len);
            for step in [1000, STRETCH as usize, 2 * STRETCH as usize, 3 * STRETCH as usize + 1] {
                let (mut hash, mut plain) = (SectionHash::default(), SectionHash::default());
                let mut values = StretchValues::default();
                for (i, piece) in bytes.chunks(step).enumerate() {
                    let (at, bytes) = ((i * step) as u64, piece.len() as u64);
                    values
                        .compute(piece, [SectionSpan { section: 0, len, start: at, at, bytes }].into_iter());
                    hash.update_with(piece, |stretch| values.of(0, stretch));
                    add(&mut plain, piece);
                    if i % 3 == 1 && ((i + 1) * step) < len as usize {
                        assert_eq!(hash.state(), plain.state(), "{len} by {step}");
                    }
                }
                assert_eq!(hash.finish(), plain.finish(), "{len} by {step}");
            }
        }
    }

    #[test]
    fn a_state_is_taken_up_again_wherever_it_was_written_down() {
        let bytes = bytes(11 * STRETCH + 5);
        let whole = blake3::hash(&bytes).to_hex();
        for cut in (0..bytes.len() as u64).step_by(STRETCH as usize / 2 + 1) {
            let mut first = SectionHash::default();
            add(&mut first, &bytes[..cut as usize]);
            let text = serde_json::to_string(&first.state()).expect("strings and numbers");
            let state: SectionState = serde_json::from_str(&text).expect("as it was written");
            assert!(state.bytes() <= cut && cut - state.bytes() < STRETCH, "{cut}");
            let mut second = SectionHash::from_state(&state).expect("a state");
            add(&mut second, &bytes[state.bytes() as usize..cut as usize]);
            assert_eq!(second.state(), state, "{cut}");
            add(&mut second, &bytes[cut as usize..]);
            add(&mut first, &bytes[cut as usize..]);
            assert_eq!([hex(&mut second), hex(&mut first)], [whole.as_str(); 2], "{cut}");
        }
    }

    #[test]
    fn a_piece_has_a_value_that_its_own_bytes_decide() {
        let bytes = bytes(3 * PIECE + 5);
        let sum_of = |bytes: &[u8]| {
            let (first, rest) = bytes.split_at(bytes.len() - 9);
            let mut hash = SectionHash::default();
            first.chunks(1 << 20).for_each(|some| add(&mut hash, some));
            // It is taken up again on the way, too.
            let state = hash.state();
            let mut hash = SectionHash::from_state(&state).expect("a state");
            add(&mut hash, &first[state.bytes() as usize..]);
            add(&mut hash, rest);
            hash.finish()
        };
        let (hash, pieces) = sum_of(&bytes);
        assert_eq!(hash.to_string(), blake3::hash(&bytes).to_hex().as_str());
        let own = |i: usize| {
            let mut hasher = Hasher::new();
            hasher.set_input_offset(i as u64 * PIECE);
            hasher.update(&bytes[i * PIECE as usize..(i + 1) * PIECE as usize]);
            HashValue(hasher.finalize_non_root())
        };
        assert_eq!(pieces, [own(0), own(1), own(2)]);
        let mut other = bytes.clone();
        other[PIECE as usize + 9] ^= 1;
        let other = sum_of(&other).1;
        let differing: Vec<usize> = (0..3).filter(|&i| other[i] != pieces[i]).collect();
        assert_eq!(differing, [1]);
        assert_eq!(sum_of(&bytes[..2 * PIECE as usize]).1, pieces[..1], "the last is none");
    }

    #[test]
    fn what_is_no_state_is_refused() {
        let value = HashValue([0; 32]);
        let state = |stretches, values: &[HashValue]| SectionState {
            stretches,
            values: values.to_vec(),
            tail: None,
            pieces: Vec::new(),
        };
        assert!(SectionHash::from_state(&state(0, &[])).is_some());
        assert!(SectionHash::from_state(&state(4, &[value])).is_some());
        let many = [value; 64];
        for wrong in [state(1, &[]), state(256, &[value]), state(2, &many[..2]), state(u64::MAX, &many)] {
            assert!(SectionHash::from_state(&wrong).is_none(), "{wrong:?}");
        }
    }
}
