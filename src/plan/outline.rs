//! The output's tensors while adapters are claimed: those of the base, those that are new, and the shapes they come to.

use std::collections::HashMap;

use crate::checkpoint::{Checkpoint, Stored, Weights};
use crate::families::{TiedHead, tied_head};
use crate::tensor::{Dtype, Shape, is_mergeable};

/// A tensor of the output that claims are made on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The tensor at this place of the base's catalogue.
    Base(usize),
    /// The addition at this place.
    New(usize),
}

/// A tensor of the output that the base has not.
#[derive(Clone, Debug)]
pub struct Addition {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// Its element type.
    pub dtype: Dtype,
    /// Place of the base tensor that it starts as a copy of; none if it is an adapter's alone.
    pub copy_of: Option<usize>,
    /// Place of the base tensor behind whose shard it goes.
    pub beside: usize,
}

/// What to do with a head that shares the embedding's tensor when an adapter changes one of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tied {
    /// Give the head a tensor of its own, so that each end is what was trained.
    #[default]
    Untie,
    /// Change the one tensor, as PEFT's merge does.
    Fold,
}

/// Name, shape and element type of a target.
#[derive(Clone, Debug)]
pub struct Weight {
    /// Name in the output.
    pub name: String,
    /// Shape in values, as replacements left it.
    pub shape: Shape,
    /// Element type on disk; the codes' for an encoded weight.
    pub dtype: Dtype,
    /// Whether its values are plain numbers or codes of a known encoding.
    pub is_known: bool,
}

/// The output's tensors, as far as is known.
pub struct Outline<'a> {
    /// The base.
    pub base: &'a Checkpoint,
    /// Which of its tensors are codes and companions.
    pub weights: Weights,
    /// What happens to tied heads.
    pub tied: Tied,
    /// The base's tied head, if it has one.
    pub head: Option<TiedHead>,
    /// New tensors.
    pub additions: Vec<Addition>,
    resized: HashMap<Target, Shape>,
    reserved: HashMap<(Target, u64), String>,
}

impl<'a> Outline<'a> {
    /// The base as it is.
    pub fn new(base: &'a Checkpoint, weights: Weights, tied: Tied) -> Outline<'a> {
        Outline {
            base,
            weights,
            tied,
            head: tied_head(base),
            additions: Vec::new(),
            resized: HashMap::new(),
            reserved: HashMap::new(),
        }
    }

    /// The target of that name.
    pub fn find(&self, name: &str) -> Option<Target> {
        let new = || self.additions.iter().position(|addition| addition.name == name).map(Target::New);
        self.base.catalogue.position(name).map(Target::Base).or_else(new)
    }

    /// What a target is.
    pub fn weight(&self, target: Target) -> Weight {
        let (name, shape, dtype, is_known) = match target {
            Target::Base(i) => {
                let tensor = &self.base.catalogue.tensors[i];
                let is_coded = matches!(self.weights.get(i), Some(Stored::Coded(_)));
                let is_known = is_coded || is_mergeable(tensor.tensor.dtype);
                (tensor.name.clone(), tensor.tensor.shape.clone(), tensor.tensor.dtype, is_known)
            }
            Target::New(i) => {
                let addition = &self.additions[i];
                (addition.name.clone(), addition.shape.clone(), addition.dtype, true)
            }
        };
        let shape = self.resized.get(&target).cloned().unwrap_or(shape);
        Weight { name, shape, dtype, is_known }
    }

    /// The element type of the output's floats: as the config says, else as the base's first tensor of floats.
    pub fn float_dtype(&self) -> Dtype {
        let tensors = self.base.catalogue.tensors.iter();
        let mut floats = tensors.map(|tensor| tensor.tensor.dtype).filter(|dtype| is_mergeable(*dtype));
        self.base.config.dtype().or_else(|| floats.next()).unwrap_or(Dtype::BF16)
    }

    /// Adds a tensor.
    pub fn add(&mut self, addition: Addition) -> Target {
        self.additions.push(addition);
        Target::New(self.additions.len() - 1)
    }

    /// A tensor for the tied head, which starts as a copy of the embedding.
    pub fn untie(&mut self, head: &TiedHead) -> Target {
        let source = &self.base.catalogue.tensors[head.source];
        let addition = Addition {
            name: head.head.clone(),
            shape: source.tensor.shape.clone(),
            dtype: source.tensor.dtype,
            copy_of: Some(head.source),
            beside: head.source,
        };
        match self.find(&head.head) {
            Some(target) => target,
            None => self.add(addition),
        }
    }

    /// Notes that a replacement gives a target another shape.
    pub fn resize(&mut self, target: Target, shape: Shape) {
        self.resized.insert(target, shape);
    }

    /// Notes that an adapter alone says what some rows are; one that another adapter has noted, and that adapter, if any is.
    pub fn reserve(&mut self, target: Target, rows: &[u64], adapter: &str) -> Option<(u64, String)> {
        let mut taken =
            rows.iter().filter_map(|&row| Some((row, self.reserved.get(&(target, row))?.clone())));
        if let Some(taken) = taken.next() {
            return Some(taken);
        }
        self.reserved.extend(rows.iter().map(|&row| ((target, row), adapter.to_owned())));
        None
    }

    /// Whether an adapter brought the head of another task, so that none of the model's heads predicts tokens any more.
    pub fn has_other_head(&self) -> bool {
        self.additions.iter().any(|addition| addition.copy_of.is_none())
    }

    /// Targets whose shape changed.
    pub fn resized(&self) -> impl Iterator<Item = (Target, &Shape)> {
        self.resized.iter().map(|(target, shape)| (*target, shape))
    }
}
