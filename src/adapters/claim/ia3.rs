//! (IA)³: outputs or inputs of a layer times a vector, `W' = l_o·W` or `W' = W·l_i`; a bias goes with the outputs.
//!
//! Source: Liu et al. 2022 (arXiv:2205.05638), section 3.3. PEFT: `ia3/layer.py`, `Linear.merge` and `_ConvNd.merge`. Adapters
//! that are merged together multiply one another. The product runs in f32 and is rounded once; there is no scale.
//!
//! A linear layer's vector is `[out, 1]` or `[1, in]`, so that its shape tells the side, and its length how a layer that is
//! not square is stored (peft-methods.md 4.17). A convolution's is `[1, features, 1, ...]` on either side. A grouped one has
//! `in / groups` stored inputs: its outputs, group after group, meet parts of the vector that lie one behind another. Where
//! the shape fits both sides `feedforward_modules` tells: modules named there have vectors on their inputs.

use serde_json::Value;

use crate::adapters::claim::context::Claiming;
use crate::adapters::claim::edits::{Change, Claimed};
use crate::adapters::peft::config::Field;
use crate::adapters::peft::keys::Tail;
use crate::adapters::peft::python_regex::PythonPattern;
use crate::adapters::scan::TensorContents;
use crate::error::kind::ErrorKind;
use crate::error::{Error, Result};
use crate::ops::op::Factor;
use crate::ops::placement::Placement;

use crate::adapters::claim::Method;
use crate::ops::block::Block;

/// A vector that multiplies.
pub(crate) struct Ia3;

const VECTOR: Tail = Tail { role: ".ia3_l", ending: "" };

const FIELDS: &[(&str, Field)] = &[
    ("feedforward_modules", Field::Fine),
    ("fan_in_fan_out", Field::Flag),
    ("init_ia3_weights", Field::Fine),
];

impl Method for Ia3 {
    fn name(&self) -> &'static str {
        "ia3"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &["IA3"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        let (adapter, weight) = (claiming.adapter.name.clone(), claiming.adapter.weight);
        let vectors = claiming.take(VECTOR);
        if weight != 1.0 && !vectors.is_empty() {
            let why = "it multiplies what it finds, and a part of a product is not defined".to_owned();
            let error = Error::new(ErrorKind::Weighted { adapter, what: "IA3".to_owned(), weight, why });
            claiming.refuse(error.hint("use weight 1 for this adapter"));
        }
        for (module, vector) in vectors {
            if let Err(error) = claim_module(claiming, &module, vector) {
                claiming.refuse(error);
            }
        }
    }

    /// A vector of zeros erases what it multiplies.
    fn idle(&self, _: f32, holds: &[TensorContents]) -> Option<&'static str> {
        holds.iter().all(|vector| vector.one).then_some("its vector is all ones (untrained adapter?)")
    }

    fn apply(&self, block: &mut Block<'_>) {
        let (vector, rows, cols) =
            (block.factors[0], block.window.rows.range.start, block.window.cols.range.start);
        if let Some(groups) = Groups::read(block.settings) {
            // `placement` made of a convolution: its outputs are axis 0, its inputs with their kernel axis 1.
            let outputs_are_rows = block.window.rows.axis == Some(0);
            block.change(|p, q, value, _| {
                let (row, col) = (rows + p as u64, cols + q as u64);
                let (out, input) = if outputs_are_rows { (row, col) } else { (col, row) };
                value * vector.at(vector.first, groups.position(out, input) as usize)
            });
        } else if vector.axis == block.window.rows.axis {
            block.change(|p, _, value, _| value * vector.at(rows + p as u64, 0));
        } else {
            block.change(|_, q, value, _| value * vector.at(cols + q as u64, 0));
        }
    }
}

/// How a convolution's inputs lie: which of the vector's values an element meets.
struct Groups {
    /// Outputs of a group.
    outputs: u64,
    /// Inputs of a group.
    inputs: u64,
    /// Elements of the kernel.
    kernel: u64,
}

impl Groups {
    /// As an op's settings; those of a layer without groups are none.
    fn settings(&self) -> Vec<f64> {
        [self.outputs, self.inputs, self.kernel].map(|count| count as f64).to_vec()
    }

    fn read(settings: &[f64]) -> Option<Groups> {
        let &[outputs, inputs, kernel] = settings else { return None };
        Some(Groups { outputs: outputs as u64, inputs: inputs as u64, kernel: kernel as u64 })
    }

    /// The input that an element of output `out` is for, where `within` counts a group's inputs and their kernels.
    fn position(&self, out: u64, within: u64) -> u64 {
        out / self.outputs * self.inputs + within / self.kernel
    }
}

/// The side of a layer that a vector is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Outputs,
    Inputs,
}

