//! How the factors of fused experts lie: which axis of the parameter `A` is on, and how `B`'s columns are ordered
//! (key-mapping.md 4.2 and 4.3). What the file does not tell is refused, with the flag that tells it.

use std::collections::BTreeMap;

use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};

use crate::adapters::claim::context::Claiming;

/// The order of `B`'s columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Experts fastest: column `k·E + e`, as PEFT writes it.
    RankMajor,
    /// Experts slowest: column `e·r + k`, as Unsloth wrote it until September 2026.
    GroupedByExpert,
}

/// Which axis of a fused parameter `[experts, d1, d2]` the input factor `A` is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orientation {
    /// `A` on `d1`, as PEFT did up to 0.18.
    Straight,
    /// `A` on `d2`.
    Swapped,
}

/// What the user says of an adapter's experts, where its file does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertLayout {
    /// The order of `B`'s columns.
    pub packing: Option<Packing>,
    /// The axis of `A`.
    pub orientation: Option<Orientation>,
}

/// Sizes of one fused parameter and its factors.
pub(crate) struct Sides<'s> {
    pub(crate) module: &'s str,
    pub(crate) parameter: &'s str,
    pub(crate) axes: [u64; 3],
    pub(crate) a: u64,
    pub(crate) b: u64,
}

/// Model types whose experts say `is_transposed` in transformers.
const TRANSPOSED: &[&str] = &["gpt_oss", "aria", "aria_text", "openai_privacy_filter"];

/// Whether each parameter's factors are swapped.
///
/// # Errors
/// Factors that fit neither way, two parameters of a module that disagree, and square ones of which nothing tells.
pub(crate) fn orientations(
    claiming: &Claiming<'_>,
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
                errors.push(misfit(claiming, sides));
                None
            }
        };
        by_shape.push(found);
    }
    errors.extend(contradictions(claiming, all, &by_shape));
    if !errors.is_empty() {
        return Err(errors);
    }
    // The rule depends on the module alone, so any parameter that is not square tells for all.
    let mut known = by_shape.iter().flatten();
    let of_all = known.next().copied().filter(|first| known.all(|other| other == first));
    let mut swapped = Vec::new();
    for (sides, by_shape) in all.iter().zip(&by_shape) {
        match by_shape.or(of_all).map_or_else(|| by_version(claiming, sides), Ok) {
            Ok(found) => swapped.push(found),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(swapped) } else { Err(errors) }
}

fn misfit(claiming: &Claiming<'_>, sides: &Sides<'_>) -> Error {
    let Sides { module, parameter, axes: [experts, d1, d2], a, b } = sides;
    let (adapter, parameter) = (claiming.adapter.name.clone(), format!("{module}.{parameter}"));
    let shape = [*experts, *d1, *d2];
    ErrorKind::ExpertShape { adapter, parameter, shape, a: *a, b: *b }.into()
}

/// Two parameters of one module that are turned differently.
fn contradictions(claiming: &Claiming<'_>, all: &[Sides<'_>], by_shape: &[Option<bool>]) -> Vec<Error> {
    let mut of_module: BTreeMap<&str, (bool, &str)> = BTreeMap::new();
    let mut errors = Vec::new();
    for (sides, found) in all.iter().zip(by_shape) {
        let Some(found) = found else { continue };
        let (first, parameter) = *of_module.entry(sides.module).or_insert((*found, sides.parameter));
        if first != *found {
            errors.push(Error::new(ErrorKind::ExpertsDisagree {
                adapter: claiming.adapter.name.clone(),
                module: sides.module.to_owned(),
                first: parameter.to_owned(),
                second: sides.parameter.to_owned(),
            }));
        }
    }
    errors
}

