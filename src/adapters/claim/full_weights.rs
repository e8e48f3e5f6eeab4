//! Replacements: a tensor of the adapter stands in place of the base's, cast to its type.
//!
//! PEFT writes them for `modules_to_save` (all parameters and buffers of a module), for `bias` other than `none`, and for
//! embeddings saved beside their factors. They are values, never deltas (peft-methods.md 2.3), and come before any delta.

use smallvec::smallvec;

use crate::adapters::adapter::AdapterTensor;
use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::{ClaimedModule, Edit};
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::locate::join;
use crate::adapters::claim::refusals::WEIGHT_ONE;
use crate::adapters::parts::replaced;
use crate::error::claim::ClaimError;
use crate::error::plan::PlanError;
use crate::error::{Error, Result};
use crate::model::heads::{is_embedding, is_head, is_task_head};
use crate::model::outline::{Addition, Target};
use crate::note::claim::ClaimNote;
use crate::tensor::dtype::is_mergeable;
use crate::tensor::shape::Shape;

/// A tensor in another's place.
pub(crate) struct FullWeights;

/// Segments of keys that other kinds of adapter write, and what they are.
const OTHER_KINDS: &[(&str, &str)] = &[
    (
        "lora_magnitude_vector",
        "this is a DoRA magnitude vector, but `use_dora` is not set in adapter_config.json",
    ),
    ("prompt_embeddings", "prompt methods have nothing to merge"),
];

impl Claim for FullWeights {
    fn peft_types(&self) -> &'static [&'static str] {
        &[]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        for tensor in findings.untaken() {
            let path = context.path(tensor).to_owned();
            if let Some((_, why)) = OTHER_KINDS.iter().find(|(kind, _)| path.split('.').any(|s| s == *kind)) {
                findings.refuse_tensor(tensor, why);
            } else if let Err(error) = claim_value(context, findings, &path, tensor) {
                findings.refuse(error);
            }
        }
    }
}

fn claim_value(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    path: &str,
    tensor: usize,
) -> Result<()> {
    let (module, parameter) = replaced(path);
    if is_saved_twice(context, path, &module, parameter, tensor)? {
        findings.ignore(tensor, "a second copy of the same values");
        return Ok(());
    }
    let target = match new_parameter(context, findings, &module, parameter, tensor) {
        Some(target) => target,
        None => match context.place(findings, &[tensor], &module, parameter) {
            Some(target) => target,
            None => return Ok(()),
        },
    };
    check_value(context, findings, target, tensor)?;
    let value = context.tensor(tensor);
    check_start(context, path, &module, target, value)?;
    replace(findings, "replace", &module, target, value);
    if let Some(other) = other_end(context, findings, path, target, &value.tensor.shape) {
        context.outline.resize(other, value.tensor.shape.clone());
        replace(findings, "replace", &module, other, value);
    }
    Ok(())
}

/// Claims a tensor that stands in place of a module's parameter, for the rule of that name.
pub(crate) fn put_in_place(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    method: &'static str,
    (module, parameter): (&str, &str),
    tensor: usize,
) -> Result<()> {
    let Some(target) = context.place(findings, &[tensor], module, parameter) else { return Ok(()) };
    check_value(context, findings, target, tensor)?;
    replace(findings, method, module, target, context.tensor(tensor));
    Ok(())
}

fn replace(
    findings: &mut Findings<'_>,
    method: &'static str,
    module: &str,
    target: Target,
    value: &AdapterTensor,
) {
    findings.claim(ClaimedModule {
        method,
        module: module.into(),
        keys: smallvec![value.key.clone()],
        target,
        elements: value.tensor.shape.elements(),
        edit: Edit::Replace { value: value.tensor.clone() },
    });
}

/// Refuses a value that cannot stand in a target's place; one of another vocabulary resizes it.
fn check_value(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    target: Target,
    tensor: usize,
) -> Result<()> {
    let value = &context.tensor(tensor).tensor;
    let weight = context.outline.weight(target);
    let (adapter, name, dtype) = (context.adapter.name.clone(), weight.name.to_string(), weight.dtype);
    if value.shape != weight.shape {
        let is_vocabulary = is_vocabulary(&name, value.shape.axes(), weight.shape.axes());
        if !is_vocabulary && !is_of_labels(&name, value.shape.axes(), weight.shape.axes()) {
            let (replacement, base) = (value.shape.clone(), weight.shape);
            let kind = ClaimError::ReplacementShape { adapter, tensor: name, replacement, base };
            return Err(Error::new(kind)
                .hint("the adapter was trained on a model with other sizes: is it for this base?"));
        }
        if is_vocabulary && value.shape.axes()[0] < weight.shape.axes()[0] {
            let (found, base) = (value.shape.to_string(), weight.shape.to_string());
            findings.note(ClaimNote::FewerRows { tensor: name.clone(), found, base });
        }
        context.outline.resize(target, value.shape.clone());
    }
    if value.dtype != dtype && !(weight.is_known && is_mergeable(value.dtype)) {
        let kind = ClaimError::ReplacementDtype { tensor: name, found: value.dtype, base: dtype };
        return Err(kind.into());
    }
    let of_module = context.adapter.weight_of(context.tensor(tensor).module());
    if of_module != 1.0 {
        let kind = ClaimError::WeightedReplacement { adapter, tensor: name, weight: of_module };
        return Err(Error::new(kind).hint(WEIGHT_ONE));
    }
    Ok(())
}

