//! PEANuT: `W + s·B·h(W)`, where `h` is a small network of the weight's columns, on linear layers.
//!
//! Source: Zhong et al. 2025 (arXiv:2410.01870). PEFT: `peanut/layer.py`, `_compute_delta_weight` (peft-methods.md 4.15); `s` is `scaling`. The network's values are made of the
//! base's weight first ([`Network`]), in f64, and rounded to f32 once, so that several adapters do not see one another, as in PEFT.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_whole_modules, expect};
use crate::adapters::claim::made_product::{DerivedProduct, axes, plain_weight, size_by_outputs};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::derived::Derivation;
use crate::ops::derived::network::{Activation, Network};
use crate::ops::factor::Factor;

/// A small network of the weight's columns.
pub(crate) struct Peanut;

const TAILS: [Tail; 2] =
    [Tail { role: ".peanut_A", ending: ".weight" }, Tail { role: ".peanut_B", ending: ".weight" }];

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("depth", Field::Fine),
    ("act_fn", Field::Fine),
    ("scaling", Field::Fine),
    ("init_weights", Field::Fine),
];

impl Claim for Peanut {
    fn peft_types(&self) -> &'static [&'static str] {
        &["PEANUT"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_whole_modules(context, findings, &TAILS, claim_module);
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    [a, b]: [usize; 2],
) -> Result<()> {
    let [rank, out] = axes(context, a, "[rank, out]")?;
    expect(context, b, &[out, rank], a)?;
    let Some(layers) = layers(context, findings, module, (a, rank))? else { return Ok(()) };
    let used = [&[a, b][..], &layers].concat();
    let Some((out, input)) = size_by_outputs(context, findings, (module, &used), (a, out))? else {
        return Ok(());
    };
    let Some(target) = context.target(findings, &used, module, "weight") else { return Ok(()) };
    let weight = plain_weight(context, target, a)?;
    if weight.shape.axes() != [out, input] || context.stores_transposed(&context.weight(target).name) {
        return Err(context.factor_shape(
            a,
            format!("those of a linear layer that is stored as [out, in], which `{module}` is not"),
        ));
    }
    let name = context.adapter.word("act_fn")?;
    let activation = Activation::NAMES.iter().find(|(known, _)| *known == name);
    let activation = activation.map_or(Activation::Relu, |(_, activation)| *activation);
    let recipe = Network { rank: rank as usize, depth: layers.len() / 2, activation }.into();
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let sources = std::iter::once(a).chain(layers.iter().copied()).map(tensor).chain([weight]).collect();
    let made = Derivation { recipe, sources };
    let factors = [
        Factor::derived(made, [input, rank], |h| Factor::along(1, h, rank, rank, 1)),
        Factor::along(0, tensor(b), rank, rank, 1),
    ];
    let scale = context.adapter.own_scale(module, "scaling", context.adapter.number("scaling")?)?;
    let product =
        DerivedProduct { method: "peanut", module, used: &used, size: (out, input), factors, scale };
    product.claim(context, findings)
}

/// A module's encoders, and behind them its decoders; `None` if one is missing, which is recorded.
fn layers(
    context: &ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    (a, rank): (usize, u64),
) -> Result<Option<Vec<usize>>> {
    let depth = context.adapter.number("depth")? as usize;
    let mut layers = Vec::new();
    for kind in ["encoders", "decoders"] {
        for i in 0..depth {
            let path = format!("{module}.peanut_{kind}.{i}.weight");
            let Some(layer) = context.at_path(&path) else {
                findings.lacks_partner(a, &path);
                return Ok(None);
            };
            expect(context, layer, &[rank, rank], a)?;
            findings.take_one(layer);
            layers.push(layer);
        }
    }
    Ok(Some(layers))
}
