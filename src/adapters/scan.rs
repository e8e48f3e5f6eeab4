//! One pass over an adapter's file before anything is planned on it: its hash, and which tensors are all zero or not finite.
//!
//! The hash is needed anyway (an adapter's identity is its content), and the same read finds what would otherwise stop a
//! merge after hours.

use crate::cancel::Cancel;
use crate::encodings;
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::tensor::dtype::bytes_of;

use crate::adapters::adapter::{Adapter, AdapterTensor};

/// Bytes read at a time: so few that they are still in the cache when they are looked at.
const STEP: usize = 1 << 16;

/// What one pass over the file showed.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    /// BLAKE3 of the whole file, in hex.
    pub hash: String,
    /// For each tensor, in the adapter's order.
    pub tensors: Vec<TensorContents>,
}

/// What one tensor holds. Tensors of types that are no plain floats count as finite, and neither zero nor one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TensorContents {
    /// Every value is finite.
    pub finite: bool,
    /// Every value is zero.
    pub zero: bool,
    /// Every value is one.
    pub one: bool,
}

/// Reads all of an adapter once, in order.
///
/// # Errors
/// As [`crate::storage::source::Source::read_at`]; [`crate::error::kind::ErrorKind::Stopped`] when it is cancelled.
pub(crate) fn scan(adapter: &Adapter, cancel: &Cancel) -> Result<Contents> {
    let source = adapter.source.as_ref();
    let mut hasher = blake3::Hasher::new();
    let mut look = ValueScan::new(&adapter.tensors);
    let mut buf = vec![0; STEP];
    let mut at = 0;
    while at < source.len() {
        cancel.check()?;
        let len = (source.len() - at).min(STEP as u64) as usize;
        source.read_at(&mut buf[..len], at)?;
        let taken = look.take(at, &buf[..len]);
        hasher.update(&buf[..taken]);
        at += taken as u64;
    }
    Ok(Contents { hash: hasher.finalize().to_hex().to_string(), tensors: look.found })
}

/// What was seen of an adapter's tensors so far.
struct ValueScan<'a> {
    tensors: &'a [AdapterTensor],
    found: Vec<TensorContents>,
    /// The tensor that is looked at.
    next: usize,
    kernels: Kernels,
    values: Vec<f32>,
}

impl<'a> ValueScan<'a> {
    fn new(tensors: &'a [AdapterTensor]) -> ValueScan<'a> {
        let unseen = |tensor: &AdapterTensor| {
            let is_plain = encodings::plain(tensor.tensor.dtype).is_some();
            TensorContents { finite: true, zero: is_plain, one: is_plain }
        };
        let found = tensors.iter().map(unseen).collect();
        ValueScan { tensors, found, next: 0, kernels: Kernels::detect(), values: vec![0.0; STEP / 2] }
    }

    /// Looks at bytes that start `at` in the file; returns how many, as the last element may go on behind them.
    fn take(&mut self, at: u64, bytes: &[u8]) -> usize {
        let end = at + bytes.len() as u64;
        let mut taken = at;
        while let Some(AdapterTensor { tensor, .. }) = self.tensors.get(self.next) {
            // Other bytes may stand between two.
            taken = taken.max(tensor.offset);
            if taken >= end {
                break;
            }
            let until = tensor.offset + tensor.bytes();
            // Other types are of no more than one element as far as anybody looks at them.
            let size = encodings::plain(tensor.dtype).and_then(|_| bytes_of(tensor.dtype, 1)).unwrap_or(1);
            let part = (until.min(end) - taken) / size * size;
            let from = (taken - at) as usize;
            self.see(self.next, &bytes[from..from + part as usize], size as usize);
            taken += part;
            if taken < until {
                break;
            }
            self.next += 1;
            // Of two names of one tensor the second has what was seen.
            while self
                .tensors
                .get(self.next)
                .is_some_and(|next| next.tensor == self.tensors[self.next - 1].tensor)
            {
                self.found[self.next] = self.found[self.next - 1];
                self.next += 1;
            }
        }
        let end = if self.next < self.tensors.len() { taken.min(end) } else { end };
        (end - at) as usize
    }

    fn see(&mut self, i: usize, bytes: &[u8], size: usize) {
        let Some(encoding) = encodings::plain(self.tensors[i].tensor.dtype) else { return };
        let found = &mut self.found[i];
        let values = &mut self.values[..bytes.len() / size];
        found.finite &= encoding.decode_flat(self.kernels, bytes, values);
        found.zero &= values.iter().all(|&value| value == 0.0);
        found.one &= values.iter().all(|&value| value == 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::parts::Grammar;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    #[test]
    fn whatever_the_pieces_the_same_is_seen() {
        // A header of 3 bytes, so that no element is aligned; then zeros, ones, bytes, nothing, an infinity.
        let half =
            |values: &[f32]| values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
        let single = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let parts: [(Dtype, Vec<u8>); 5] = [
            (Dtype::F16, half(&[0.0, -0.0, 0.0])),
            (Dtype::F32, single(&[1.0; 5])),
            (Dtype::U8, vec![0; 7]),
            (Dtype::F32, Vec::new()),
            (Dtype::F16, half(&[1.0, f32::INFINITY])),
        ];
        let (mut file, mut tensors) = (vec![9; 3], Vec::new());
        for (dtype, bytes) in &parts {
            let elements = bytes.len() * 8 / dtype.bitsize();
            let shape = Shape::new(&[elements as u64]).expect("small");
            let tensor = TensorRef { file: FileId(0), offset: file.len() as u64, dtype: *dtype, shape };
            tensors.push(AdapterTensor::new("".into(), "", &Grammar::of("LORA"), tensor));
            file.extend_from_slice(bytes);
            // What stands between two is none's, and no number.
            file.extend([0xff; 5]);
        }
        let of = |finite, zero, one| TensorContents { finite, zero, one };
        let right = [
            of(true, true, false),
            of(true, false, true),
            of(true, false, false),
            of(true, true, true),
            of(false, false, false),
        ];
        for step in 4..=file.len() {
            let (mut look, mut at) = (ValueScan::new(&tensors), 0);
            while at < file.len() {
                let taken = look.take(at as u64, &file[at..(at + step).min(file.len())]);
                assert!(taken > 0, "pieces of {step} at {at}");
                at += taken;
            }
            assert_eq!(look.found, right, "pieces of {step}");
        }
    }
}
