//! The tensors of a state dict that a pickle made, each held against the storage that it lies in.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::formats::container::TensorEntry;
use crate::formats::pytorch::pickle::{PickleMachine, PickleObject, TensorValue, Value};
use crate::formats::pytorch::problem::PytorchProblem;
use crate::tensor::dtype::bytes_of;
use crate::tensor::shape::Shape;

/// Under which keys trainers keep the state dict of the model among other things.
const WITHIN: &[&str] = &["state_dict", "model_state_dict", "model", "module", "app"];
/// How many such keys may stand one inside the other.
const MOST_WITHIN: usize = 4;

/// The tensors of what a program left, in the order of their bytes; what is no tensor among them is passed over.
pub(crate) fn tensors(
    result: Value,
    machine: &PickleMachine<'_>,
    storages: &HashMap<String, Range<u64>>,
) -> Result<Vec<TensorEntry>, PytorchProblem> {
    let top = dict(machine, result).ok_or(PytorchProblem::NoTensors)?;
    let within = |(key, value): &(Value, Value)| {
        let is_one = machine.text(*key).is_some_and(|key| WITHIN.contains(&key));
        if is_one { dict(machine, *value) } else { None }
    };
    let mut pairs = top;
    for _ in 0..MOST_WITHIN {
        let Some(inner) = pairs.iter().find_map(within) else { break };
        pairs = inner;
    }
    let (mut found, mut names) = (Vec::new(), HashSet::new());
    for &(key, value) in pairs {
        let Some(tensor) = tensor(machine, value) else { continue };
        let name = machine.text(key).ok_or(PytorchProblem::NoName)?;
        if !names.insert(name) {
            return Err(PytorchProblem::Twice { name: name.to_owned() });
        }
        found.push(entry(machine, name, tensor, storages)?);
    }
    if found.is_empty() {
        return Err(PytorchProblem::NoTensors);
    }
    found.sort_by_key(|entry| entry.offset);
    let end = |entry: &TensorEntry| entry.offset + bytes_of(entry.dtype, entry.shape.elements()).unwrap_or(0);
    // Two names of one tensor are two tensors of the same values; a part of one is not told from it.
    let is_same = |one: &TensorEntry, other: &TensorEntry| {
        (one.offset, one.dtype, &one.shape) == (other.offset, other.dtype, &other.shape)
    };
    let is_part = |one: &TensorEntry, other: &TensorEntry| {
        end(one) > other.offset && other.shape.elements() > 0 && !is_same(one, other)
    };
    let shared = found.windows(2).find(|pair| is_part(&pair[0], &pair[1]));
    if let Some([first, second]) = shared {
        let (first, second) = (first.name.to_string(), second.name.to_string());
        return Err(PytorchProblem::Shared { first, second });
    }
    Ok(found)
}

fn dict<'m>(machine: &'m PickleMachine<'_>, value: Value) -> Option<&'m [(Value, Value)]> {
    let Value::Object(place) = value else { return None };
    match &machine.objects[place as usize] {
        PickleObject::Dict(pairs) => Some(pairs),
        _ => None,
    }
}

fn tensor(machine: &PickleMachine<'_>, value: Value) -> Option<TensorValue> {
    let Value::Object(place) = value else { return None };
    match &machine.objects[place as usize] {
        PickleObject::Tensor(tensor) => Some(*tensor),
        _ => None,
    }
}

/// A tensor as an entry of the file.
fn entry(
    machine: &PickleMachine<'_>,
    name: &str,
    tensor: TensorValue,
    storages: &HashMap<String, Range<u64>>,
) -> Result<TensorEntry, PytorchProblem> {
    let beyond = || PytorchProblem::BeyondStorage { name: name.to_owned() };
    let dtype = tensor.element.map_err(|found| PytorchProblem::Type { name: name.to_owned(), found })?;
    let PickleObject::Storage(_, key) = &machine.objects[tensor.storage as usize] else {
        return Err(beyond());
    };
    let key = machine.text(*key).unwrap_or_default();
    let place = storages.get(&format!("data/{key}")).ok_or_else(|| {
        let key = key.chars().take(100).collect();
        PytorchProblem::NoStorage { name: name.to_owned(), key }
    })?;
    let lists = machine.numbers(tensor.sizes).zip(machine.numbers(tensor.strides));
    let (sizes, strides) =
        lists.filter(|(sizes, strides)| sizes.len() == strides.len()).ok_or_else(beyond)?;
    let axes: Option<Vec<u64>> = sizes.iter().map(|size| u64::try_from(*size).ok()).collect();
    let shape = axes.and_then(|axes| Shape::new(&axes)).ok_or_else(beyond)?;
    // Where there is an element at all they must follow each other; the stride of an axis of one is anything.
    let mut follows: i64 = 1;
    for (size, stride) in sizes.iter().zip(&strides).rev() {
        if shape.elements() > 0 && *size > 1 && *stride != follows {
            return Err(PytorchProblem::Strided { name: name.to_owned() });
        }
        follows = follows.saturating_mul(*size);
    }
    let bytes = bytes_of(dtype, shape.elements()).ok_or_else(beyond)?;
    let offset =
        u64::try_from(tensor.offset).ok().and_then(|offset| bytes_of(dtype, offset)).ok_or_else(beyond)?;
    let end = offset.checked_add(bytes).filter(|end| *end <= place.end - place.start);
    if end.is_none() {
        return Err(beyond());
    }
    Ok(TensorEntry { name: name.into(), dtype, shape, offset: place.start + offset })
}
