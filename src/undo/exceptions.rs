//! Exceptions of a block of elements: where what was made is not what it should be, and by how much. Of bytes in memory, by
//! nothing but these: a pure function each way.
//!
//! A block is the length of its body, and the body: nothing where there are no exceptions, else a byte that is the parameter of
//! the gaps, their count, and bits. For each exception stand the elements before it since the last, in Rice's code, the distance
//! in Elias' gamma code, and its sign. The distance is counted in codes as they are ordered by value, so that the next larger
//! number is 1 away, in the next binade and beyond zero too: most distances are 1. Where that takes more bytes than what should
//! be there, the body is [`WHOLE`] and this.
//!
//! At one exception in a hundred elements of 16 bits that is 10 bits for each, 0.6 % of the bytes.

use crate::error::Result;
use crate::undo::bits::{BitReader, BitWriter};

/// The first byte of a body that is what should be there.
pub(crate) const WHOLE: u8 = u8::MAX;
/// Bytes that are compared before elements are looked at: few enough that most of them are equal.
const STEP: usize = 64;
/// The largest parameter of gaps.
const MOST_PARAMETER: u32 = 31;

/// Adds the block of `made`, which should be `wanted`, to `to`. Elements have `width` bytes, 4 at the most. `body` is used on the
/// way.
pub(crate) fn write_block(
    wanted: &[u8],
    made: &[u8],
    width: usize,
    (body, to): (&mut Vec<u8>, &mut Vec<u8>),
) {
    body.clear();
    let mut count = 0_u64;
    each(wanted, made, width, &mut |_, _| count += 1);
    if count > 0 {
        let elements = (wanted.len() / width) as u64;
        let parameter = (elements * 2 / (count * 3)).max(1).ilog2().min(MOST_PARAMETER);
        body.push(parameter as u8);
        put_number(count, body);
        write_exceptions(wanted, made, width, parameter, body);
        if body.len() > wanted.len() {
            body.clear();
            body.push(WHOLE);
            body.extend_from_slice(wanted);
        }
    }
    put_number(body.len() as u64, to);
    to.extend_from_slice(body);
}

fn write_exceptions(wanted: &[u8], made: &[u8], width: usize, parameter: u32, body: &mut Vec<u8>) {
    let (mut bits, mut next) = (BitWriter::new(body), 0);
    each(wanted, made, width, &mut |at, distance| {
        bits.put_rice(at - next, parameter);
        bits.put_gamma(distance.unsigned_abs());
        bits.put(u64::from(distance < 0), 1);
        next = at + 1;
    });
    bits.finish();
}

/// Calls `found` with the place of every element that is not what it should be, and how far what it should be is from it.
fn each(wanted: &[u8], made: &[u8], width: usize, found: &mut dyn FnMut(u64, i64)) {
    let step = STEP / width * width;
    for (i, (wanted, made)) in wanted.chunks(step).zip(made.chunks(step)).enumerate() {
        if wanted == made {
            continue;
        }
        let first = (i * step / width) as u64;
        for (at, (wanted, made)) in (first..).zip(wanted.chunks_exact(width).zip(made.chunks_exact(width))) {
            if wanted != made {
                found(at, distance(load(wanted), load(made), width));
            }
        }
    }
}

/// Exceptions that are read.
pub(crate) struct ExceptionReader<'r> {
    bits: BitReader<'r>,
    parameter: u32,
    left: u64,
    elements: u64,
    next: u64,
}

impl<'r> ExceptionReader<'r> {
    /// Of a body that is not [`WHOLE`], whose first byte was `parameter`, of a block of so many elements; none if there can be no
    /// such body.
    ///
    /// # Errors
    /// What `from` fails with.
    pub(crate) fn new(
        parameter: u8,
        elements: u64,
        from: &'r mut dyn FnMut() -> Result<u8>,
    ) -> Result<Option<ExceptionReader<'r>>> {
        let left = take_number(from)?.filter(|left| *left <= elements);
        let parameter = Some(u32::from(parameter)).filter(|parameter| *parameter <= MOST_PARAMETER);
        let Some((left, parameter)) = left.zip(parameter) else { return Ok(None) };
        Ok(Some(ExceptionReader { bits: BitReader::new(from), parameter, left, elements, next: 0 }))
    }

    /// Puts `made` right, the elements of the block from the one with the number `first` on; false if there can be no such
    /// exceptions.
    ///
    /// # Errors
    /// What reading fails with.
    pub(crate) fn put_right(mut self, made: &mut [u8], first: u64, width: usize) -> Result<bool> {
        let end = first + (made.len() / width) as u64;
        while self.left > 0 {
            let gap = self.bits.take_rice(self.parameter, self.elements >> self.parameter)?;
            let Some(at) = gap.map(|gap| self.next + gap).filter(|at| *at < self.elements) else {
                return Ok(false);
            };
            let Some(size) = self.bits.take_gamma()? else { return Ok(false) };
            let size = size as i64;
            let distance = if self.bits.take(1)? == 1 { -size } else { size };
            (self.next, self.left) = (at + 1, self.left - 1);
            if at >= end {
                break;
            }
            if at >= first {
                let at = (at - first) as usize * width;
                moved(&mut made[at..at + width], distance);
            }
        }
        Ok(true)
    }
}

/// A number, seven bits to a byte, the highest bit of all but the last set.
pub(crate) fn put_number(mut number: u64, to: &mut Vec<u8>) {
    while number >= 1 << 7 {
        to.push(number as u8 | 1 << 7);
        number >>= 7;
    }
    to.push(number as u8);
}

