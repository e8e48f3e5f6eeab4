//! Two tensors of one shape, element by element, through two buffers.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::Result;
use super::folder::{Checkpoint, Located};
use super::number::Number;
use safetensors::Dtype;

/// Bytes read at a time; a multiple of every element's size.
const STEP_BYTES: usize = 4 << 20;

/// The buffers of both sides, reused for all tensors.
#[derive(Default)]
pub(super) struct Buffers([Vec<u8>; 2]);

/// One of the two tensors, ready to be read.
pub(super) struct Side {
    file: File,
    bytes: u64,
    dtype: Dtype,
}

impl Side {
    /// Opens the tensor's file at its first byte.
    pub(super) fn new(checkpoint: &Checkpoint, tensor: &Located) -> Result<Self> {
        let mut file = File::open(&checkpoint.files[tensor.file])?;
        file.seek(SeekFrom::Start(tensor.start))?;
        Ok(Self { file, bytes: tensor.bytes, dtype: tensor.dtype })
    }
}

/// How far two tensors are apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// All elements; for dtypes whose elements we cannot read, all bytes.
    pub(super) elements: u64,
    /// Those whose bytes are not the same (where dtypes differ: whose values are not).
    pub(super) differing: u64,
    /// Those that differ by exactly 1, exactly 2, and more units in the last place.
    pub(super) by_ulps: [u64; 3],
    /// The largest distance in units in the last place; `u64::MAX` if one is not a number or cannot be read.
    pub(super) max_ulps: u64,
    /// The largest absolute difference.
    pub(super) max_abs: f64,
}

impl Difference {
    /// Counts one element that is not the same.
    fn count(&mut self, ulps: u64, abs: f64) {
        self.differing += 1;
        self.max_ulps = self.max_ulps.max(ulps);
        self.max_abs = self.max_abs.max(abs);
        if ulps > 0 {
            self.by_ulps[ulps.min(3) as usize - 1] += 1;
        }
    }
}

/// Compares two tensors of one shape, reading both once.
pub(super) fn compare(sides: &[Side; 2], buffers: &mut Buffers) -> Result<Difference> {
    let [a, b] = sides;
    let numbers = (Number::of(a.dtype), Number::of(b.dtype));
    let widths = match numbers {
        (Some(a), Some(b)) => [a.bytes(), b.bytes()],
        _ => [1, 1],
    };
    let elements = a.bytes / widths[0] as u64;
    let step = (STEP_BYTES / widths[0].max(widths[1])) as u64;
    let mut difference = Difference { elements, ..Difference::default() };
    let mut done = 0;
    while done < elements {
        let count = step.min(elements - done) as usize;
        for ((side, buffer), width) in sides.iter().zip(&mut buffers.0).zip(widths) {
            buffer.resize(count * width, 0);
            (&side.file).read_exact(buffer)?;
        }
        let [left, right] = &buffers.0;
        match numbers {
            (Some(a), Some(b)) if a == b => same_dtype(a, left, right, &mut difference),
            (Some(x), Some(y)) => other_dtype((x, y), (a.dtype, b.dtype), (left, right), &mut difference),
            _ => raw_bytes(left, right, &mut difference),
        }
        done += count as u64;
    }
    Ok(difference)
}

/// Equal stretches, the common case, cost one comparison of memory each.
fn same_dtype(number: Number, left: &[u8], right: &[u8], difference: &mut Difference) {
    /// A multiple of every element's size.
    const STRETCH: usize = 4096;
    for (left, right) in left.chunks(STRETCH).zip(right.chunks(STRETCH)) {
        if left == right {
            continue;
        }
        let width = number.bytes();
        for (a, b) in left.chunks_exact(width).zip(right.chunks_exact(width)) {
            if a != b {
                let (a, b) = (number.read(a), number.read(b));
                difference.count(a.ulps(b), (a.value - b.value).abs());
            }
        }
    }
}

/// Rounds both to the narrower of two dtypes.
fn other_dtype(
    (a, b): (Number, Number),
    dtypes: (Dtype, Dtype),
    (left, right): (&[u8], &[u8]),
    difference: &mut Difference,
) {
    let common = Number::narrower(dtypes.0, dtypes.1).expect("the caller compares only what can be rounded");
    for (left, right) in left.chunks_exact(a.bytes()).zip(right.chunks_exact(b.bytes())) {
        let (left, right) = (common.round(a.read(left).value), common.round(b.read(right).value));
        if left.ulps(right) > 0 {
            difference.count(left.ulps(right), (left.value - right.value).abs());
        }
    }
}

/// For dtypes that we cannot read: any difference is a large one.
fn raw_bytes(left: &[u8], right: &[u8], difference: &mut Difference) {
    for _ in left.iter().zip(right).filter(|(a, b)| a != b) {
        difference.count(u64::MAX, f64::NAN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_in_one_element_is_counted_once() {
        let left = [0x80, 0x3f, 0x00, 0x40];
        let right = [0x81, 0x3f, 0x00, 0x40];
        let mut difference = Difference::default();
        same_dtype(Number::Bf16, &left, &right, &mut difference);
        let expected = Difference {
            differing: 1,
            by_ulps: [1, 0, 0],
            max_ulps: 1,
            max_abs: 1.0 / 128.0,
            ..Difference::default()
        };
        assert_eq!(difference, expected);
    }

    #[test]
    fn zeros_of_either_sign_differ_in_bytes_only() {
        let mut difference = Difference::default();
        same_dtype(Number::F32, &0_f32.to_le_bytes(), &(-0_f32).to_le_bytes(), &mut difference);
        assert_eq!((difference.differing, difference.max_ulps), (1, 0));
    }
}
