//! All tensors of a checkpoint, findable by name.

use std::collections::HashSet;

use crate::checkpoint::identity::Identity;
use crate::checkpoint::weights_name::{OwnName, stem_of_file};
use crate::formats::header_bytes::HeaderBytes;
use crate::tensor::name::Name;
use crate::tensor::name_index::NameIndex;
use crate::tensor::reference::TensorRef;

/// The longest name that others are compared with, in bytes.
const MOST_COMPARED: usize = 512;

/// One shard, as its header describes it.
#[derive(Clone, Debug)]
pub struct BaseShard {
    /// File name.
    pub name: String,
    /// What the file is called that is written for it.
    pub(crate) written_as: String,
    /// How many bytes stand before its data.
    pub(crate) header_bytes: u64,
    /// A header of no tensors that says all else that its header does. The headers of 92,000 tensors take 12 MB, and hardly a
    /// merge needs them again: a shard that keeps its own copies it from its file.
    pub(crate) like: HeaderBytes,
    /// Length of the file.
    pub bytes: u64,
    /// Which state of the file this is.
    pub identity: Identity,
    /// Whether it holds copies of tensors that count elsewhere, which the catalogue leaves out.
    pub has_stale: bool,
}

/// One tensor of the base. Its `file` counts in [`Catalogue::shards`].
#[derive(Clone, Debug)]
pub struct BaseTensor {
    /// Name on disk.
    pub name: Name,
    /// Where its bytes are.
    pub tensor: TensorRef,
}

/// What a tensor is in its file, where that is not what the model has.
#[derive(Clone, Debug)]
pub(crate) struct StoredAs {
    /// What the file calls it.
    pub(crate) name: Name,
    /// Which of the model's values stand where in it.
    pub(crate) form: StoredForm,
    /// Whether 1 is added to all values.
    pub(crate) is_shifted: bool,
}

impl StoredAs {
    /// Whether its values are not those of a tensor of the model, in their order.
    pub(crate) fn is_other(&self) -> bool {
        self.is_shifted || self.form != StoredForm::Same
    }
}

/// Which of the model's values stand where in a tensor of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoredForm {
    /// It is a tensor of the model.
    Same,
    /// Its rows are those of so many heads, reordered as rotary positions turn neighboring values.
    ReorderedHeads(u64),
    /// It is a vector, and the model has a matrix of that one row.
    Row,
    /// It is a stack of one projection of all experts.
    Experts(StackedExperts),
    /// Its rows are those of several, one behind the other.
    Rows(Box<[RowPart]>),
}

/// One of several weights whose rows lie in one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RowPart {
    /// What the model calls it.
    pub(crate) name: Box<str>,
    /// How many rows it has.
    pub(crate) rows: u64,
}

/// By whose rules the files of a checkpoint are called and laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FileLayout {
    /// Those of its library: a directory of files that belong together.
    #[default]
    Library,
    /// llama.cpp's: a file says all of a model.
    LlamaCpp,
    /// A file of an image model, which may lie among others.
    OneFile,
}

/// What the model has for the matrices of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StackedExperts {
    /// Path of the experts module.
    pub(crate) module: Box<str>,
    /// Which parameter of each expert.
    pub(crate) parameter: &'static str,
}

impl StackedExperts {
    /// The name of one expert's.
    pub(crate) fn name(&self, number: u64) -> String {
        format!("{}.{number}.{}", self.module, self.parameter)
    }
}

/// The shards of a checkpoint and their tensors, in the order of shards and bytes.
#[derive(Debug, Default)]
pub struct Catalogue {
    /// The shards, in the order of their names.
    pub shards: Vec<BaseShard>,
    /// The tensors: shard by shard, in the order of their bytes.
    pub tensors: Vec<BaseTensor>,
    /// Their places by name: a plan looks up several names for each tensor.
    by_name: NameIndex,
    /// The last segments of the names: few, however many names there are.
    leaves: HashSet<Box<str>>,
    /// What the tensors are in their files, by place; empty where that is what the model has.
    stored: Vec<StoredAs>,
    layout: FileLayout,
}

