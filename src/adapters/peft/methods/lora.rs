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
    /// The factors began as a part of the base, which was taken out of it.
    pub takes_base_part: bool,
    /// Variants that were on, by what they left in the file.
    pub aids: Vec<&'static TrainingAid>,
}

impl LoraOptions {
    /// Reads them.
    pub(crate) fn read(config: &AdapterConfig) -> LoraOptions {
        LoraOptions {
            packing: packing(config),
            takes_base_part: config.text("init_lora_weights") == Some("olora"),
            aids: AIDS.iter().filter(|aid| config.get(aid.field).is_some()).collect(),
        }
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
