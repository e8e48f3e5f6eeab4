//! The output's tensors while adapters are claimed: those of the base, those that are new, and the shapes they come to.

use crate::checkpoint::compare::holds;
use crate::error::Result;
use crate::storage::source::Source;
use crate::tensor::name::Name;
use crate::tensor::reference::TensorRef;
use std::cell::RefCell;
use std::collections::HashMap;

use crate::checkpoint::catalogue::BaseTensor;
use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::quantized::{TensorRole, Weights};
use crate::model::heads::is_task_head;
use crate::model::names::param_slice::StoredSlice;
use crate::model::tied::{Tied, TiedHead, tied_head};
use crate::tensor::dtype::{Dtype, is_mergeable};
use crate::tensor::shape::Shape;

/// A tensor of the output that claims are made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The tensor at this place of the base's catalogue.
    Base(usize),
    /// The addition at this place.
    New(usize),
    /// The fused parameter at this place: the running model's, in slices on disk. Planning turns what is done to it into
    /// changes of its slices.
    Fused(usize),
}

/// A parameter of the running model that the disk has in slices, or as a part of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct FusedParam {
    /// Its runtime name, as an adapter spells it.
    pub name: Name,
    /// Its shape in the running model.
    pub shape: Shape,
    /// What it is made of.
    pub slices: Vec<StoredSlice>,
}

/// A tensor of the output that the base has not.
#[derive(Clone, Debug)]
pub(crate) struct Addition {
    /// Its name.
    pub name: Name,
    /// Its shape.
    pub shape: Shape,
    /// Its element type.
    pub dtype: Dtype,
    /// Place of the base tensor that it starts as a copy of; none if it is an adapter's alone.
    pub copy_of: Option<usize>,
    /// Place of the base tensor behind whose shard it goes.
    pub beside: usize,
}

/// Name, shape and element type of a target.
#[derive(Clone, Debug)]
pub(crate) struct Weight {
    /// Name in the output.
    pub name: Name,
    /// Shape in values, as replacements left it.
    pub shape: Shape,
    /// Element type on disk; that of the data for a quantized weight.
    pub dtype: Dtype,
    /// Whether its values are plain numbers or quantized data of a known encoding.
    pub is_known: bool,
}

/// The output's tensors, as far as is known.
pub(crate) struct Outline<'a> {
    /// The base.
    pub base: &'a Checkpoint,
    /// Which of its tensors are quantized data and auxiliary.
    pub weights: &'a Weights,
    /// What happens to tied heads.
    pub tied: Tied,
    /// The base's tied head, if it has one.
    pub head: Option<TiedHead>,
    /// Whether a head and an embedding that the config ties, and that are both stored, are tied no more.
    pub is_stored_tie_untied: bool,
    /// New tensors.
    pub additions: Vec<Addition>,
    /// Parameters that are in slices, found while claiming.
    fused: RefCell<Vec<FusedParam>>,
    resized: HashMap<Target, Shape>,
    reserved: HashMap<(Target, u64), String>,
}

/// A head that shares a tensor without plain numbers stays tied: one of its own would start as a copy of its bytes.
fn untiable(head: TiedHead, base: &Checkpoint, weights: &Weights) -> TiedHead {
    let is_plain = is_mergeable(base.catalogue.tensors[head.source].tensor.dtype);
    let is_numbers = is_plain && weights.get(head.source).is_none() && weights.unread(head.source).is_none();
    let why = (!is_numbers)
        .then_some("it holds no plain numbers of BF16, F16 or F32 that the head could start from");
    TiedHead { cannot_untie: head.cannot_untie.or(why), ..head }
}