/// The orientation of a square parameter that is alone: by the flag, else by the version that wrote the adapter.
fn by_version(claiming: &Claiming<'_>, sides: &Sides<'_>) -> Result<bool> {
    if let Some(orientation) = claiming.adapter.experts.orientation {
        return Ok(orientation == Orientation::Swapped);
    }
    if claiming.adapter.evidence.is_nemo {
        let why =
            "NeMo AutoModel made it, which keeps to the axes of an older PEFT whatever version it names";
        return Err(unclear(claiming, sides, why));
    }
    let is_transposed =
        claiming.outline.base.config.model_type().is_some_and(|model_type| TRANSPOSED.contains(&model_type));
    match claiming.adapter.evidence.peft {
        None => Ok(false),
        Some(version) if version < [0, 19, 0] => Ok(false),
        Some(_) if is_transposed => Err(unclear(
            claiming,
            sides,
            "the version of transformers in training decides, and the adapter does not say it",
        )),
        // 0.19.0 swapped only modules that are transposed.
        Some(version) => Ok(version > [0, 19, 0]),
    }
}

fn unclear(claiming: &Claiming<'_>, sides: &Sides<'_>, why: &str) -> Error {
    let (adapter, parameter) =
        (claiming.adapter.name.clone(), format!("{}.{}", sides.module, sides.parameter));
    let what = "on which axis `lora_A` lies".to_owned();
    Error::new(ErrorKind::Unclear { adapter, parameter, what, why: why.to_owned() }).hint(
        "say it with `--expert-orientation straight` (as PEFT up to 0.18) or `--expert-orientation swapped`",
    )
}

/// Refuses a stack of another number of experts than the base's config says.
///
/// # Errors
/// [`ErrorKind::ExpertCount`].
pub(crate) fn check_count(claiming: &Claiming<'_>, parameter: &str, experts: u64) -> Result<()> {
    match claiming.names.expert_count().filter(|&expected| expected != experts) {
        None => Ok(()),
        Some(expected) => {
            Err(ErrorKind::ExpertCount { parameter: parameter.to_owned(), found: experts, expected }.into())
        }
    }
}

impl ExpertLayout {
    /// What the user said, as the model card tells it.
    pub fn told(&self) -> Vec<String> {
        let packing = self.packing.map(|packing| match packing {
            Packing::RankMajor => "`lora_B` of experts is read as `rank_major`",
            Packing::GroupedByExpert => "`lora_B` of experts is read as `grouped_by_expert`",
        });
        let orientation = self.orientation.map(|orientation| match orientation {
            Orientation::Straight => "`lora_A` of square parameters of experts is read as `straight`",
            Orientation::Swapped => "`lora_A` of square parameters of experts is read as `swapped`",
        });
        let told = packing.into_iter().chain(orientation);
        told.map(|told| format!("{told}, as asked, where an adapter does not tell")).collect()
    }
}

/// Whether `B`'s columns have the experts slowest.
pub(crate) fn is_grouped(claiming: &Claiming<'_>, rank: u64, experts: u64, key: &str) -> Result<bool> {
    let config = &claiming.adapter.config;
    match (config.text("lora_B_layout"), config.get("lora_B_layout")) {
        (Some("rank_major"), _) => return Ok(false),
        (Some("grouped_by_expert"), _) => return Ok(true),
        (_, Some(value)) => {
            return Err(config.bad(
                "lora_B_layout",
                value,
                "is neither `rank_major` nor `grouped_by_expert`",
            ));
        }
        _ => {}
    }
    if rank == 1 || experts == 1 {
        return Ok(false);
    }
    if let Some(packing) = claiming.adapter.experts.packing {
        return Ok(packing == Packing::GroupedByExpert);
    }
    if !claiming.adapter.evidence.is_unsloth {
        return Ok(false);
    }
    let (adapter, parameter) = (claiming.adapter.name.clone(), key.to_owned());
    let what = "how the experts' columns are ordered".to_owned();
    let why = "it was made by Unsloth, which changed the order in September 2026".to_owned();
    Err(Error::new(ErrorKind::Unclear { adapter, parameter, what, why }).hint(
        "say it with `--expert-packing grouped_by_expert` (Unsloth before that) or `--expert-packing rank_major` (as PEFT)",
    ))
}
