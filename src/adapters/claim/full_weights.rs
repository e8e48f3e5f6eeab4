//! Replacements: a tensor of the adapter stands in place of the base's, cast to its type.
//!
//! PEFT writes them for `modules_to_save` (all parameters and buffers of a module), for `bias` other than `none`, and for
//! embeddings saved beside their factors. They are values, never deltas (peft-methods.md 2.3), and come before any delta.

use crate::adapters::adapter::AdapterTensor;
use crate::adapters::claim::context::Claiming;
use crate::adapters::claim::edits::{Claimed, Effect};
use crate::adapters::peft::keys::replaced;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::model::outline::{Addition, Target, Tied};
use crate::model::tied::{is_embedding, is_head};
use crate::tensor::dtype::is_mergeable;
use crate::tensor::shape::Shape;

use crate::adapters::claim::Method;
use crate::ops::block::Block;

/// A tensor in another's place.
pub(crate) struct Replace;

/// Segments of keys that other kinds of adapter write, and what they are.
const OTHER_KINDS: &[(&str, &str)] = &[
    ("lora_magnitude_vector", "`use_dora` is not set in the config, so it is not known what it means"),
    ("prompt_embeddings", "prompt methods have nothing to merge"),
];

/// Tasks whose head is new: PEFT saves it whole, and no base has it.
const HEAD_TASKS: &[&str] = &["SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"];
/// Last segments of the paths of such heads.
const TASK_HEADS: &[&str] = &["score", "classifier", "qa_outputs", "classification_head"];

impl Method for Replace {
    fn name(&self) -> &'static str {
        "replace"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &[]
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        for tensor in claiming.untaken() {
            let path = claiming.path(tensor).to_owned();
            if let Some((_, why)) = OTHER_KINDS.iter().find(|(kind, _)| path.split('.').any(|s| s == *kind)) {
                claiming.refuse_tensor(tensor, why);
            } else if let Err(error) = claim_value(claiming, &path, tensor) {
                claiming.refuse(error);
            }
        }
    }

    fn apply(&self, _: &mut Block<'_>) {
        unreachable!("a replacement is where an output tensor starts from; it has no op")
    }
}

fn claim_value(claiming: &mut Claiming<'_>, path: &str, tensor: usize) -> Result<()> {
    let (module, parameter) = replaced(path);
    if is_saved_twice(claiming, path, &module, parameter, tensor)? {
        claiming.ignore(tensor, "a second copy of the same values");
        return Ok(());
    }
    let target = match new_head(claiming, &module, parameter, tensor)? {
        Some(target) => target,
        None => match claiming.place(&[tensor], &module, parameter) {
            Some(target) => target,
            None => return Ok(()),
        },
    };
    let value = claiming.tensor(tensor).clone();
    let weight = claiming.outline.weight(target);
    let (adapter, name, dtype) = (claiming.adapter.name.clone(), weight.name, weight.dtype);
    if value.tensor.shape != weight.shape {
        if !is_vocabulary(&name, value.tensor.shape.axes(), weight.shape.axes()) {
            let (replacement, base) = (value.tensor.shape.clone(), weight.shape);
            let kind = ErrorKind::ReplacementShape { adapter, tensor: name, replacement, base };
            return Err(Error::new(kind)
                .hint("the adapter was trained on a model with other sizes: is it for this base?"));
        }
        if value.tensor.shape.axes()[0] < weight.shape.axes()[0] {
            claiming.notice(format!(
                "`{name}` has fewer rows, {} for {}: make sure that the tokenizer has no more tokens",
                value.tensor.shape, weight.shape
            ));
        }
        claiming.outline.resize(target, value.tensor.shape.clone());
    }
    if value.tensor.dtype != dtype && !(weight.is_known && is_mergeable(value.tensor.dtype)) {
        let kind = ErrorKind::ReplacementDtype { tensor: name, found: value.tensor.dtype, base: dtype };
        return Err(kind.into());
    }
    if claiming.adapter.weight != 1.0 {
        let kind = ErrorKind::WeightedReplacement { adapter, tensor: name, weight: claiming.adapter.weight };
        return Err(
            Error::new(kind).hint("give this adapter weight 1: a value that replaces another has no scale")
        );
    }
    check_start(claiming, path, &module, target, &value)?;
    let mut targets = vec![target];
    if let Some(other) = other_end(claiming, path, target, &value.tensor.shape) {
        claiming.outline.resize(other, value.tensor.shape.clone());
        targets.push(other);
    }
    for target in targets {
        claiming.claim(Claimed {
            method: "replace",
            module: module.clone(),
            keys: vec![value.key.clone()],
            target,
            elements: value.tensor.shape.elements(),
            effect: Effect::Replace { value: value.tensor.clone() },
        });
    }
    Ok(())
}