/// A number as [`put_number`] writes it; none if it is none of less than 35 bits.
///
/// # Errors
/// What `from` fails with.
pub(crate) fn take_number(from: &mut dyn FnMut() -> Result<u8>) -> Result<Option<u64>> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let byte = from()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 1 << 7 {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn load(element: &[u8]) -> u64 {
    element.iter().rev().fold(0, |code, &byte| code << 8 | u64::from(byte))
}

/// The sign of codes of that width, and all of their bits.
fn masks(width: usize) -> (u64, u64) {
    let sign = 1 << (8 * width - 1);
    (sign, sign | (sign - 1))
}

/// The place of a code among all of its width, ordered as the numbers are; its own inverse but for which half is turned.
fn place(code: u64, width: usize) -> u64 {
    let (sign, all) = masks(width);
    if code & sign == 0 { code | sign } else { !code & all }
}

fn code_at(place: u64, width: usize) -> u64 {
    let (sign, all) = masks(width);
    if place & sign == 0 { !place & all } else { place & !sign }
}

/// How many places one code is behind another, around the end if that is nearer.
fn distance(wanted: u64, made: u64, width: usize) -> i64 {
    let unused = 64 - 8 * width as u32;
    let apart = place(wanted, width).wrapping_sub(place(made, width));
    (apart << unused) as i64 >> unused
}

/// Moves an element by so many places.
fn moved(element: &mut [u8], distance: i64) {
    let width = element.len();
    let place = place(load(element), width).wrapping_add(distance as u64) & masks(width).1;
    element.copy_from_slice(&code_at(place, width).to_le_bytes()[..width]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any bytes, the same each time.
    fn bytes(count: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    /// What the block of both holds, and `made` from element `first` on put right by it.
    fn put_right(
        wanted: &[u8],
        made: &[u8],
        width: usize,
        range: std::ops::Range<usize>,
    ) -> (usize, Vec<u8>) {
        let (mut body, mut block) = (Vec::new(), Vec::new());
        write_block(wanted, made, width, (&mut body, &mut block));
        let mut left = block.iter().copied();
        let mut next = || Ok(left.next().expect("no more is read than was written"));
        let len = take_number(&mut next).unwrap().unwrap() as usize;
        let mut right = made[range.start * width..range.end * width].to_vec();
        if len > 0 {
            let parameter = next().unwrap();
            if parameter == WHOLE {
                let whole = &block[block.len() - wanted.len()..];
                return (block.len(), whole[range.start * width..range.end * width].to_vec());
            }
            let reader = ExceptionReader::new(parameter, (wanted.len() / width) as u64, &mut next);
            assert!(reader.unwrap().unwrap().put_right(&mut right, range.start as u64, width).unwrap());
        }
        (block.len(), right)
    }

    #[test]
    fn what_was_made_becomes_what_it_should_be() {
        for width in [1, 2, 4] {
            for every in [1, 2, 7, 100, 5000, usize::MAX] {
                let wanted = bytes(6000 * width, 1);
                let mut made = wanted.clone();
                // Neighbors mostly, and now and then any other.
                for (i, element) in
                    made.chunks_exact_mut(width).enumerate().filter(|(i, _)| (i + 1) % every == 0)
                {
                    match i % 5 {
                        0 => element.copy_from_slice(&bytes(width, i as u64)),
                        i => moved(element, [1, -1][i % 2]),
                    }
                }
                for range in [0..6000, 0..1, 5999..6000, 100..3456, 3000..3000] {
                    let (_, right) = put_right(&wanted, &made, width, range.clone());
                    assert!(
                        right == wanted[range.start * width..range.end * width],
                        "{width} {every} {range:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_exception_in_a_hundred_takes_ten_bits() {
        let wanted = bytes(2 << 16, 3);
        let mut made = wanted.clone();
        let mut count = 0;
        for (element, chance) in made.chunks_exact_mut(2).zip(bytes(4 << 16, 4).chunks_exact(2)) {
            if load(chance).is_multiple_of(100) {
                moved(element, if chance[1] & 1 == 0 { 1 } else { -1 });
                count += 1;
            }
        }
        let (len, right) = put_right(&wanted, &made, 2, 0..1 << 16);
        assert!(right == wanted);
        assert!(8 * len < count * 103 / 10, "{len} bytes for {count}");
        let (none, _) = put_right(&wanted, &wanted, 2, 0..1 << 16);
        assert_eq!(none, 1);
    }

    #[test]
    fn nothing_takes_more_than_what_should_be_there() {
        for width in [1, 2, 4] {
            let (wanted, made) = (bytes(9000, 5), bytes(9000, 6));
            let (len, right) = put_right(&wanted, &made, width, 0..9000 / width);
            assert!(right == wanted && len <= 9000 + 4, "{len}");
        }
    }

    #[test]
    fn neighbors_are_one_apart_across_zero_and_binades() {
        let bf16 = |wanted: u64, made: u64| distance(wanted, made, 2);
        assert_eq!([bf16(0x3f80, 0x3f7f), bf16(0x3f7f, 0x3f80)], [1, -1]);
        assert_eq!([bf16(0x0000, 0x8000), bf16(0x8001, 0x8000), bf16(0x8000, 0x0001)], [1, -1, -2]);
        for code in 0..=u16::MAX {
            assert_eq!(code_at(place(u64::from(code), 2), 2), u64::from(code));
        }
    }

    #[test]
    fn damaged_exceptions_are_refused_and_touch_nothing_else() {
        for seed in 0..200 {
            let damaged = bytes(300, seed);
            let mut left = damaged.iter().copied().chain(std::iter::repeat(0xff));
            let mut next = || Ok(left.next().unwrap_or_default());
            let parameter = next().unwrap();
            let mut made = vec![0; 2000];
            if let Some(reader) = ExceptionReader::new(parameter, 1000, &mut next).unwrap() {
                let _ = reader.put_right(&mut made, 0, 2).unwrap();
            }
        }
    }
}