/// Refuses what a tied head's delta is added to where the embedding stays its tensor and holds other values: the input would
/// change with it.
fn check_start(
    context: &ClaimContext<'_>,
    path: &str,
    module: &str,
    target: Target,
    value: &AdapterTensor,
) -> Result<()> {
    let Some(source) = context.outline.shared_embedding() else { return Ok(()) };
    let is_start = path.ends_with(".base_layer.weight") && is_head(&format!("{module}.weight"));
    let embedding = &context.outline.base.catalogue.tensors[source];
    let is_resized = embedding.tensor.shape != value.tensor.shape;
    if !is_start || target != Target::Base(source) || is_resized {
        return Ok(());
    }
    if context.outline.holds(source, (context.adapter.source.as_ref(), &value.tensor))? {
        return Ok(());
    }
    let (tensor, key) = (embedding.name.to_string(), value.key.to_string());
    Err(Error::new(PlanError::TiedToOther { tensor, key })
        .hint("without `--tied fold` the LM head gets a tensor of its own, which starts from it"))
}

/// The other of two tied ends, if it must start from this value too.
///
/// Where one end has LoRA, PEFT saves beside the factors what they are added to. If the vocabulary was resized, that is the
/// only copy of the new rows, and both ends started from it.
fn other_end(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    path: &str,
    target: Target,
    shape: &Shape,
) -> Option<Target> {
    let head = context.outline.resized_tie(shape)?;
    let is_start = path.ends_with(".base_layer.weight") && !findings.does_head_follow();
    if !is_start {
        return None;
    }
    if target == Target::Base(head.source) {
        let has_value = context.outline.find(&head.head).is_some_and(|head| context.has_value(head))
            || context.names_the_head_whole();
        (!has_value).then(|| context.outline.untie(&head))
    } else {
        let is_head = context.outline.find(&head.head) == Some(target);
        (is_head && !context.has_value(Target::Base(head.source))).then_some(Target::Base(head.source))
    }
}

/// Whether only the number of tokens differs: a vocabulary that grew or shrank.
fn is_vocabulary(name: &str, value: &[u64], base: &[u64]) -> bool {
    let same_width =
        matches!((value, base), ([_, a], [_, b]) if a == b) || matches!((value, base), ([_], [_]));
    same_width && (is_embedding(name) || is_head(name) || is_head(&name.replace(".bias", ".weight")))
}

/// Whether only the number of labels differs: the head of a task was replaced for others, as `ignore_mismatched_sizes` does.
fn is_of_labels(name: &str, value: &[u64], base: &[u64]) -> bool {
    let is_same_width = value.len() == base.len() && !value.is_empty() && value[1..] == base[1..];
    is_same_width && is_task_head(name)
}

/// PEFT 0.21 writes a wrapped module's values a second time under `modules_to_save`; both must be the same.
fn is_saved_twice(
    context: &ClaimContext<'_>,
    path: &str,
    module: &str,
    parameter: &str,
    tensor: usize,
) -> Result<bool> {
    let plain = format!("{module}.{parameter}");
    if path == plain {
        return Ok(false);
    }
    match context.at_path(&plain) {
        Some(first) if first != tensor => context.are_equal(first, tensor),
        _ => Ok(false),
    }
}

/// A parameter that training added and the base has not: the head of a task, or a module that was trained whole; `None` if it
/// is no such thing.
fn new_parameter(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    parameter: &str,
    tensor: usize,
) -> Option<Target> {
    let name = join(module, parameter);
    let options = &context.adapter.options;
    let is_head_of_task = is_task_head(module) && options.head_task().is_some();
    // Tokens have heads and embeddings of their own names in each model, which are no additions under another.
    let is_of_tokens = is_head(&join(module, "weight")) || is_embedding(&join(module, "weight"));
    if !is_head_of_task && (is_of_tokens || !options.may_be_new(module))
        || context.lookup(module, parameter).is_some()
        || context.lookup(module, "weight").is_some_and(|weight| !matches!(weight, Target::New(_)))
    {
        return None;
    }
    let value = context.tensor(tensor).tensor.clone();
    let beside = context.outline.base.catalogue.tensors.len().checked_sub(1)?;
    if is_task_head(module)
        && parameter == "weight"
        && options.task.is_none()
        && options.head_task().is_none()
    {
        let (adapter, module) = (context.adapter.name.clone(), module.to_owned());
        findings.note(ClaimNote::TaskNotSet { adapter, module });
    }
    let is_float = is_mergeable(value.dtype);
    let dtype = if is_float { context.outline.float_dtype() } else { value.dtype };
    Some(context.outline.add(Addition {
        name: name.into(),
        shape: value.shape,
        dtype,
        copy_of: None,
        beside,
    }))
}