fn leaf(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

impl Catalogue {
    /// A catalogue, and the pairs of tensors that share a name.
    pub fn new(shards: Vec<BaseShard>, tensors: Vec<BaseTensor>) -> (Catalogue, Vec<(usize, usize)>) {
        let by_name = NameIndex::new(tensors.iter().map(|tensor| &*tensor.name));
        let twice = by_name.twice(|place| &tensors[place].name);
        let mut leaves: HashSet<Box<str>> = HashSet::new();
        for tensor in &tensors {
            let leaf = leaf(&tensor.name);
            if !leaves.contains(leaf) {
                leaves.insert(leaf.into());
            }
        }
        (Catalogue { shards, tensors, by_name, leaves, ..Catalogue::default() }, twice)
    }

    /// The same, of tensors that are these in their files.
    #[must_use]
    pub(crate) fn stored_as(self, stored: Vec<StoredAs>, layout: FileLayout) -> Catalogue {
        debug_assert!(stored.is_empty() || stored.len() == self.tensors.len());
        Catalogue { stored, layout, ..self }
    }

    /// By whose rules its files are laid out.
    pub(crate) fn layout(&self) -> FileLayout {
        self.layout
    }

    /// What a tensor is in its file, where that is not what the model has.
    pub(crate) fn stored(&self, place: usize) -> Option<&StoredAs> {
        self.stored.get(place)
    }

    /// What its file calls a tensor.
    pub(crate) fn stored_name(&self, place: usize) -> &Name {
        self.stored(place).map_or(&self.tensors[place].name, |stored| &stored.name)
    }

    /// The name that its files have, where it is one of their own.
    pub(crate) fn own_name(&self) -> Option<String> {
        let first = &self.shards.first()?.name;
        match self.layout {
            FileLayout::OneFile => stem_of_file(first).map(str::to_owned),
            FileLayout::LlamaCpp | FileLayout::Library => OwnName::of(first).map(OwnName::into_stem),
        }
    }

    /// The place of `name` in `tensors`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.find(name, |place| &self.tensors[place].name)
    }

    /// Whether a name may end so; false only if none does.
    pub(crate) fn may_have(&self, ending: &str) -> bool {
        !ending.contains('.') || self.leaves.contains(leaf(ending))
    }

    /// The tensor of that name.
    pub fn find(&self, name: &str) -> Option<&BaseTensor> {
        self.position(name).map(|i| &self.tensors[i])
    }

    /// The place of the tensor that lies there.
    pub fn at(&self, tensor: &TensorRef) -> Option<usize> {
        let key = |tensor: &TensorRef| (tensor.file, tensor.offset);
        self.tensors.binary_search_by_key(&key(tensor), |other| key(&other.tensor)).ok()
    }

    /// The `count` names most like `name`, best first; none for one that is longer than names are, which takes the square of
    /// its length to tell.
    pub fn nearest(&self, name: &str, count: usize) -> Vec<String> {
        if name.len() > MOST_COMPARED {
            return Vec::new();
        }
        let mut scored: Vec<(f64, &str)> = self
            .tensors
            .iter()
            .filter(|tensor| tensor.name.len() <= MOST_COMPARED)
            .map(|tensor| (strsim::normalized_damerau_levenshtein(name, &tensor.name), &*tensor.name))
            .collect();
        scored.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        scored
            .into_iter()
            .take(count)
            .filter(|(score, _)| *score > 0.5)
            .map(|(_, name)| name.to_owned())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::FileId;
    use crate::tensor::shape::Shape;

    #[test]
    fn names_are_found_and_those_that_are_not_there_are_not() {
        let shape = Shape::new(&[1]).expect("one element");
        let tensor = |(name, offset): (&&str, u64)| BaseTensor {
            name: (*name).into(),
            tensor: TensorRef { file: FileId(0), offset, dtype: Dtype::U8, shape: shape.clone() },
        };
        let names = ["b.weight", "a.weight", "a.weight_scale", "bias", "a.weight"];
        let (catalogue, twice) = Catalogue::new(Vec::new(), names.iter().zip(0..).map(tensor).collect());
        assert_eq!(twice, [(1, 4)]);
        let often = ["c", "b", "a", "b", "c", "b"];
        let twice = Catalogue::new(Vec::new(), often.iter().zip(0..).map(tensor).collect()).1;
        assert_eq!(twice, [(1, 3), (3, 5), (0, 4)], "by name, and each with the next");
        let place = |name| catalogue.position(name);
        assert_eq!([place("b.weight"), place("a.weight_scale"), place("bias")], [Some(0), Some(2), Some(3)]);
        assert_eq!([place("a.weight"), place("weight"), place("")], [Some(1), None, None]);
        let may = |ending| catalogue.may_have(ending);
        assert_eq!(
            [may(".weight_scale"), may(".scale"), may("_scale"), may(".a.bias")],
            [true, false, true, true]
        );
    }
}
