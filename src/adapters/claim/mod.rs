//! What adapters do to weights: one file per method, one row in [`METHODS`].
//!
//! A method works twice. While the plan is made, it claims the adapter's tensors that it knows ([`Method::claim`]). While
//! the plan runs, it applies its ops to blocks of f32 values ([`Method::apply`]), with the parts of its factors that the
//! block needs already decoded; if its op needs a fold, it has seen the tensor before ([`Method::observe`],
//! [`Method::fold`]). It never sees a file, a thread, an encoding or a budget.

pub(crate) mod bdlora;
pub(crate) mod context;
pub(crate) mod dora;
pub(crate) mod duplicates;
pub(crate) mod edits;
pub(crate) mod expert_layout;
pub(crate) mod expert_stacks;
pub(crate) mod full_weights;
pub(crate) mod hira;
pub(crate) mod ia3;
pub(crate) mod layers;
pub(crate) mod locate;
pub(crate) mod loha;
pub(crate) mod lokr;
pub(crate) mod lora;
pub(crate) mod lora_bias;
pub(crate) mod lycoris;
pub(crate) mod oft;
pub(crate) mod quantized_target;
pub(crate) mod target_parameters;
pub(crate) mod tied_duplicates;
pub(crate) mod trainable_tokens;

use crate::kernels::dispatch::Kernels;
use crate::ops::block::Block;
use crate::ops::op::Op;
use crate::ops::placement::Window;

use crate::adapters::claim::context::Claiming;
use crate::adapters::peft::config::Field;
use crate::adapters::scan::TensorContents;

/// One kind of change to a weight.
pub(crate) trait Method: Sync {
    /// Its name in plans and messages.
    fn name(&self) -> &'static str;

    /// The `peft_type`s whose adapters it reads; empty if it reads any.
    fn peft_types(&self) -> &'static [&'static str];

    /// The fields of `adapter_config.json` that it honours, or knows to have no effect; all others are refused.
    fn fields(&self) -> &'static [(&'static str, Field)] {
        &[]
    }

    /// Claims the adapter's tensors that belong to it. What is wrong with them goes into `claiming`, all of it.
    fn claim(&self, claiming: &mut Claiming<'_>);

    /// Why a change of its own changes nothing, whatever the weights are, if that shows in its scale or in what its factors
    /// hold (`holds` is in their order).
    fn idle(&self, scale: f32, holds: &[TensorContents]) -> Option<&'static str> {
        match holds.iter().any(|factor| factor.zero) {
            true => Some("a factor is all zero (untrained adapter?)"),
            false => (scale == 0.0).then_some("its scale is 0"),
        }
    }

    /// Rooms of the window's size that [`Block::scratch`] must have; the first is the delta's.
    fn rooms(&self) -> usize {
        1
    }

    /// The largest inner dimension of a product that it asks of the kernels for a block; 0 if it asks for none. Their packing
    /// buffers are counted by it.
    fn rank(&self, op: &Op) -> u64 {
        let along = op.factors.iter().filter(|factor| factor.index.is_some());
        if along.clone().count() > 1 { along.map(|factor| factor.inner).max().unwrap_or(0) } else { 0 }
    }

    /// Makes of a factor without an axis what [`apply`](Self::apply) wants: its values stand first in `values`, which has
    /// room for [`crate::ops::op::Factor::made`] of them. Called once each time the factor is read.
    fn prepare(&self, _op: &Op, _factor: usize, _values: &mut [f32]) {
        unreachable!("the method asks for no prepared factor")
    }

    /// Turns a block of what the tensor starts from into what is folded. Called for ops whose need is a fold.
    fn observe(&self, _block: &mut Block<'_>) {
        unreachable!("the method asks for no fold")
    }

    /// Adds what was observed to what is known of its positions. Pieces come in the order of rows, and within a row in the
    /// order of columns, but may be of any size: the result must not depend on where they are cut.
    fn fold(&self, _seen: &Seen<'_>, _state: &mut [f64]) {
        unreachable!("the method asks for no fold")
    }

    /// Applies an op of its own to a block: changes the window's values and leaves what was added in the scratch.
    fn apply(&self, block: &mut Block<'_>);
}

/// Every method, in the order in which they claim: the last takes what names a base tensor outright.
pub(crate) static METHODS: &[&dyn Method] = &[
    &crate::adapters::claim::tied_duplicates::TiedCopy,
    &crate::adapters::claim::trainable_tokens::Tokens,
    &crate::adapters::claim::expert_stacks::LoraStacked,
    &crate::adapters::claim::target_parameters::LoraParameter,
    &dora::Dora,
    &bdlora::BdLora,
    &lora::Lora,
    &lora_bias::LoraBias,
    &ia3::Ia3,
    &hira::Hira,
    &oft::Oft,
    &loha::Loha,
    &lokr::Lokr,
    &crate::adapters::claim::full_weights::Replace,
];

/// The method of that name.
pub(crate) fn find(name: &str) -> Option<&'static dyn Method> {
    METHODS.iter().copied().find(|method| method.name() == name)
}

/// Whether a method reads adapters of that type.
pub(crate) fn reads(method: &dyn Method, peft_type: &str) -> bool {
    method.peft_types().is_empty() || method.peft_types().contains(&peft_type)
}

/// A block of observed values, to be folded.
pub(crate) struct Seen<'s> {
    /// The values, row-major, rows of `width`.
    pub values: &'s [f32],
    /// Elements of a row of `values`.
    pub width: usize,
    /// Which part of the op's delta they are, and where.
    pub window: &'s Window,
    /// The axis of the delta whose positions the state is of.
    pub axis: usize,
    /// The position that the state's first values belong to.
    pub first: u64,
    /// Values of the state for each position.
    pub per: usize,
    /// Which implementation runs.
    pub kernels: Kernels,
}
