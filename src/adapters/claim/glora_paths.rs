//! GLoRA as PEFT has it: `W + W∘A + B` for a weight, and `b + b∘D + E + W·C` for its bias, on linear layers.
//!
//! Source: Chavan et al. 2023 (arXiv:2306.07967), equation 10. PEFT: `glora/layer.py`, `GloraLinear.merge` (peft-methods.md 4.16). Each of the five is a product of two
//! (`Xd·Xu`), a vector, one value (`X`), or nothing (`zeros`). Those of the weight, and of the bias what does not look at the weight, are sums and
//! products of stored values: a vector is a factor beside ones. `W·C` is made first, in f64 ([`WeightTimes`]). A layer without a bias has no use for the
//! last three.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris::{claim_modules, expect};
use crate::adapters::claim::made_product::{axes, plain_weight};
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::model::outline::Target;
use crate::ops::derived::filled::Constant;
use crate::ops::derived::weight_times::WeightTimes;
use crate::ops::derived::{Derivation, RecipeKind};
use crate::ops::factor::Factor;
use crate::ops::low_rank::LowRank;
use crate::ops::op::Op;
use crate::ops::placement::{Axis, Placement};
use crate::tensor::reference::TensorRef;

/// A share of the weight and a sum, and both for its bias.
pub(crate) struct GloraPaths;

/// The two factors, the value or values, and the zeros of one path.
const fn path(role: &'static str) -> [Tail; 4] {
    [
        Tail { role, ending: ".Xd" },
        Tail { role, ending: ".Xu" },
        Tail { role, ending: ".X" },
        Tail { role, ending: ".zeros" },
    ]
}

const PATHS: [&str; 5] = [".glora_A", ".glora_B", ".glora_C", ".glora_D", ".glora_E"];

/// All tails, path by path.
const TAILS: [Tail; 20] = {
    let mut tails = [Tail::bare(""); 20];
    let mut i = 0;
    while i < 20 {
        tails[i] = path(PATHS[i / 4])[i % 4];
        i += 1;
    }
    tails
};

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    // The tensors of each path tell.
    ("config_A_B", Field::Fine),
    ("config_C", Field::Fine),
    ("config_D_E", Field::Fine),
    ("bias", Field::Only(&["none", "all", "glora_only"], "is none of `none`, `all`, `glora_only`")),
    ("init_weights", Field::Fine),
];

impl Claim for GloraPaths {
    fn peft_types(&self) -> &'static [&'static str] {
        &["GLORA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        claim_modules(context, findings, &TAILS, claim_module);
    }
}

/// What a path is.
enum Path {
    /// A product of `Xd [out, rank]` and `Xu [rank, in]`.
    Product([usize; 2]),
    /// A value for each output, or one for all.
    Values(usize),
    /// Nothing.
    Nothing,
}

/// Reads the paths of a module; `None` if what is wrong is recorded.
fn paths(findings: &mut Findings<'_>, module: &str, tensors: &[Option<usize>; 20]) -> Option<[Path; 5]> {
    let present = *tensors.iter().flatten().next()?;
    let mut paths = [const { Path::Nothing }; 5];
    for (i, (path, found)) in paths.iter_mut().zip(tensors.as_chunks::<4>().0).enumerate() {
        *path = match *found {
            [Some(down), Some(up), None, None] => Path::Product([down, up]),
            [None, None, Some(values), None] => Path::Values(values),
            [None, None, None, Some(_)] => Path::Nothing,
            [down, up, None, None] => {
                let missing = TAILS[i * 4 + usize::from(down.is_some())];
                findings.lacks_partner(down.or(up).unwrap_or(present), &missing.key(module));
                return None;
            }
            _ => {
                for &i in found.iter().flatten() {
                    findings.refuse_tensor(i, "a product, values and zeros of one path exclude each other");
                }
                return None;
            }
        };
    }
    Some(paths)
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensors: [Option<usize>; 20],
) -> Result<()> {
    let Some([a, b, c, d, e]) = paths(findings, module, &tensors) else { return Ok(()) };
    let used: Vec<usize> = tensors.into_iter().flatten().collect();
    let Some(target) = context.target(findings, &used, module, "weight") else { return Ok(()) };
    let weight = context.weight(target);
    let &[out, input] = weight.shape.axes() else {
        return Err(
            context.factor_shape(used[0], format!("those of a linear layer, which `{}` is not", weight.name))
        );
    };
    if context.stores_transposed(&weight.name) {
        return Err(context.factor_shape(
            used[0],
            format!("those of a linear layer stored as [out, in], which `{}` is not", weight.name),
        ));
    }
    let change = |context: &ClaimContext<'_>, target, ops| {
        let keys = used.iter().map(|&i| context.tensor(i).key.clone());
        ClaimedModule::change("glora", module, keys, target, times_weight(context, module, ops))
    };
    let whole = Placement::matrix(out, input, false);
    let mut ops = Vec::new();
    for (path, kind) in [(&a, LowRank::SHARE), (&b, LowRank::ADDED)] {
        ops.extend(op(context, path, kind, (&whole, [out, input]))?);
    }
    if !ops.is_empty() {
        findings.claim(change(context, target, ops));
    }
    let Some(bias) = bias(context, findings, (module, &used), out)? else { return Ok(()) };
    let along =
        Placement { start: 0, axes: [Axis { count: out, stride: 1 }, Axis { count: 1, stride: 1 }].into() };
    let mut ops = Vec::new();
    for (path, kind) in [(&d, LowRank::SHARE), (&e, LowRank::ADDED)] {
        ops.extend(op(context, path, kind, (&along, [out, 1]))?);
    }
    if let Some(times) = times(context, &c, [out, input])? {
        let sources = [times.clone(), vec![plain_weight(context, target, used[0])?]].concat();
        let recipe = WeightTimes { outputs: out as usize, is_product: times.len() > 1 };
        let made = Derivation { recipe: recipe.into(), sources };
        let product = Factor::derived(made, [1, out], |b| Factor::along(0, b, 1, 1, 1));
        ops.push(beside_ones((LowRank::ADDED, &along), product, &times[0], 1));
    }
    if !ops.is_empty() {
        findings.claim(change(context, bias, ops));
    }
    Ok(())
}