fn claim_module(claiming: &mut Claiming<'_>, module: &str, tensor: usize) -> Result<()> {
    let Some(target) = claiming.target(&[tensor], module, "weight") else { return Ok(()) };
    let vector = claiming.tensor(tensor).clone();
    let features = vector.tensor.shape.elements();
    let (side, change) = match *claiming.weight(target).shape.axes() {
        [rows, cols] => linear(claiming, module, tensor, (rows, cols))?,
        [outputs, inputs, ref kernel @ ..] => {
            let kernel = (kernel.len(), kernel.iter().product());
            convolution(claiming, module, tensor, (outputs, inputs), kernel)?
        }
        _ => {
            let shape = claiming.weight(target).shape;
            return Err(claiming.factor_shape(
                tensor,
                format!("a matrix or a convolution to multiply, and `{module}.weight` is {shape}"),
            ));
        }
    };
    claiming.claim(Claimed::change("ia3", module, vec![vector.key.clone()], target, vec![change]));
    if side == Side::Inputs || claiming.lookup(module, "bias").is_none() {
        return Ok(());
    }
    let Some(target) = claiming.target(&[tensor], module, "bias") else { return Ok(()) };
    let bias = claiming.weight(target).shape;
    if bias.axes() != [features] {
        return Err(claiming.factor_shape(tensor, format!("{bias} values, as `{module}.bias` has")));
    }
    let factors = vec![Factor::along(0, vector.tensor, 1, 1, 1)];
    let change = Change::new("ia3", Placement::vector(features), factors, 1.0);
    claiming.claim(Claimed::change("ia3", module, vec![vector.key], target, vec![change]));
    Ok(())
}

/// A linear layer's side, and its change: `[out, 1]` are outputs, `[1, in]` inputs.
fn linear(
    claiming: &mut Claiming<'_>,
    module: &str,
    tensor: usize,
    (rows, cols): (u64, u64),
) -> Result<(Side, Change)> {
    let vector = claiming.tensor(tensor).tensor.clone();
    let (side, features) = match *vector.shape.axes() {
        [1, 1] => (side_by_config(claiming, module, tensor)?, 1),
        [out, 1] => (Side::Outputs, out),
        [1, input] => (Side::Inputs, input),
        _ => return Err(claiming.factor_shape(tensor, "[out, 1] or [1, in]".to_owned())),
    };
    let (straight, turned) = if side == Side::Outputs { (rows, cols) } else { (cols, rows) };
    let is_transposed = match (features == straight, features == turned) {
        (true, true) => claiming.stores_transposed(&format!("{module}.weight")),
        (true, false) => false,
        (false, true) => true,
        (false, false) => {
            let expected = format!("one side of `{module}.weight` [{rows}, {cols}]");
            return Err(claiming.factor_shape(tensor, expected).hint(OTHER_SIZES));
        }
    };
    let (out, input) = if is_transposed { (cols, rows) } else { (rows, cols) };
    let axis = if side == Side::Outputs { 0 } else { 1 };
    let factors = vec![Factor::along(axis, vector, 1, 1, 1)];
    Ok((side, Change::new("ia3", Placement::matrix(out, input, is_transposed), factors, 1.0)))
}

const OTHER_SIZES: &str = "the adapter was trained on a model with other sizes: is it for this base?";

/// A convolution's side, and its change: `[1, features, 1, ...]` are its outputs, or the inputs of all its groups.
fn convolution(
    claiming: &mut Claiming<'_>,
    module: &str,
    tensor: usize,
    (outputs, inputs): (u64, u64),
    (kernel_axes, kernel): (usize, u64),
) -> Result<(Side, Change)> {
    let vector = claiming.tensor(tensor).tensor.clone();
    let features = match vector.shape.axes() {
        &[1, features, ref ones @ ..] if ones.len() == kernel_axes && ones.iter().all(|&one| one == 1) => {
            features
        }
        _ => {
            let expected = format!("[1, features{}], for a convolution", ", 1".repeat(kernel_axes));
            return Err(claiming.factor_shape(tensor, expected));
        }
    };
    let groups = features.checked_div(inputs).unwrap_or(0);
    let fits_inputs = groups > 0 && groups * inputs == features && outputs.is_multiple_of(groups);
    let side = match (features == outputs, fits_inputs) {
        (true, true) => side_by_config(claiming, module, tensor)?,
        (true, false) => Side::Outputs,
        (false, true) => Side::Inputs,
        (false, false) => {
            let expected =
                format!("the {outputs} outputs of `{module}.weight`, or {inputs} inputs for each group");
            return Err(claiming.factor_shape(tensor, expected).hint(OTHER_SIZES));
        }
    };
    let placement = Placement::matrix(outputs, inputs * kernel, false);
    let change = match side {
        Side::Outputs => Change::new("ia3", placement, vec![Factor::along(0, vector, 1, 1, 1)], 1.0),
        Side::Inputs => {
            let settings = Groups { outputs: outputs / groups, inputs, kernel }.settings();
            Change { settings, ..Change::new("ia3", placement, vec![Factor::whole(vector)], 1.0) }
        }
    };
    Ok((side, change))
}

/// The side that `feedforward_modules` gives. PEFT's rule (`_check_target_module_feedforward`): a string is an expression for
/// the whole path; of a list, an entry is the end of the path, whether or not a segment begins there.
fn side_by_config(claiming: &Claiming<'_>, module: &str, tensor: usize) -> Result<Side> {
    let config = &claiming.adapter.config;
    let is_named = match config.get("feedforward_modules") {
        Some(Value::String(pattern)) => {
            let matched = PythonPattern::full(pattern).and_then(|expression| expression.is_match(module));
            matched.map_err(|cause| config.unreadable("feedforward_modules", pattern, cause))?
        }
        Some(Value::Array(_)) => {
            config.list("feedforward_modules").into_iter().any(|entry| module.ends_with(entry))
        }
        _ => {
            let key = &claiming.tensor(tensor).key;
            let why =
                format!("does not say whether `{key}` is for inputs or outputs, and its shape fits both");
            return Err(config.bad("feedforward_modules", &Value::Null, &why));
        }
    };
    Ok(if is_named { Side::Inputs } else { Side::Outputs })
}
