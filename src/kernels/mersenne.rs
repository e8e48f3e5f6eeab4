//! torch's random numbers on a CPU: MT19937 (Matsumoto and Nishimura 1998), and the first places of a permutation that it is drawn by.
//!
//! torch seeds it with the last 32 bits of a seed, and draws a permutation in two ways by its length (`randperm`): a short one from the front, so that
//! its first places take no more draws than there are; a long one inside out, so that each of all draws may change them.

use std::collections::HashMap;

/// Words of the state.
const WORDS: usize = 624;
/// From which word on another is mixed in.
const APART: usize = 397;
/// The length from which on permutations are drawn inside out.
const LONG: u64 = u32::MAX as u64 / 20;

/// A generator.
pub(crate) struct Mersenne {
    state: [u32; WORDS],
    next: usize,
}

impl Mersenne {
    /// One that was seeded.
    pub(crate) fn new(seed: u32) -> Mersenne {
        let mut state = [seed; WORDS];
        for i in 1..WORDS {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        Mersenne { state, next: WORDS }
    }

    /// Makes the next state.
    fn turn(&mut self) {
        for i in 0..WORDS {
            let both = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % WORDS] & 0x7fff_ffff);
            let mixed = self.state[(i + APART) % WORDS] ^ (both >> 1);
            self.state[i] = if both & 1 == 0 { mixed } else { mixed ^ 0x9908_b0df };
        }
        self.next = 0;
    }

    /// The next 32 bits.
    pub(crate) fn word(&mut self) -> u64 {
        if self.next == WORDS {
            self.turn();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        u64::from(word ^ (word >> 18))
    }

    /// Leaves out so many words.
    pub(crate) fn skip(&mut self, words: u64) {
        for _ in 0..words {
            self.word();
        }
    }

    /// The next number from 0 up to 1, of 24 bits, as torch draws an f32.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.word() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    /// The next 64 bits: the first word is the higher half.
    fn long(&mut self) -> u64 {
        let high = self.word();
        high << 32 | self.word()
    }
}

/// The first `count` places of torch's random permutation of `len` numbers.
pub(crate) fn first_places(seed: u32, len: u64, count: usize) -> Vec<u64> {
    let count = count.min(usize::try_from(len).unwrap_or(count));
    if len < LONG { from_the_front(seed, len, count) } else { inside_out(seed, len, count) }
}

/// Each place is exchanged for one of those behind it, or stays.
fn from_the_front(seed: u32, len: u64, count: usize) -> Vec<u64> {
    let mut generator = Mersenne::new(seed);
    // What lies at places that were exchanged.
    let mut moved = HashMap::new();
    let mut places = Vec::with_capacity(count);
    for here in 0..count as u64 {
        let there = here + generator.word() % (len - here);
        let at = |moved: &HashMap<u64, u64>, place: u64| moved.get(&place).copied().unwrap_or(place);
        places.push(at(&moved, there));
        let was_here = at(&moved, here);
        moved.insert(there, was_here);
    }
    places
}

/// Each number comes to a place of those before it, or its own, and what was there to its own.
fn inside_out(seed: u32, len: u64, count: usize) -> Vec<u64> {
    let mut generator = Mersenne::new(seed);
    let mut places = vec![0; count];
    for number in 0..len {
        let there = generator.long() % (number + 1);
        if number < count as u64 {
            places[number as usize] = places[there as usize];
        }
        if there < count as u64 {
            places[there as usize] = number;
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_paper_s_program() {
        let mut generator = Mersenne::new(5489);
        assert_eq!(generator.word(), 3_499_211_612);
        for _ in 0..9_998 {
            generator.word();
        }
        assert_eq!(generator.word(), 4_123_659_995, "the ten thousandth");
    }

    #[test]
    fn first_places_are_torch_s() {
        // torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:8]
        assert_eq!(first_places(777, 1000, 8), [735, 819, 201, 799, 435, 497, 175, 590]);
        assert_eq!(first_places(5, 288, 8), [35, 251, 167, 3, 134, 250, 172, 154]);
        let longest = [11440646, 199500216, 10121607, 3119241, 51696020, 155711086, 42349920, 206414740];
        assert_eq!(first_places(777, LONG - 1, 8), longest, "the longest that is drawn from the front");
        assert_eq!(first_places(0, 5, 5), [4, 0, 1, 3, 2]);
        assert_eq!(first_places(0, 5, 9), [4, 0, 1, 3, 2], "no more than there are");
    }

    #[test]
    fn inside_out_places_are_those_of_the_whole_permutation() {
        let mut generator = Mersenne::new(3);
        let mut whole: Vec<u64> = Vec::new();
        for number in 0..500u64 {
            let there = (generator.long() % (number + 1)) as usize;
            whole.push(number);
            whole[number as usize] = whole[there];
            whole[there] = number;
        }
        for count in [0, 1, 7, 500] {
            assert_eq!(inside_out(3, 500, count), whole[..count]);
        }
    }
}
