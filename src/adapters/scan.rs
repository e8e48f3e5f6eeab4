//! One pass over an adapter's file before anything is planned on it: its hash, and which tensors are all zero or not finite.
//!
//! The hash is needed anyway (an adapter's identity is its content), and the same read finds what would otherwise stop a
//! merge after hours.

use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::encodings;
use crate::error::Result;
use crate::kernels::Kernels;
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

/// What one tensor holds. Tensors of types that are no plain floats count as finite, and neither zero nor one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorContents {
    /// Every value is finite.
    pub finite: bool,
    /// Every value is zero.
    pub zero: bool,
    /// Every value is one.
    pub one: bool,
}

/// Buffers between reading and looking, which take turns with two cores.
const BUFFERS: usize = 3;

/// Some bytes of a tensor, or of what stands before the first.
struct Piece {
    tensor: Option<usize>,
    bytes: Vec<u8>,
    len: usize,
}

/// Reads all of an adapter once, in order, while another thread looks at what was read.
///
/// # Errors
/// As [`crate::storage::Source::read_at`].
pub fn scan(adapter: &Adapter) -> Result<Contents> {
    thread::scope(|scope| {
        let (full, pieces) = bounded(BUFFERS);
        let (spare, empty) = bounded(BUFFERS);
        for _ in 0..BUFFERS {
            // There is room for as many as there are.
            let _ = spare.send(vec![0; STEP]);
        }
        let reader = scope.spawn(move || read(adapter, &empty, &full));
        let contents = look(adapter, &pieces, &spare);
        drop((pieces, spare));
        match reader.join() {
            Ok(read) => read.map(|()| contents),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Reads the file piece by piece; no piece is of two tensors. Ends quietly when nobody looks any more.
fn read(adapter: &Adapter, empty: &Receiver<Vec<u8>>, full: &Sender<Piece>) -> Result<()> {
    let source = adapter.source.as_ref();
    let data_start = adapter.tensors.first().map_or(source.len(), |first| first.tensor.offset);
    let tensors = adapter.tensors.iter().enumerate();
    let tensors = tensors.map(|(i, tensor)| (Some(i), tensor.tensor.offset, tensor.tensor.bytes()));
    for (tensor, start, len) in std::iter::once((None, 0, data_start)).chain(tensors) {
        for at in (0..len).step_by(STEP) {
            let Ok(mut bytes) = empty.recv() else { return Ok(()) };
            let len = (len - at).min(STEP as u64) as usize;
            source.read_at(&mut bytes[..len], start + at)?;
            if full.send(Piece { tensor, bytes, len }).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Hashes every piece and looks at its values.
fn look(adapter: &Adapter, pieces: &Receiver<Piece>, spare: &Sender<Vec<u8>>) -> Contents {
    let (mut hasher, kernels) = (blake3::Hasher::new(), Kernels::detect());
    let mut values = vec![0.0; STEP / 2];
    let encodings: Vec<_> =
        adapter.tensors.iter().map(|tensor| encodings::plain(tensor.tensor.dtype)).collect();
    let untouched = |encoding: &Option<_>| {
        let is_plain = encoding.is_some();
        TensorContents { finite: true, zero: is_plain, one: is_plain }
    };
    let mut tensors: Vec<TensorContents> = encodings.iter().map(untouched).collect();
    for Piece { tensor, bytes, len } in pieces {
        let piece = &bytes[..len];
        hasher.update(piece);
        if let Some(i) = tensor
            && let Some(encoding) = encodings[i]
        {
            let size = bytes_of(adapter.tensors[i].tensor.dtype, 1).expect("whole bytes") as usize;
            let values = &mut values[..len / size];
            tensors[i].finite &= encoding.decode_flat(kernels, piece, values);
            tensors[i].zero &= values.iter().all(|&value| value == 0.0);
            tensors[i].one &= values.iter().all(|&value| value == 1.0);
        }
        // The reader may be done.
        let _ = spare.send(bytes);
    }
    Contents { hash: hasher.finalize().to_hex().to_string(), tensors }
}
