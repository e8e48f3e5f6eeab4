//! (IA)³: outputs or inputs of a layer times a vector, `W' = l_o·W` or `W' = W·l_i`; a bias goes with the outputs.
//!
//! Source: Liu et al. 2022 (arXiv:2205.05638), section 3.3. PEFT: `ia3/layer.py`, `Linear.merge` and `_ConvNd.merge`. Adapters
//! that are merged together multiply one another. The product runs in f32 and is rounded once; there is no scale.
//!
//! A linear layer's vector is `[out, 1]` or `[1, in]`, so that its shape tells the side, and its length how a layer that is
//! not square is stored (peft-methods.md 4.17). A convolution's is `[1, features, 1, ...]` on either side. A grouped one has
//! `in / groups` stored inputs: its outputs, group after group, meet parts of the vector that lie one behind another. Where
//! the shape fits both sides `feedforward_modules` tells: modules named there have vectors on their inputs.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::refusals::WEIGHT_ONE;
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::adapters::peft::methods::ia3::FIELD;
use crate::error::adapter::AdapterError;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::ops::scale_axis::{Groups, ScaleAxis};

/// A vector that multiplies.
pub(crate) struct Ia3;

const VECTOR: Tail = Tail::bare(".ia3_l");

const FIELDS: &[(&str, Field)] =
    &[(FIELD, Field::Fine), ("fan_in_fan_out", Field::Flag), ("init_ia3_weights", Field::Fine)];

impl Claim for Ia3 {
    fn peft_types(&self) -> &'static [&'static str] {
        &["IA3"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let vectors = findings.take(context, VECTOR);
        let weight_of = |(module, _): (&&str, &usize)| Some(context.adapter.weight_of(module));
        if let Some(weight) = vectors.iter().filter_map(weight_of).find(|weight| *weight != 1.0) {
            let why = "it multiplies what it finds, and a part of a product is not defined";
            let adapter = context.adapter.name.clone();
            let error = Error::new(ClaimError::Weighted { adapter, what: "IA3".to_owned(), weight, why });
            findings.refuse(error.hint(WEIGHT_ONE));
        }
        for (module, vector) in vectors {
            if let Err(error) = claim_module(context, findings, module, vector) {
                findings.refuse(error);
            }
        }
    }
}

/// The side of a layer that a vector is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Outputs,
    Inputs,
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensor: usize,
) -> Result<()> {
    let Some(target) = context.target(findings, &[tensor], module, "weight") else { return Ok(()) };
    let vector = context.tensor(tensor).clone();
    let features = vector.tensor.shape.elements();
    let (side, op) = match *context.weight(target).shape.axes() {
        [rows, cols] => linear(context, module, tensor, (rows, cols))?,
        [outputs, inputs, ref kernel @ ..] => {
            let kernel = (kernel.len(), kernel.iter().product());
            convolution(context, module, tensor, (outputs, inputs), kernel)?
        }
        _ => {
            let shape = context.weight(target).shape;
            return Err(context.factor_shape(
                tensor,
                format!("a matrix or a convolution to multiply, and `{module}.weight` is {shape}"),
            ));
        }
    };
    findings.claim(ClaimedModule::change("ia3", module, [vector.key.clone()], target, vec![op]));
    if side == Side::Inputs || context.lookup(module, "bias").is_none() {
        return Ok(());
    }
    let Some(target) = context.target(findings, &[tensor], module, "bias") else { return Ok(()) };
    let bias = context.weight(target).shape;
    if bias.axes() != [features] {
        return Err(context.factor_shape(tensor, format!("{bias} values, as `{module}.bias` has")));
    }
    let factors = vec![Factor::along(0, vector.tensor, 1, 1, 1)];
    let op = Op::new(ScaleAxis::of(None), Placement::vector(features), factors, 1.0);
    findings.claim(ClaimedModule::change("ia3", module, [vector.key], target, vec![op]));
    Ok(())
}

