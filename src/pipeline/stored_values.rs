//! Numbers of a tensor as its file has them, decoded.

use std::ops::Range;

use crate::error::Result;
use crate::storage::source::Source;
use crate::tensor::dtype::bytes_of;
use crate::tensor::numbers::decoded;
use crate::tensor::reference::TensorRef;

/// Some of a tensor's elements, decoded.
pub(crate) fn read_values(source: &dyn Source, tensor: &TensorRef, elements: Range<u64>) -> Result<Vec<f64>> {
    let size = bytes_of(tensor.dtype, 1).expect("numbers are whole bytes");
    let mut bytes = vec![0; ((elements.end - elements.start) * size) as usize];
    source.read_at(&mut bytes, tensor.offset + elements.start * size)?;
    Ok(decoded(tensor.dtype, &bytes))
}
