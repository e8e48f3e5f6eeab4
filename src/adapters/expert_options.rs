//! What the user says of how an adapter's experts lie. What a file tells itself is found by
//! [`expert_layout`](crate::adapters::claim::expert_layout).

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

impl ExpertLayout {
    /// What the user decided, as the model card says it.
    pub fn decisions(&self) -> Vec<String> {
        let packing = self.packing.map(|packing| match packing {
            Packing::RankMajor => "`lora_B` of experts is read as `rank-major`",
            Packing::GroupedByExpert => "`lora_B` of experts is read as `expert-major`",
        });
        let orientation = self.orientation.map(|orientation| match orientation {
            Orientation::Straight => "`lora_A` of square parameters of experts is read as `d1`",
            Orientation::Swapped => "`lora_A` of square parameters of experts is read as `d2`",
        });
        let decided = packing.into_iter().chain(orientation);
        decided.map(|decided| format!("{decided} where the adapter does not say (as asked)")).collect()
    }
}
