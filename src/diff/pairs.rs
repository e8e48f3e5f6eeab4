//! [`TensorPair`]: tensors of two checkpoints that have one name.

use crate::checkpoint::catalogue::StoredForm;
use crate::encodings;
use crate::merge::values::{CheckpointValues, ValuePlace};
use crate::plan::out_tensor::{Content, OutTensor};
use crate::tensor::name_index::NameIndex;

/// A name, and which of the two checkpoints has it where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorPair {
    /// Places in the plan of the first and the second.
    pub(crate) places: [Option<usize>; 2],
}

impl TensorPair {
    /// The tensor of the first checkpoint, else that of the second.
    pub(crate) fn either<'v>(&self, values: &'v CheckpointValues) -> &'v OutTensor {
        let [first, second] = self.places;
        let place: ValuePlace = first.map_or((1, second.unwrap_or(0)), |first| (0, first));
        values.tensor(place)
    }

    /// Both tensors, if both checkpoints have one.
    pub(crate) fn both(&self) -> Option<[ValuePlace; 2]> {
        let [first, second] = self.places;
        first.zip(second).map(|(first, second)| [(0, first), (1, second)])
    }
}

/// The names of two checkpoints: those of the first in its order, then what only the second has.
pub(crate) fn pairs(values: &CheckpointValues) -> Vec<TensorPair> {
    let [first, second] = [0, 1].map(|checkpoint| values.tensors(checkpoint));
    let [in_first, in_second] =
        [first, second].map(|tensors| NameIndex::new(tensors.iter().map(|tensor| &*tensor.name)));
    let mut all = Vec::with_capacity(first.len());
    for (i, tensor) in first.iter().enumerate() {
        let other = in_second.find(&tensor.name, |place| &second[place].name);
        all.push(TensorPair { places: [Some(i), other] });
    }
    for (i, tensor) in second.iter().enumerate() {
        if in_first.find(&tensor.name, |place| &first[place].name).is_none() {
            all.push(TensorPair { places: [None, Some(i)] });
        }
    }
    all
}

/// How a tensor is stored: its element type, or the encoding that it is decoded from.
pub(crate) fn stored_type(tensor: &OutTensor) -> String {
    match &tensor.content {
        Content::Compute { start, .. } => start.encoding().to_owned(),
        Content::Copy { .. } => format!("{:?}", tensor.dtype),
    }
}

/// Why two tensors of one shape cannot be compared, if they cannot.
pub(crate) fn incomparable(values: &CheckpointValues, both: [ValuePlace; 2]) -> Option<&'static str> {
    let [first, second] = both.map(|place| {
        values.stored(place).map_or((&StoredForm::Same, false), |stored| (&stored.form, stored.is_shifted))
    });
    if first != second {
        return Some("the files have its values in different orders");
    }
    let [first, second] = both.map(|place| values.tensor(place).dtype);
    let are_numbers = [first, second].iter().all(|dtype| encodings::plain(*dtype).is_some());
    (first != second && !are_numbers).then_some("its types are not both plain floats")
}
