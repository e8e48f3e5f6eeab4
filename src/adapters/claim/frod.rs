//! FRoD: a linear layer in the basis that all modules of one kind share, `U·(S + diag(l))·Vᵀ`, whose `S` and `l` were trained.
//!
//! Source: doi 10.1609/aaai.v40i31.39813. PEFT: `frod/layer.py`, `get_delta_weight`, and `frod/model.py`, `_category_from_key` (peft-methods.md 7). The basis is saved unless
//! `save_projection` says otherwise: it was made of the base where it was trained, by decompositions whose signs and order no file holds.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_whole_modules, expect};
use crate::adapters::claim::made_product::{axes, plain_weight, shared};
use crate::adapters::claim::placing::{Product, orientation};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::in_basis::InBasis;
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::Placement;

/// Weights in shared bases.
pub(crate) struct Frod;

const TAILS: [Tail; 2] = [Tail::bare(".frod_lambda_l"), Tail::bare(".frod_lambda_s_values")];

const FIELDS: &[(&str, Field)] = &[
    // Entries are drawn when training begins, and saved with the basis.
    ("projection_prng_key", Field::Fine),
    ("save_projection", Field::Fine),
    ("sparse_rate", Field::Fine),
    ("regularization_alpha", Field::Fine),
    ("frod_dropout", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("bias", Field::Only(&["none", "all", "frod_only"], "is none of `none`, `all`, `frod_only`")),
    ("init_weights", Field::Fine),
    ("progressbar", Field::Fine),
    ("runtime_offload_base_weight", Field::Fine),
];

impl Claim for Frod {
    fn peft_types(&self) -> &'static [&'static str] {
        &["FROD"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_whole_modules(context, findings, &TAILS, claim_module);
    }
}

const NO_BASIS: (&str, &str) = (
    "the basis that it is for is not in the file",
    "save the adapter again with `save_projection=True` in its config",
);

/// What modules share a basis by: the last two parts of their paths, the last one only behind a number.
fn category(module: &str) -> String {
    let mut parts = module.rsplit('.');
    match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        ("dense", Some("output"), Some("attention")) => "attention_output".to_owned(),
        (last, Some(number), _) if number.bytes().all(|byte| byte.is_ascii_digit()) => last.to_owned(),
        (last, Some(before), _) => format!("{before}_{last}"),
        (last, None, _) => last.to_owned(),
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    [diagonal, values]: [usize; 2],
) -> Result<()> {
    let category = category(module);
    let mut of_kind = |part: &str| {
        let path = format!("frod_{part}.{category}");
        shared(context, findings, (&path, diagonal), NO_BASIS)
    };
    // All are taken, whichever is missing.
    let [basis, places, size] = ["V", "s_indices", "s_size"].map(&mut of_kind);
    let (basis, places, size) = (basis?, places?, size?);
    let [input] = axes(context, diagonal, "[in]")?;
    let count = context.tensor(values).tensor.shape.elements();
    for (i, axes, other) in
        [(basis, &[input, input][..], diagonal), (values, &[count], diagonal), (places, &[2, count], values)]
    {
        expect(context, i, axes, other)?;
    }
    let used = [diagonal, values, basis, places, size];
    let Some(target) = context.target(findings, &used, module, "weight") else { return Ok(()) };
    let weight = plain_weight(context, target, basis)?;
    let [rows, cols] = *weight.shape.axes() else {
        let expected = format!("those of a linear layer, and `{module}` is {}", weight.shape);
        return Err(context.factor_shape(diagonal, expected));
    };
    if rows != input && cols != input {
        let expected = format!("a value for every input of `{module}`, which is {}", weight.shape);
        return Err(context.factor_shape(diagonal, expected));
    }
    let out = if cols == input { rows } else { cols };
    let [a, b] = [basis, diagonal].map(|i| context.tensor(i));
    let is_transposed = orientation(context, findings, target, module, &Product { out, input, a, b })?;
    let recipe = InBasis { outputs: out as usize, inputs: input as usize, is_transposed }.into();
    let mut sources: Vec<_> =
        [basis, diagonal, values, places].map(|i| context.tensor(i).tensor.clone()).into();
    sources.push(weight);
    let made = Derivation { recipe, sources };
    let factor = |axis: usize, start: u64| {
        let along = |part| Factor::along(axis, part, input, input, 1).starting(start * input);
        Factor::derived(made.clone(), [input + out, input], along)
    };
    let placement = Placement::matrix(out, input, is_transposed);
    let scale = context.adapter.weight_of(module) as f32;
    let op = Op::new(LowRank::ADDED, placement, [factor(1, 0), factor(0, input)], scale);
    let keys = used.iter().map(|&i| context.tensor(i).key.clone());
    findings.claim(ClaimedModule::change("frod", module, keys, target, vec![op]));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_category_is_what_peft_calls_it() {
        for (module, expected) in [
            ("encoder.layer.0.attention.self.query", "self_query"),
            ("vision_model.encoder.layers.0.self_attn.q_proj", "self_attn_q_proj"),
            ("encoder.layer.0.attention.output.dense", "attention_output"),
            ("encoder.layer.0.output.dense", "output_dense"),
            ("output.dense", "output_dense"),
            ("experts.3.up", "up"),
            ("classifier", "classifier"),
        ] {
            assert_eq!(category(module), expected);
        }
    }
}
