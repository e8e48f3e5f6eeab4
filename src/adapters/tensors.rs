//! The header of a file as an adapter's tensors, whatever its dialect calls them.

use crate::formats::container::TensorEntry;
use crate::tensor::reference::FileId;

use crate::adapters::adapter::{AdapterTensor, Stripped};
use crate::adapters::parts::Grammar;

/// A key as its dialect reads it: its path by the grammar, and what was taken off beyond the format's own.
pub(crate) type ReadKey = (String, Option<&'static str>);

/// The tensors of `file`, whose header has `entries`; `read_key` brings their keys to paths of `grammar`.
pub(crate) fn tensors(
    entries: Vec<TensorEntry>,
    file: FileId,
    grammar: &Grammar,
    read_key: impl Fn(&str) -> ReadKey,
) -> (Vec<AdapterTensor>, Stripped) {
    let mut stripped = Stripped::new();
    let tensor = |entry: TensorEntry| {
        let (key, tensor) = entry.in_file(file);
        let (path, wrapper) = read_key(&key);
        if let Some(wrapper) = wrapper {
            *stripped.entry(wrapper).or_default() += 1;
        }
        AdapterTensor::new(key, &path, grammar, tensor)
    };
    let tensors = entries.into_iter().map(tensor).collect();
    (tensors, stripped)
}
