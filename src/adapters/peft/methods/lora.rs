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
    /// The parts of the base that were taken out of it before training; no more than one is merged.
    pub base_parts: Vec<TakenPart>,
    /// How the base was quantized that its factors make up for.
    pub loftq: Option<Loftq>,
    /// Variants that were on, by what they left in the file.
    pub aids: Vec<&'static TrainingAid>,
}

impl LoraOptions {
    /// Reads them.
    pub(crate) fn read(config: &AdapterConfig) -> LoraOptions {
        LoraOptions {
            packing: packing(config),
            base_parts: taken_parts(config),
            loftq: loftq(config),
            aids: AIDS.iter().filter(|aid| config.get(aid.field).is_some()).collect(),
        }
    }

    /// The part of the base that the factors stand in place of.
    pub(crate) fn base_part(&self) -> Option<TakenPart> {
        self.base_parts.first().copied()
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

/// LoftQ's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loftq {
    /// Bits of a weight.
    pub bits: u64,
    /// How often weights were quantized again.
    pub iterations: u64,
}

impl Loftq {
    /// The field that says that it was LoftQ, and how.
    pub(crate) const FIELD: (&str, &str) = (INIT, "loftq");
}

const INIT: &str = "init_lora_weights";
const KASA: &str = "kasa_config";

fn taken_parts(config: &AdapterConfig) -> Vec<TakenPart> {
    let at_start = match config.text(INIT) {
        Some("olora") => Some(TakenPart::FirstColumns),
        Some("pissa") => Some(TakenPart::LargestValues),
        _ => None,
    };
    let by_kasa = config.get(KASA).map(|_| TakenPart::SmallestValues);
    by_kasa.into_iter().chain(at_start).collect()
}

/// LoftQ's options, by PEFT's defaults.
fn loftq(config: &AdapterConfig) -> Option<Loftq> {
    let (field, value) = Loftq::FIELD;
    let stated = config.get("loftq_config");
    // What is no whole number is none that is merged.
    let number = |name: &str, default| match stated.and_then(|stated| stated.get(name)) {
        None => default,
        Some(value) => value.as_u64().unwrap_or(0),
    };
    let found = || Loftq { bits: number("loftq_bits", 4), iterations: number("loftq_iter", 1) };
    (config.text(field) == Some(value)).then(found)
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
