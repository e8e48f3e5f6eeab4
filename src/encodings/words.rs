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

/// A zero point of a stream in which each is stored less an offset; `added` is what [`added`] says for that. The library borrows from
/// the fields behind where its fields fill words, and else counts each by itself, so that what is stored as the largest is 0.
pub(crate) fn zero_point(index: u64, bits: u64, added: u32, read: impl Fn(u64) -> u32) -> i32 {
    if bits.is_power_of_two() {
        field(index, bits, |at| read(at).wrapping_add(added)) as i32
    } else {
        ((field(index, bits, read) + added) & ((1 << bits) - 1)) as i32
    }
}

/// What is added to a word, or to a field where fields cross words, so that each field is more by an offset.
pub(crate) fn added(bits: u64, offset: u32) -> u32 {
    if bits.is_power_of_two() { u32::MAX / ((1 << bits) - 1) * offset } else { offset }
}
