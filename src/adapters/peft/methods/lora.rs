//! LoRA's options of its own: the order of experts in `lora_B`, and what was kept for training alone.

use crate::adapters::expert_options::Packing;
use crate::adapters::peft::config::AdapterConfig;
use crate::adapters::problem::Problem;

/// The field for the order of experts.
const LAYOUT: &str = "lora_B_layout";

/// Tensors of a variant that only training needs.
#[derive(Debug)]
pub(crate) struct TrainingAid {
    /// The field that switches the variant on.
    field: &'static str,
    /// A segment of its tensors' paths.
    pub segment: &'static str,
    /// Why no merge needs them.
    pub rule: &'static str,
}

const AIDS: &[TrainingAid] = &[
    TrainingAid {
        field: "velora_config",
        segment: "lora_velora_embed",
        rule: "VeLoRA compresses activations with it in training only",
    },
    TrainingAid {
        field: "monteclora_config",
        segment: "lora_monteclora_sampler",
        rule: "MonteCLoRA draws samples with it in training only",
    },
];

/// Options of LoRA.
#[derive(Clone, Debug)]
pub(crate) struct LoraOptions {
    /// The order of experts in `lora_B`, where the config says it.
    pub packing: Result<Option<Packing>, Problem>,
    /// The part of the base that was taken out of it before training.
    pub base_part: Option<TakenPart>,
    /// Variants that were on, by what they left in the file.
    pub aids: Vec<&'static TrainingAid>,
}

impl LoraOptions {
    /// Reads them.
    pub(crate) fn read(config: &AdapterConfig) -> LoraOptions {
        LoraOptions {
            packing: packing(config),
            base_part: taken_part(config),
            aids: AIDS.iter().filter(|aid| config.get(aid.field).is_some()).collect(),
        }
    }
}

/// A part of the base that a LoRA stands in place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TakenPart {
    /// That in the space of the first columns (OLoRA).
    FirstColumns,
    /// That of the largest singular values (PiSSA).
    LargestValues,
    /// That of the smallest singular values (KaSA).
    SmallestValues,
}

impl TakenPart {
    /// The field that says so, and how.
    pub(crate) fn field(self) -> (&'static str, &'static str) {
        match self {
            TakenPart::FirstColumns => (INIT, "olora"),
            TakenPart::LargestValues => (INIT, "pissa"),
            TakenPart::SmallestValues => (KASA, "{…}"),
        }
    }
}

const INIT: &str = "init_lora_weights";
const KASA: &str = "kasa_config";

fn taken_part(config: &AdapterConfig) -> Option<TakenPart> {
    match config.text(INIT) {
        _ if config.get(KASA).is_some() => Some(TakenPart::SmallestValues),
        Some("olora") => Some(TakenPart::FirstColumns),
        Some("pissa") => Some(TakenPart::LargestValues),
        _ => None,
    }
}

fn packing(config: &AdapterConfig) -> Result<Option<Packing>, Problem> {
    let Some(value) = config.get(LAYOUT) else { return Ok(None) };
    match value.as_str() {
        Some("rank_major") => Ok(Some(Packing::RankMajor)),
        Some("grouped_by_expert") => Ok(Some(Packing::GroupedByExpert)),
        _ => Err(Problem::Value {
            field: LAYOUT.to_owned(),
            value: value.clone(),
            why: "is neither `rank_major` nor `grouped_by_expert`",
        }),
    }
}