/// The bias of a layer, which must have a value for every output; none if it has none, or if what is wrong is recorded.
fn bias(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    (module, used): (&str, &[usize]),
    out: u64,
) -> Result<Option<Target>> {
    if context.lookup(module, "bias").is_none() {
        return Ok(None);
    }
    let Some(bias) = context.target(findings, used, module, "bias") else { return Ok(None) };
    let weight = context.weight(bias);
    if weight.shape.axes() == [out] {
        return Ok(Some(bias));
    }
    let expected =
        format!("those of a layer with {out} values in its bias, and `{}` is {}", weight.name, weight.shape);
    Err(context.factor_shape(used[0], expected))
}

/// Ops that have no scale of their own, times the weight of their module.
fn times_weight(context: &ClaimContext<'_>, module: &str, ops: Vec<Op>) -> Vec<Op> {
    let scale = context.adapter.weight_of(module) as f32;
    ops.into_iter().map(|op| Op { scale, ..op }).collect()
}

/// What a path does to a tensor of so many outputs and inputs; none if nothing.
fn op(
    context: &ClaimContext<'_>,
    path: &Path,
    kind: LowRank,
    (whole, [out, input]): (&Placement, [u64; 2]),
) -> Result<Option<Op>> {
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    match *path {
        Path::Nothing => Ok(None),
        Path::Product([down, up]) => {
            let [_, rank] = axes(context, down, "[out, rank]")?;
            expect(context, down, &[out, rank], up)?;
            expect(context, up, &[rank, input], down)?;
            let factors =
                [Factor::along(1, tensor(up), 1, rank, input), Factor::along(0, tensor(down), rank, rank, 1)];
            Ok(Some(Op::new(kind, whole.clone(), factors, 1.0)))
        }
        Path::Values(i) => {
            let values = tensor(i);
            let b = match *values.shape.axes() {
                [count] | [count, 1] if count == out => Factor::along(0, values.clone(), 1, 1, 1),
                [1] => made(Constant::Value, &values, 0, out),
                _ => return Err(context.factor_shape(i, format!("one value, or [{out}]"))),
            };
            Ok(Some(beside_ones((kind, whole), b, &values, input)))
        }
    }
}

/// An op of one column, beside as many ones as there are inputs.
fn beside_ones((kind, whole): (LowRank, &Placement), column: Factor, of: &TensorRef, inputs: u64) -> Op {
    let factors = [made(Constant::Ones, of, 1, inputs), column];
    Op::new(kind, whole.clone(), factors, 1.0)
}

/// A factor of one value everywhere.
fn made(filled: Constant, of: &TensorRef, axis: usize, count: u64) -> Factor {
    let made = Derivation { recipe: RecipeKind::from(filled), sources: vec![of.clone()] };
    Factor::derived(made, [1, count], |factor| Factor::along(axis, factor, 1, 1, 1))
}

/// The tensors of the vector that a weight is multiplied by; none if it is nothing.
fn times(context: &ClaimContext<'_>, path: &Path, [_, input]: [u64; 2]) -> Result<Option<Vec<TensorRef>>> {
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    match *path {
        Path::Nothing => Ok(None),
        Path::Product([down, up]) => {
            let [_, rank] = axes(context, down, "[in, rank]")?;
            expect(context, down, &[input, rank], up)?;
            expect(context, up, &[rank, 1], down)?;
            Ok(Some(vec![tensor(down), tensor(up)]))
        }
        Path::Values(i) => {
            if tensor(i).shape.elements() != input {
                return Err(context.factor_shape(i, format!("[{input}, 1]")));
            }
            Ok(Some(vec![tensor(i)]))
        }
    }
}
