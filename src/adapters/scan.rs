//! One pass over an adapter's file before anything is planned on it: its hash, and which tensors are all zero or not finite.
//!
//! The hash is needed anyway (an adapter's identity is its content), and the same read finds what would otherwise stop a
//! merge after hours.

use crate::encodings;
use crate::error::Result;
use crate::kernels::Kernels;
use crate::storage::Source;
use crate::tensor::bytes_of;

use super::Adapter;

/// Bytes read at a time; a multiple of every element's size.
const STEP: usize = 1 << 18;

/// What one pass over the file showed.
#[derive(Clone, Debug)]
pub struct Contents {
    /// BLAKE3 of the whole file, in hex.
    pub hash: String,
    /// For each tensor, in the adapter's order.
    pub tensors: Vec<TensorContents>,
}

/// What one tensor holds. Tensors of types that are no plain floats count as finite and not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorContents {
    /// Every value is finite.
    pub finite: bool,
    /// Every value is zero.
    pub zero: bool,
}

/// Reads all of an adapter once, in order.
///
/// # Errors
/// As [`Source::read_at`].
pub fn scan(adapter: &Adapter) -> Result<Contents> {
    let source = adapter.source.as_ref();
    let (mut hasher, kernels) = (blake3::Hasher::new(), Kernels::detect());
    let (mut bytes, mut values) = (vec![0; STEP], vec![0.0; STEP / 2]);
    let data_start = adapter.tensors.first().map_or(source.len(), |first| first.tensor.offset);
    read_through(source, 0, data_start, &mut bytes, |piece| {
        hasher.update(piece);
    })?;
    let mut tensors = Vec::with_capacity(adapter.tensors.len());
    for tensor in &adapter.tensors {
        let mut contents = TensorContents { finite: true, zero: true };
        let encoding = encodings::plain(tensor.tensor.dtype);
        contents.zero = encoding.is_some();
        read_through(source, tensor.tensor.offset, tensor.tensor.bytes(), &mut bytes, |piece| {
            hasher.update(piece);
            let Some(encoding) = encoding else { return };
            let size = bytes_of(tensor.tensor.dtype, 1).expect("whole bytes") as usize;
            let values = &mut values[..piece.len() / size];
            contents.finite &= encoding.decode_flat(kernels, piece, values);
            contents.zero &= values.iter().all(|&value| value == 0.0);
        })?;
        tensors.push(contents);
    }
    Ok(Contents { hash: hasher.finalize().to_hex().to_string(), tensors })
}

fn read_through(
    source: &dyn Source,
    start: u64,
    len: u64,
    buf: &mut [u8],
    mut piece: impl FnMut(&[u8]),
) -> Result<()> {
    let mut at = 0;
    while at < len {
        let step = (len - at).min(buf.len() as u64) as usize;
        source.read_at(&mut buf[..step], start + at)?;
        piece(&buf[..step]);
        at += step as u64;
    }
    Ok(())
}
