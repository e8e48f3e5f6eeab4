//! SHA-1 (FIPS 180-4), by which git names what the hub does not keep as large files. It tells damaged bytes; against bytes that
//! somebody chose it is weak, as git is.

/// Bytes of a block.
const BLOCK: usize = 64;
/// Where a message's length stands in its last block.
const LENGTH_AT: usize = 56;

/// A hash that is being made.
pub(crate) struct Sha1 {
    state: [u32; 5],
    /// What has come of the next block.
    block: [u8; BLOCK],
    /// Bytes that have come in all.
    bytes: u64,
}

impl Sha1 {
    /// Of nothing.
    pub(crate) fn new() -> Sha1 {
        let state = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
        Sha1 { state, block: [0; BLOCK], bytes: 0 }
    }

    /// Adds bytes.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = (self.bytes % BLOCK as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - at));
            self.block[at..at + now.len()].copy_from_slice(now);
            self.bytes += now.len() as u64;
            if at + now.len() == BLOCK {
                self.mix();
            }
            bytes = later;
        }
    }

    /// The hash in hex.
    pub(crate) fn finish(mut self) -> String {
        let bits = self.bytes.wrapping_mul(8);
        self.update(&[0x80]);
        while self.bytes % BLOCK as u64 != LENGTH_AT as u64 {
            self.update(&[0]);
        }
        self.update(&bits.to_be_bytes());
        self.state.iter().map(|word| format!("{word:08x}")).collect()
    }

    /// Mixes a whole block in.
    fn mix(&mut self) {
        let mut words = [0_u32; 80];
        for (word, bytes) in words.iter_mut().zip(self.block.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        for i in 16..80 {
            words[i] = (words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = self.state;
        for (i, word) in words.iter().enumerate() {
            let (chosen, constant) = match i {
                0..20 => ((b & c) | (!b & d), 0x5a82_7999),
                20..40 => (b ^ c ^ d, 0x6ed9_eba1),
                40..60 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(chosen).wrapping_add(e);
            (e, d, c, b) = (d, c, b.rotate_left(30), a);
            a = next.wrapping_add(constant).wrapping_add(*word);
        }
        for (word, mixed) in self.state.iter_mut().zip([a, b, c, d, e]) {
            *word = word.wrapping_add(mixed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha1(bytes: &[u8], step: usize) -> String {
        let mut hash = Sha1::new();
        bytes.chunks(step).for_each(|bytes| hash.update(bytes));
        hash.finish()
    }

    #[test]
    fn hashes_are_those_of_the_standard() {
        // The examples of FIPS 180.
        let two_blocks = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        for step in [1, 3, 64, 1000] {
            assert_eq!(sha1(b"", step), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
            assert_eq!(sha1(b"abc", step), "a9993e364706816aba3e25717850c26c9cd0d89d");
            assert_eq!(sha1(two_blocks, step), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
        }
        assert_eq!(sha1(&vec![b'a'; 1_000_000], 777), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    }
}
