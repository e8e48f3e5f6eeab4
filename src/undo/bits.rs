//! Numbers of a few bits: written one behind the other, the lowest bit of a byte first, and read back from bytes as they come.
//!
//! Two codes for numbers that are mostly small: Rice's (a number over `2^k` in ones, the rest in `k` bits), for gaps of one
//! mean, and Elias' gamma, for numbers of which each is about half as likely as half of it.

use crate::error::Result;

/// Bits that are written.
pub(crate) struct BitWriter<'w> {
    to: &'w mut Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter<'_> {
    /// Behind the bytes that are there.
    pub(crate) fn new(to: &mut Vec<u8>) -> BitWriter<'_> {
        BitWriter { to, held: 0, count: 0 }
    }

    /// The lowest `count` bits of `value`, 32 at the most.
    pub(crate) fn put(&mut self, value: u64, count: u32) {
        self.held |= (value & ((1 << count) - 1)) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.to.push(self.held as u8);
            self.held >>= 8;
            self.count -= 8;
        }
    }

    /// A number in Rice's code.
    pub(crate) fn put_rice(&mut self, value: u64, k: u32) {
        for _ in 0..value >> k {
            self.put(1, 1);
        }
        self.put(0, 1);
        self.put(value, k);
    }

    /// A number from 1 on, of 33 bits at the most, in Elias' gamma code.
    pub(crate) fn put_gamma(&mut self, value: u64) {
        let below = value.ilog2();
        self.put_rice(u64::from(below), 0);
        self.put(value, below);
    }

    /// Fills the last byte with zeros.
    pub(crate) fn finish(mut self) {
        self.put(0, (8 - self.count % 8) % 8);
    }
}

/// Bits that are read.
pub(crate) struct BitReader<'r> {
    from: &'r mut dyn FnMut() -> Result<u8>,
    held: u64,
    count: u32,
}

impl<'r> BitReader<'r> {
    /// Of the bytes that `from` gives.
    pub(crate) fn new(from: &'r mut dyn FnMut() -> Result<u8>) -> BitReader<'r> {
        BitReader { from, held: 0, count: 0 }
    }

    /// The next `count` bits, 32 at the most.
    ///
    /// # Errors
    /// What `from` fails with.
    pub(crate) fn take(&mut self, count: u32) -> Result<u64> {
        while self.count < count {
            self.held |= u64::from((self.from)()?) << self.count;
            self.count += 8;
        }
        let value = self.held & ((1 << count) - 1);
        self.held >>= count;
        self.count -= count;
        Ok(value)
    }

    /// A number in Rice's code; none if there is no end of its ones before `most` of them.
    ///
    /// # Errors
    /// What the bytes fail with.
    pub(crate) fn take_rice(&mut self, k: u32, most: u64) -> Result<Option<u64>> {
        let mut ones = 0;
        while self.take(1)? == 1 {
            ones += 1;
            if ones > most {
                return Ok(None);
            }
        }
        Ok(Some(ones << k | self.take(k)?))
    }

    /// A number in Elias' gamma code; none if it has more than 33 bits.
    ///
    /// # Errors
    /// What the bytes fail with.
    pub(crate) fn take_gamma(&mut self) -> Result<Option<u64>> {
        let Some(below) = self.take_rice(0, 32)? else { return Ok(None) };
        Ok(Some(1 << below | self.take(below as u32)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_whatever_lies_before_them() {
        let numbers: Vec<u64> =
            (0..=32).flat_map(|bit| [1 << bit, (1 << bit) + 1, (2 << bit) - 1]).filter(|n| *n > 0).collect();
        for lead in 0..9 {
            let mut bytes = vec![7];
            let mut to = BitWriter::new(&mut bytes);
            to.put(0, lead);
            for &number in &numbers {
                to.put_gamma(number);
                to.put_rice(number % 1000, lead);
                to.put(number, 13);
            }
            to.finish();
            let mut left = bytes[1..].iter().copied();
            let mut next = || Ok(left.next().expect("as many as were written"));
            let mut from = BitReader::new(&mut next);
            assert_eq!(from.take(lead).unwrap(), 0);
            for &number in &numbers {
                assert_eq!(from.take_gamma().unwrap(), Some(number), "{lead}");
                assert_eq!(from.take_rice(lead, 1000).unwrap(), Some(number % 1000), "{lead}");
                assert_eq!(from.take(13).unwrap(), number % (1 << 13));
            }
            assert_eq!(left.next(), None);
        }
    }

    #[test]
    fn ones_without_an_end_are_no_number() {
        let mut ones = || Ok(0xff);
        assert_eq!(BitReader::new(&mut ones).take_rice(3, 100).unwrap(), None);
        assert_eq!(BitReader::new(&mut ones).take_gamma().unwrap(), None);
    }
}