impl<'a> Outline<'a> {
    /// The base as it is.
    pub(crate) fn new(base: &'a Checkpoint, weights: &'a Weights, tied: Tied) -> Outline<'a> {
        Outline {
            base,
            weights,
            tied,
            head: tied_head(base).map(|head| untiable(head, base, weights)),
            is_stored_tie_untied: false,
            additions: Vec::new(),
            fused: RefCell::default(),
            resized: HashMap::new(),
            reserved: HashMap::new(),
        }
    }

    /// The target of that name.
    pub(crate) fn find(&self, name: &str) -> Option<Target> {
        let new = || self.additions.iter().position(|addition| *addition.name == *name).map(Target::New);
        self.weights.position(&self.base.catalogue, name).map(Target::Base).or_else(new)
    }

    /// What a target is.
    pub(crate) fn weight(&self, target: Target) -> Weight {
        let (name, shape, dtype, is_known) = match target {
            Target::Base(i) => {
                let BaseTensor { name, tensor } = &self.base.catalogue.tensors[i];
                match self.weights.get(i) {
                    Some(TensorRole::Quantized(quantized)) => (
                        quantized.name.as_ref().unwrap_or(name).clone(),
                        quantized.logical.shape().clone(),
                        tensor.dtype,
                        true,
                    ),
                    _ => (name.clone(), tensor.shape.clone(), tensor.dtype, is_mergeable(tensor.dtype)),
                }
            }
            Target::New(i) => {
                let addition = &self.additions[i];
                (addition.name.clone(), addition.shape.clone(), addition.dtype, true)
            }
            Target::Fused(i) => {
                let FusedParam { name, shape, slices } = self.fused(i);
                let mut of_slices = slices.iter().map(|slice| self.weight(Target::Base(slice.tensor)));
                let first = of_slices.next().expect("a fused parameter has a slice");
                let is_known = first.is_known && of_slices.all(|slice| slice.is_known);
                (name, shape, first.dtype, is_known)
            }
        };
        let shape = self.resized.get(&target).cloned().unwrap_or(shape);
        Weight { name, shape, dtype, is_known }
    }

    /// A parameter stored as slices.
    pub(crate) fn fused(&self, i: usize) -> FusedParam {
        self.fused.borrow()[i].clone()
    }

    /// The target for a parameter stored as slices.
    pub(crate) fn add_fused(&self, fused: FusedParam) -> Target {
        let mut all = self.fused.borrow_mut();
        let there = |other: &FusedParam| other.name == fused.name && other.slices == fused.slices;
        let found = all.iter().position(there);
        Target::Fused(found.unwrap_or_else(|| {
            all.push(fused);
            all.len() - 1
        }))
    }

    /// The element type of the output's floats: as the config says, else as the base's first tensor of floats.
    pub(crate) fn float_dtype(&self) -> Dtype {
        // Scales are no weights.
        let plain = self.base.catalogue.tensors.iter().enumerate();
        let plain = plain.filter(|(i, _)| self.weights.get(*i).is_none());
        let mut floats = plain.map(|(_, tensor)| tensor.tensor.dtype).filter(|dtype| is_mergeable(*dtype));
        self.base.config.dtype().or_else(|| floats.next()).unwrap_or(Dtype::BF16)
    }

    /// Adds a tensor.
    pub(crate) fn add(&mut self, addition: Addition) -> Target {
        self.additions.push(addition);
        Target::New(self.additions.len() - 1)
    }

    /// Notes that a replacement gives a target another shape.
    pub(crate) fn resize(&mut self, target: Target, shape: Shape) {
        self.resized.insert(target, shape);
    }

    /// Notes that an adapter alone says what some rows are; one that another adapter has noted, and that adapter, if any is.
    pub(crate) fn reserve(&mut self, target: Target, rows: &[u64], adapter: &str) -> Option<(u64, String)> {
        let mut taken =
            rows.iter().filter_map(|&row| Some((row, self.reserved.get(&(target, row))?.clone())));
        if let Some(taken) = taken.next() {
            return Some(taken);
        }
        self.reserved.extend(rows.iter().map(|&row| ((target, row), adapter.to_owned())));
        None
    }

    /// Whether an adapter added the head of another task, so that none of the model's heads predicts tokens any more.
    pub(crate) fn has_other_head(&self) -> bool {
        self.additions.iter().any(|addition| addition.copy_of.is_none() && is_task_head(&addition.name))
    }

    /// Targets whose shape changed.
    pub(crate) fn resized(&self) -> impl Iterator<Item = (Target, &Shape)> {
        self.resized.iter().map(|(target, shape)| (*target, shape))
    }
}

impl Outline<'_> {
    /// Whether the base's tensor at that place holds the same values as a tensor of another file.
    ///
    /// # Errors
    /// As [`Source::read_at`].
    pub(crate) fn holds(&self, place: usize, other: (&dyn Source, &TensorRef)) -> Result<bool> {
        holds(self.base, place, other)
    }
}