/// A linear layer's side, and the op: `[out, 1]` are outputs, `[1, in]` inputs.
fn linear(
    context: &mut ClaimContext<'_>,
    module: &str,
    tensor: usize,
    (rows, cols): (u64, u64),
) -> Result<(Side, Op)> {
    let vector = context.tensor(tensor).tensor.clone();
    let (side, features) = match *vector.shape.axes() {
        [1, 1] => (side_by_options(context, module, tensor)?, 1),
        [out, 1] => (Side::Outputs, out),
        [1, input] => (Side::Inputs, input),
        _ => return Err(context.factor_shape(tensor, "[out, 1] or [1, in]".to_owned())),
    };
    let (straight, turned) = if side == Side::Outputs { (rows, cols) } else { (cols, rows) };
    let is_transposed = match (features == straight, features == turned) {
        (true, true) => context.stores_transposed(&format!("{module}.weight")),
        (true, false) => false,
        (false, true) => true,
        (false, false) => {
            let expected = format!("one side of `{module}.weight` [{rows}, {cols}]");
            return Err(context.factor_shape(tensor, expected).hint(OTHER_SIZES));
        }
    };
    let (out, input) = if is_transposed { (cols, rows) } else { (rows, cols) };
    let axis = if side == Side::Outputs { 0 } else { 1 };
    let factors = vec![Factor::along(axis, vector, 1, 1, 1)];
    Ok((side, Op::new(ScaleAxis::of(None), Placement::matrix(out, input, is_transposed), factors, 1.0)))
}

const OTHER_SIZES: &str = "the adapter was trained on a model with other sizes: is it for this base?";

/// A convolution's side, and the op: `[1, features, 1, ...]` are its outputs, or the inputs of all its groups.
fn convolution(
    context: &mut ClaimContext<'_>,
    module: &str,
    tensor: usize,
    (outputs, inputs): (u64, u64),
    (kernel_axes, kernel): (usize, u64),
) -> Result<(Side, Op)> {
    let vector = context.tensor(tensor).tensor.clone();
    let features = match vector.shape.axes() {
        &[1, features, ref ones @ ..] if ones.len() == kernel_axes && ones.iter().all(|&one| one == 1) => {
            features
        }
        _ => {
            let expected = format!("[1, features{}], for a convolution", ", 1".repeat(kernel_axes));
            return Err(context.factor_shape(tensor, expected));
        }
    };
    let groups = features.checked_div(inputs).unwrap_or(0);
    let fits_inputs = groups > 0 && groups * inputs == features && outputs.is_multiple_of(groups);
    let side = match (features == outputs, fits_inputs) {
        (true, true) => side_by_options(context, module, tensor)?,
        (true, false) => Side::Outputs,
        (false, true) => Side::Inputs,
        (false, false) => {
            let expected =
                format!("the {outputs} outputs of `{module}.weight`, or {inputs} inputs for each group");
            return Err(context.factor_shape(tensor, expected).hint(OTHER_SIZES));
        }
    };
    let placement = Placement::matrix(outputs, inputs * kernel, false);
    let (inputs, factor) = match side {
        Side::Outputs => (None, Factor::along(0, vector, 1, 1, 1)),
        Side::Inputs => (Some(Groups { outputs: outputs / groups, inputs, kernel }), Factor::whole(vector)),
    };
    Ok((side, Op::new(ScaleAxis::of(inputs), placement, vec![factor], 1.0)))
}

/// The side that the adapter's options give.
fn side_by_options(context: &ClaimContext<'_>, module: &str, tensor: usize) -> Result<Side> {
    let adapter = context.adapter;
    match adapter.options.methods.ia3.has(module).map_err(|problem| problem.refused(&adapter.name))? {
        Some(is_one) => Ok(if is_one { Side::Inputs } else { Side::Outputs }),
        None => {
            let (adapter, key) = (adapter.name.clone(), context.tensor(tensor).key.to_string());
            Err(AdapterError::SideUnsaid { adapter, field: FIELD, value: "null".to_owned(), key }.into())
        }
    }
}
