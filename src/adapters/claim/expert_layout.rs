//! How the factors of fused experts lie: which axis of the parameter `A` is on, and how `B`'s columns are ordered
//! (key-mapping.md 4.2 and 4.3). What the file does not tell is refused, with the flag that tells it.

use std::collections::BTreeMap;

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::evidence::Evidence;
use crate::adapters::expert_options::{Orientation, Packing};
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::model::names::table::has_transposed_experts;

/// Sizes of one fused parameter and its factors.
pub(crate) struct Sides<'s> {
    pub(crate) module: &'s str,
    pub(crate) parameter: &'s str,
    pub(crate) axes: [u64; 3],
    pub(crate) a: u64,
    pub(crate) b: u64,
}

/// Whether each parameter's factors are swapped.
///
/// # Errors
/// Factors that fit neither way, two parameters of a module that disagree, and square ones of which nothing tells.
pub(crate) fn orientations(
    context: &ClaimContext<'_>,
    all: &[Sides<'_>],
) -> std::result::Result<Vec<bool>, Vec<Error>> {
    let (mut errors, mut by_shape) = (Vec::new(), Vec::new());
    for sides in all {
        let Sides { axes: [_, d1, d2], a, b, .. } = *sides;
        let found = match ((a, b) == (d1, d2), (a, b) == (d2, d1)) {
            (true, true) => None,
            (true, false) => Some(false),
            (false, true) => Some(true),
            (false, false) => {
                errors.push(misfit(context, sides));
                None
            }
        };
        by_shape.push(found);
    }
    errors.extend(contradictions(context, all, &by_shape));
    if !errors.is_empty() {
        return Err(errors);
    }
    // The rule depends on the module alone, so any parameter that is not square tells for all.
    let mut known = by_shape.iter().flatten();
    let of_all = known.next().copied().filter(|first| known.all(|other| other == first));
    let mut swapped = Vec::new();
    for (sides, by_shape) in all.iter().zip(&by_shape) {
        match by_shape.or(of_all).map_or_else(|| by_version(context, sides), Ok) {
            Ok(found) => swapped.push(found),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(swapped) } else { Err(errors) }
}

fn misfit(context: &ClaimContext<'_>, sides: &Sides<'_>) -> Error {
    let Sides { module, parameter, axes: [experts, d1, d2], a, b } = sides;
    let (adapter, parameter) = (context.adapter.name.clone(), format!("{module}.{parameter}"));
    let shape = [*experts, *d1, *d2];
    ClaimError::ExpertShape { adapter, parameter, shape, a: *a, b: *b }.into()
}

/// Two parameters of one module that are turned differently.
fn contradictions(context: &ClaimContext<'_>, all: &[Sides<'_>], by_shape: &[Option<bool>]) -> Vec<Error> {
    let mut of_module: BTreeMap<&str, (bool, &str)> = BTreeMap::new();
    let mut errors = Vec::new();
    for (sides, found) in all.iter().zip(by_shape) {
        let Some(found) = found else { continue };
        let (first, parameter) = *of_module.entry(sides.module).or_insert((*found, sides.parameter));
        if first != *found {
            errors.push(Error::new(ClaimError::ExpertsDisagree {
                adapter: context.adapter.name.clone(),
                module: sides.module.to_owned(),
                first: parameter.to_owned(),
                second: sides.parameter.to_owned(),
            }));
        }
    }
    errors
}

/// The orientation of a square parameter that is alone: by the flag, else by the version that wrote the adapter.
fn by_version(context: &ClaimContext<'_>, sides: &Sides<'_>) -> Result<bool> {
    if let Some(orientation) = context.adapter.experts.orientation {
        return Ok(orientation == Orientation::Swapped);
    }
    if context.adapter.evidence.is_nemo {
        let why =
            "NeMo AutoModel made it, which keeps to the axes of an older PEFT whatever version it names";
        return Err(unclear(context, sides, why));
    }
    let is_transposed = context.outline.base.config.model_type().is_some_and(has_transposed_experts);
    match context.adapter.evidence.peft {
        None => Ok(false),
        Some(version) if version < [0, 19, 0] => Ok(false),
        Some(_) if is_transposed => Err(unclear(
            context,
            sides,
            "the version of transformers in training decides, and the adapter does not say it",
        )),
        // 0.19.0 swapped only modules that are transposed.
        Some(version) => Ok(version > [0, 19, 0]),
    }
}

fn unclear(context: &ClaimContext<'_>, sides: &Sides<'_>, why: &'static str) -> Error {
    let (adapter, parameter) =
        (context.adapter.name.clone(), format!("{}.{}", sides.module, sides.parameter));
    let what = "orientation of `lora_A`";
    Error::new(ClaimError::Unclear { adapter, parameter, what, why }).hint(
        "pass `--expert-lora-a-axis d1` (PEFT up to 0.18) or `--expert-lora-a-axis d2` (later versions)",
    )
}

/// Refuses a stack of another number of experts than the base's config says.
///
/// # Errors
/// [`ClaimError::ExpertCount`].
pub(crate) fn check_count(context: &ClaimContext<'_>, parameter: &str, experts: u64) -> Result<()> {
    match context.names.expert_count().filter(|&expected| expected != experts) {
        None => Ok(()),
        Some(expected) => {
            Err(ClaimError::ExpertCount { parameter: parameter.to_owned(), found: experts, expected }.into())
        }
    }
}

/// Whether `B`'s columns have the experts slowest.
pub(crate) fn is_grouped(context: &ClaimContext<'_>, rank: u64, experts: u64, key: &str) -> Result<bool> {
    let stated = context.adapter.options.methods.lora.packing.as_ref();
    if let Some(packing) = stated.map_err(|problem| problem.refused(&context.adapter.name))? {
        return Ok(*packing == Packing::GroupedByExpert);
    }
    if rank == 1 || experts == 1 {
        return Ok(false);
    }
    if let Some(packing) = context.adapter.experts.packing {
        return Ok(packing == Packing::GroupedByExpert);
    }
    let Some(Doubt { why, hint }) = doubt(context.adapter.evidence) else { return Ok(false) };
    let (adapter, parameter) = (context.adapter.name.clone(), key.to_owned());
    let what = "order of experts in `lora_B`";
    Err(Error::new(ClaimError::Unclear { adapter, parameter, what, why }).hint(hint))
}

/// Why the order of experts in `lora_B` is not known, and what helps.
struct Doubt {
    why: &'static str,
    hint: &'static str,
}

/// What makes it doubtful that `lora_B` is packed as PEFT does: producers that do, or did, otherwise.
fn doubt(evidence: Evidence) -> Option<Doubt> {
    if evidence.is_unsloth {
        let why = "it was made by Unsloth, which changed the order in September 2026";
        let hint = "pass `--expert-packing expert-major` (Unsloth before that) or `--expert-packing rank-major` (as PEFT)";
        return Some(Doubt { why, hint });
    }
    evidence.is_megatron_bridge.then_some(Doubt {
        why: "its config looks like Megatron-Bridge's, which packs the experts in another order than PEFT does",
        hint: "pass `--expert-packing expert-major` (`grouped_by_expert`: Megatron-Bridge) or `--expert-packing rank-major` (as \
               PEFT)",
    })
}