/// Refuses what a tied head's delta is added to where the embedding stays its tensor and holds other values: the input would
/// change with it.
fn check_start(
    claiming: &Claiming<'_>,
    path: &str,
    module: &str,
    target: Target,
    value: &AdapterTensor,
) -> Result<()> {
    let Some(head) = claiming.outline.head.as_ref().filter(|_| claiming.outline.tied == Tied::Fold) else {
        return Ok(());
    };
    let is_start = path.ends_with(".base_layer.weight") && is_head(&format!("{module}.weight"));
    let embedding = &claiming.outline.base.catalogue.tensors[head.source];
    let is_resized = embedding.tensor.shape != value.tensor.shape;
    if !is_start || target != Target::Base(head.source) || is_resized {
        return Ok(());
    }
    if claiming.outline.holds(head.source, (claiming.adapter.source.as_ref(), &value.tensor))? {
        return Ok(());
    }
    let why = format!("`{}`, to which the head's delta is added, holds other values", value.key);
    Err(Error::new(ErrorKind::Tied { tensor: embedding.name.clone(), why })
        .hint("without `--tied fold` the head gets a tensor of its own, which starts from it"))
}

/// The other of two tied ends, if it must start from this value too.
///
/// Where one end has LoRA, PEFT saves beside the factors what they are added to. If the vocabulary was resized, that is the
/// only copy of the new rows, and both ends started from it.
fn other_end(claiming: &mut Claiming<'_>, path: &str, target: Target, shape: &Shape) -> Option<Target> {
    let head = claiming.outline.head.clone().filter(|head| head.inseparable.is_none())?;
    let is_resized = claiming.outline.base.catalogue.tensors[head.source].tensor.shape != *shape;
    let is_start = path.ends_with(".base_layer.weight") && !claiming.does_head_follow();
    if claiming.outline.tied == Tied::Fold || !is_resized || !is_start {
        return None;
    }
    if target == Target::Base(head.source) {
        let has_value = claiming.outline.find(&head.head).is_some_and(|head| claiming.has_value(head))
            || claiming.names_the_head_whole();
        (!has_value).then(|| claiming.outline.untie(&head))
    } else {
        let is_head = claiming.outline.find(&head.head) == Some(target);
        (is_head && !claiming.has_value(Target::Base(head.source))).then_some(Target::Base(head.source))
    }
}

/// Whether only the number of tokens differs: a vocabulary that grew or shrank.
fn is_vocabulary(name: &str, value: &[u64], base: &[u64]) -> bool {
    let same_width =
        matches!((value, base), ([_, a], [_, b]) if a == b) || matches!((value, base), ([_], [_]));
    same_width && (is_embedding(name) || is_head(name) || is_head(&name.replace(".bias", ".weight")))
}

/// PEFT 0.21 writes a wrapped module's values a second time under `modules_to_save`; both must be the same.
fn is_saved_twice(
    claiming: &Claiming<'_>,
    path: &str,
    module: &str,
    parameter: &str,
    tensor: usize,
) -> Result<bool> {
    let plain = format!("{module}.{parameter}");
    if path == plain {
        return Ok(false);
    }
    match claiming.at_path(&plain) {
        Some(first) if first != tensor => claiming.are_equal(first, tensor),
        _ => Ok(false),
    }
}

/// A head that the task added and the base has not; `None` if it is no such thing.
fn new_head(
    claiming: &mut Claiming<'_>,
    module: &str,
    parameter: &str,
    tensor: usize,
) -> Result<Option<Target>> {
    let is_task = claiming.adapter.options.task.as_deref().is_some_and(|task| HEAD_TASKS.contains(&task));
    let named = module.split('.').any(|segment| TASK_HEADS.contains(&segment));
    if !is_task || !named || claiming.lookup(module, parameter).is_some() {
        return Ok(None);
    }
    let value = claiming.tensor(tensor).tensor.clone();
    let Some(beside) = claiming.outline.base.catalogue.tensors.len().checked_sub(1) else { return Ok(None) };
    let dtype = match is_mergeable(value.dtype) {
        true => claiming.outline.float_dtype(),
        false => value.dtype,
    };
    let name = format!("{module}.{parameter}");
    Ok(Some(claiming.outline.add(Addition { name, shape: value.shape, dtype, copy_of: None, beside })))
}
