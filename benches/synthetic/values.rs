//! Made-up values, fast: drawing every element would take longer than writing it.
//!
//! Each tensor gets a block of up to 4 MiB drawn from its own seed. A longer tensor repeats the block, turned by a
//! different odd number of elements each time, so that no two rows are the same.

use std::io::{self, Write};

use half::{bf16, f16};
use safetensors::Dtype;

use super::{Normal, Tensor};

/// Bytes of the block that a tensor repeats.
const BLOCK_BYTES: u64 = 4 << 20;

/// Writes the values of tensors; holds the one block that is reused for all of them.
pub(super) struct Source {
    seed: u64,
    block: Vec<u8>,
}

impl Source {
    /// Values that depend on `seed` and on each tensor's name, not on the order of the calls.
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, block: Vec::new() }
    }

    /// Writes all bytes of one tensor.
    pub(super) fn write(&mut self, tensor: &Tensor, out: &mut impl Write) -> io::Result<()> {
        let mut random = SplitMix(self.seed ^ fnv1a(&tensor.name));
        let mut left = tensor.bytes();
        let width = tensor.dtype.bitsize() / 8;
        self.block.resize(left.min(BLOCK_BYTES) as usize, 0);
        fill(&mut self.block, tensor.dtype, tensor.values, &mut random);
        let elements = self.block.len() / width;
        let mut first = 0;
        while left > 0 {
            let turned = [&self.block[first * width..], &self.block[..first * width]];
            for piece in turned {
                let take = (piece.len() as u64).min(left) as usize;
                out.write_all(&piece[..take])?;
                left -= take as u64;
            }
            first = (random.next() as usize | 1) % elements;
        }
        Ok(())
    }
}

/// Fills a block with little-endian elements of `dtype`.
fn fill(block: &mut [u8], dtype: Dtype, values: Normal, random: &mut SplitMix) {
    match dtype {
        Dtype::BF16 => each(block, || bf16::from_f32(random.normal(values)).to_le_bytes()),
        Dtype::F16 => each(block, || f16::from_f32(random.normal(values)).to_le_bytes()),
        Dtype::F32 => each(block, || random.normal(values).to_le_bytes()),
        Dtype::F8_E4M3 => each(block, || [e4m3(random.normal(values))]),
        other => unreachable!("no model here has tensors of {other:?}"),
    }
}

/// Sets every `N` bytes of a block.
fn each<const N: usize>(block: &mut [u8], mut element: impl FnMut() -> [u8; N]) {
    for bytes in block.as_chunks_mut::<N>().0 {
        *bytes = element();
    }
}

/// The code nearest to a value, at most that of 448: never one of the two that mean "not a number".
fn e4m3(value: f32) -> u8 {
    let exponent = value.abs().log2().floor().max(-6.0); // below 2⁻⁶ the steps no longer get smaller
    let steps = (value.abs() * (3.0 - exponent).exp2()).round_ties_even();
    let code = (exponent + 6.0) * 8.0 + steps; // from 8 to 16 steps in each binade: the exponent is one too low
    code.min(f32::from(0x7e_u8)) as u8 | if value < 0.0 { 0x80 } else { 0 }
}

/// Steele, Lea and Flood's generator (OOPSLA 2014): one multiply-xor chain per 64 bits, any seed is good.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The sum of four 16-bit draws: nearly normal, and never beyond 3.5 deviations.
    fn normal(&mut self, values: Normal) -> f32 {
        /// Mean of the sum, and its deviation: 2¹⁶ · √(4/12).
        const MEAN: f32 = 131_070.0;
        const STD: f32 = 37_837.2;
        let bits = self.next();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        values.mean + (sum as f32 - MEAN) * (values.std / STD)
    }
}

/// A name's hash: makes the values of a tensor independent of where it stands.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
