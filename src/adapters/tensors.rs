//! The header of a safetensors file as an adapter's tensors, whatever its dialect calls them.

use crate::formats::safetensors::HeaderTensor;
use crate::tensor::reference::{FileId, TensorRef};

use crate::adapters::adapter::AdapterTensor;
use crate::adapters::parts::Grammar;

/// A key as its dialect reads it: its path by the grammar, and what was taken off beyond the format's own.
pub(crate) type ReadKey = (String, Option<&'static str>);

/// The tensors of `file`, whose header is `header` and has `entries`; `read_key` brings their keys to paths of `grammar`.
pub(crate) fn tensors(
    header: &str,
    entries: Vec<HeaderTensor>,
    file: FileId,
    grammar: &Grammar,
    read_key: impl Fn(&str) -> ReadKey,
) -> Vec<AdapterTensor> {
    let start = 8 + header.len() as u64;
    let tensor = |entry: HeaderTensor| {
        let (path, wrapper) = read_key(&entry.name);
        let offset = start + entry.start;
        let tensor = TensorRef { file, offset, dtype: entry.dtype, shape: entry.shape };
        AdapterTensor { wrapper, ..AdapterTensor::new(entry.name, path, grammar, tensor) }
    };
    entries.into_iter().map(tensor).collect()
}
