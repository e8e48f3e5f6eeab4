//! Codes of −1, 0 and 1: digits to the base of three, five in a byte, the first the highest.
//!
//! A byte is the number of its digits as a fraction of 3⁵, times 256 and rounded up, so that each digit falls out as a carry when
//! the byte is multiplied by 3.
//!
//! ```text
//! bytes 0 to 31    digit k of byte m is value 32k + m, k up to 4
//! bytes 32 to 47   160 + 16k + m
//! bytes 48 to 51   240 + 4k + m, k up to 3
//! ```

/// The first value and byte of each stretch, its bytes, and digits in each.
const STRETCHES: [(usize, usize, usize, usize); 3] = [(0, 0, 32, 5), (160, 32, 16, 5), (240, 48, 4, 4)];
/// 3⁵.
const NUMBERS: u16 = 243;

/// Reads the codes of a block.
pub(crate) fn read(block: &[u8], codes: &mut [i8]) {
    for (value, byte, width, digits) in STRETCHES {
        for (m, byte) in block[byte..byte + width].iter().enumerate() {
            let mut rest = *byte;
            for k in 0..digits {
                let times = u16::from(rest) * 3;
                codes[value + width * k + m] = (times >> 8) as i8 - 1;
                rest = times as u8;
            }
        }
    }
}

/// Stores the codes of a block.
pub(crate) fn write(codes: &[i8], block: &mut [u8]) {
    for (value, byte, width, digits) in STRETCHES {
        for (m, byte) in block[byte..byte + width].iter_mut().enumerate() {
            let digit = |k| if k < digits { (codes[value + width * k + m] + 1) as u16 } else { 0 };
            let number = (0..5).fold(0, |number, k| number * 3 + digit(k));
            *byte = (number * 256).div_ceil(NUMBERS) as u8;
        }
    }
}
