//! Fields of a few bits in words of 32, the least significant first, as GPTQ and AWQ pack codes and zero points.

/// Bits of a word.
pub(crate) const WORD: u64 = 32;
/// Bytes of a word.
pub(crate) const WORD_BYTES: u64 = 4;

/// The word at a place of a tile's bytes.
pub(crate) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes.as_chunks().0[at])
}

/// The words of a stream that a range of fields lies in.
pub(crate) fn words_of(fields: &std::ops::Range<u64>, bits: u64) -> std::ops::Range<u64> {
    fields.start * bits / WORD..(fields.end * bits).div_ceil(WORD)
}

/// The most words of a stream of `in_all` that so many fields lie in, wherever they begin.
pub(crate) fn most_words(fields: u64, bits: u64, in_all: u64) -> u64 {
    (fields * bits / WORD + 2).min(in_all)
}

/// A field of a stream; `read` gives its words, of which a field that crosses needs two.
pub(crate) fn field(index: u64, bits: u64, read: impl Fn(u64) -> u32) -> u32 {
    let bit = index * bits;
    let (first, shift) = (bit / WORD, bit % WORD);
    let mut both = u64::from(read(first));
    if shift + bits > WORD {
        both |= u64::from(read(first + 1)) << WORD;
    }
    (both >> shift) as u32 & ((1 << bits) - 1)
}
