//! LoRA's bias: `b + s·lora_B.bias`, with one value for every output.
//!
//! PEFT: `lora/layer.py`, `Linear.merge` with `lora_bias`; the scale is the module's own (peft-methods.md 3.3).

use crate::adapters::claim::context::Claiming;
use crate::adapters::claim::edits::{Change, Claimed};
use crate::adapters::peft::keys::Tail;
use crate::error::Error;
use crate::error::kind::ErrorKind;
use crate::ops::op::Factor;
use crate::ops::placement::Placement;

use crate::adapters::claim::Method;
use crate::adapters::claim::lora::{B, scale};
use crate::ops::block::Block;

/// A vector added to a bias.
pub(crate) struct LoraBias;

const BIAS: Tail = Tail { role: ".lora_B", ending: ".bias" };

impl Method for LoraBias {
    fn name(&self) -> &'static str {
        "lora_bias"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &["LORA"]
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        if claiming.adapter.options.lora_bias {
            note_missing(claiming);
        }
        for (module, tensor) in claiming.take(BIAS) {
            if let Err(error) = claim_bias(claiming, &module, tensor) {
                claiming.refuse(error);
            }
        }
    }

    fn apply(&self, block: &mut Block<'_>) {
        let positions = block.window.cols.range.clone();
        let vector = block.factors[0];
        for (value, position) in block.scratch.iter_mut().zip(positions) {
            *value = vector.at(position, 0);
        }
        block.add_scaled();
    }
}

/// With `lora_bias` every `lora_B` has a bias (an embedding's `lora_embedding_B` has none).
fn note_missing(claiming: &mut Claiming<'_>) {
    for i in 0..claiming.adapter.tensors.len() {
        let Some(module) = B.module(claiming.path(i)).map(str::to_owned) else { continue };
        if claiming.beside(&claiming.tensor(i).key, B, BIAS).is_none() {
            claiming.lacks_partner(i, &BIAS.key(&module));
        }
    }
}

fn claim_bias(claiming: &mut Claiming<'_>, module: &str, tensor: usize) -> Result<(), Error> {
    let bias = claiming.tensor(tensor).clone();
    let adapter = claiming.adapter.name.clone();
    let rank = claiming.beside(&bias.key, BIAS, B).and_then(|b| b.tensor.shape.axes().get(1).copied());
    let Some(rank) = rank else {
        claiming.lacks_partner(tensor, &B.key(module));
        return Ok(());
    };
    if claiming.lookup(module, "bias").is_none() && claiming.lookup(module, "weight").is_some() {
        let tensor = format!("{module}.weight");
        let error = Error::new(ErrorKind::NoBaseBias { adapter, tensor });
        return Err(error.hint("the base layer was made without a bias; PEFT refuses this adapter too"));
    }
    let Some(target) = claiming.target(&[tensor], module, "bias") else { return Ok(()) };
    let weight = claiming.weight(target);
    let (name, shape) = (weight.name, weight.shape);
    if bias.tensor.shape != shape || shape.axes().len() != 1 {
        let factors = format!("`{}` {}", bias.key, bias.tensor.shape);
        let delta = bias.tensor.shape.clone();
        return Err(ErrorKind::DeltaShape { adapter, tensor: name, delta, base: shape, factors }.into());
    }
    let scale = scale(claiming, module, rank)? as f32;
    let factors = vec![Factor::along(0, bias.tensor, 1, 1, 1)];
    let change = Change::new("lora_bias", Placement::vector(shape.elements()), factors, scale);
    claiming.claim(Claimed::change("lora_bias", module, vec![bias.key], target, vec![change]));
    Ok(())
}
