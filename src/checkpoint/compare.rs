//! Whether tensors of two files hold the same values, read piece by piece up to the first that differ.

use crate::checkpoint::discover::Checkpoint;
use crate::encodings;
use crate::error::Result;
use crate::kernels::dispatch::Kernels;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::tensor::dtype::bytes_of;
use crate::tensor::reference::TensorRef;

/// Elements that are compared at a time.
const COMPARED: u64 = 1 << 14;

/// Whether the tensor at that place of a base holds the same values as a tensor of another file.
///
/// # Errors
/// As [`Source::read_at`].
pub(crate) fn holds(base: &Checkpoint, place: usize, other: (&dyn Source, &TensorRef)) -> Result<bool> {
    let tensor = &base.catalogue.tensors[place].tensor;
    let source = open(base, tensor)?;
    are_same((source.as_ref(), tensor), other)
}

/// The shard that a tensor of the base is in.
///
/// # Errors
/// As [`Store::open`].
pub(crate) fn open(base: &Checkpoint, tensor: &TensorRef) -> Result<Box<dyn Source>> {
    let shard = &base.catalogue.shards[tensor.file.0 as usize].name;
    base.location.open(shard)
}

/// Whether two tensors hold the same values, whatever their types; types that are no plain floats must be the same.
///
/// # Errors
/// As [`Source::read_at`].
fn are_same(first: (&dyn Source, &TensorRef), second: (&dyn Source, &TensorRef)) -> Result<bool> {
    let (a, b) = (first.1, second.1);
    let encodings = encodings::plain(a.dtype).zip(encodings::plain(b.dtype));
    if a.shape != b.shape || encodings.is_none() && a.dtype != b.dtype {
        return Ok(false);
    }
    let Some((of_a, of_b)) = encodings else {
        return compare(a.bytes(), COMPARED, |at, n| Ok(read(first, at, n)? == read(second, at, n)?));
    };
    let kernels = Kernels::detect();
    let size = |tensor: &TensorRef| bytes_of(tensor.dtype, 1).expect("whole bytes");
    compare(a.shape.elements(), COMPARED, |at, n| {
        let (mut left, mut right) = (vec![0.0; n as usize], vec![0.0; n as usize]);
        of_a.decode_flat(kernels, &read(first, at * size(a), n * size(a))?, &mut left);
        of_b.decode_flat(kernels, &read(second, at * size(b), n * size(b))?, &mut right);
        Ok(left == right)
    })
}

/// Calls `same` on piece after piece until one is not.
fn compare(len: u64, step: u64, mut same: impl FnMut(u64, u64) -> Result<bool>) -> Result<bool> {
    let mut at = 0;
    while at < len {
        let n = step.min(len - at);
        if !same(at, n)? {
            return Ok(false);
        }
        at += n;
    }
    Ok(true)
}

fn read((source, tensor): (&dyn Source, &TensorRef), at: u64, n: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; n as usize];
    source.read_at(&mut bytes, tensor.offset + at)?;
    Ok(bytes)
}
