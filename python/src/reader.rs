//! The reader of merged tensors, as the module's Python half uses it: bytes into memory that it has made.

use std::ffi::OsString;
use std::ops::Range;

use pyo3::prelude::*;
use shardfold::{Cancel, MergedReader};

use crate::background::{Listener, in_background};

/// A tensor: its name, its type as safetensors calls it, its shape, and its bytes.
type Tensor = (String, String, Vec<u64>, u64);

/// An open reader.
#[pyclass(frozen)]
pub(crate) struct Reader(MergedReader);

#[pymethods]
impl Reader {
    /// Plans the merge that the flags of `merge` ask for; `note` is called with the text of every note.
    #[new]
    fn new(py: Python<'_>, args: Vec<OsString>, note: Bound<'_, PyAny>) -> PyResult<Reader> {
        let cancel = Cancel::default();
        let reader = in_background(py, &cancel, &Listener::default(), |_| {
            MergedReader::open(&shardfold::request_of(&args, &cancel)?)
        })?;
        for text in reader.notes() {
            note.call1((text.to_string(),))?;
        }
        Ok(Reader(reader))
    }

    /// All tensors in the order of the output.
    fn tensors(&self) -> Vec<Tensor> {
        let tensors = self.0.plan().tensors();
        let row = tensors.map(|tensor| {
            let shape = tensor.shape.axes().to_vec();
            (tensor.name.to_string(), tensor.dtype.to_string(), shape, tensor.bytes)
        });
        row.collect()
    }

    /// What the header of the first shard says beside its tensors.
    fn metadata(&self, py: Python<'_>) -> PyResult<Vec<(String, String)>> {
        in_background(py, &Cancel::default(), &Listener::default(), |_| self.0.metadata(0))
    }

    /// Fills the `bytes` bytes of memory at `address` with these ranges of bytes of the tensor `name`. The caller sees to it that
    /// the memory is its own, may be written, and stays until this returns.
    fn read(
        &self,
        py: Python<'_>,
        name: &str,
        ranges: Vec<(u64, u64)>,
        address: usize,
        bytes: usize,
    ) -> PyResult<()> {
        let ranges: Vec<Range<u64>> = ranges.into_iter().map(|(start, end)| start..end).collect();
        if bytes == 0 {
            return Ok(());
        }
        let cancel = Cancel::default();
        let to = memory_at(address, bytes);
        in_background(py, &cancel, &Listener::default(), |_| self.0.read(name, &ranges, to, &cancel))
    }
}

/// The memory that the Python half has made for a read.
#[expect(
    unsafe_code,
    reason = "buffers of Python are not in the stable ABI of all versions that are supported"
)]
fn memory_at<'m>(address: usize, bytes: usize) -> &'m mut [u8] {
    // SAFETY: `_merged.py`, the only caller of `Reader.read`, passes the address and the length of an array that it has just made
    // and that nobody else has seen; it holds the array until the call returns.
    unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes) }
}
