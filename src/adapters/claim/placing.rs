//! Where the product of a pair of factors falls: its tensor, its shape, and how that is stored.

use smallvec::smallvec;

use crate::adapters::adapter::{AdapterTensor, Keys};
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::layers::Layer;
use crate::adapters::claim::pairs::Pair;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::model::outline::{Target, Weight};
use crate::note::claim::ClaimNote;
use crate::ops::factor::Factor;
use crate::ops::placement::Placement;
use crate::tensor::shape::Shape;

/// Where the product of a pair falls.
pub(crate) struct Placed {
    /// The tensor it is for.
    pub(crate) target: Target,
    /// What both factors have.
    pub(crate) rank: u64,
    /// Outputs of the product.
    pub(crate) out: u64,
    /// Its inputs, a convolution's kernel among them.
    input: u64,
    /// Whether the tensor is stored as `[in, out]`.
    pub(crate) is_transposed: bool,
    a: AdapterTensor,
    b: AdapterTensor,
}

impl Placed {
    /// The elements it falls on.
    pub(crate) fn placement(&self) -> Placement {
        Placement::matrix(self.out, self.input, self.is_transposed)
    }

    /// `A`, then `B`.
    pub(crate) fn factors(&self) -> [Factor; 2] {
        let ([rank_step, input_step], [out_step, b_rank_step]) = (self.a.strides(), self.b.strides());
        let (a, b, rank) = (self.a.tensor.clone(), self.b.tensor.clone(), self.rank);
        [Factor::along(1, a, input_step, rank, rank_step), Factor::along(0, b, out_step, rank, b_rank_step)]
    }

    /// The keys of both.
    pub(crate) fn keys(&self) -> Keys {
        smallvec![self.a.key.clone(), self.b.key.clone()]
    }
}

/// Finds where the product of a pair falls and checks its shapes; `None` if what is wrong is noted already.
pub(crate) fn place(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    pair: &Pair<'_>,
    layer: &Layer,
) -> Result<Option<Placed>> {
    let Some(target) = context.target(findings, &[pair.a, pair.b], &layer.module, &layer.parameter) else {
        return Ok(None);
    };
    let (rank, input) = matrix(context, pair.a, "[rank, in, ...], all above zero")?;
    let (out, b_rank) = factor_b(context, pair.b)?;
    let (a, b) = (context.tensor(pair.a).clone(), context.tensor(pair.b).clone());
    if rank != b_rank {
        return Err(context.factor_shape(pair.b, format!("[{out}, {rank}], as `{}` has rank {rank}", a.key)));
    }
    let product = Product { out, input, a: &a, b: &b };
    // A parameter is what it is, whatever the family does with the weights of its linear layers.
    let is_plain = pair.parameter.is_some() && context.weight(target).shape.axes() == [out, input];
    let is_transposed = if pair.is_embedding {
        embedding(context, target, &product)?
    } else {
        !is_plain && orientation(context, findings, target, &pair.module, &product)?
    };
    Ok(Some(Placed { target, rank, out, input, is_transposed, a, b }))
}

/// The product of two factors, `[out, in]`.
pub(crate) struct Product<'t> {
    pub(crate) out: u64,
    pub(crate) input: u64,
    pub(crate) a: &'t AdapterTensor,
    pub(crate) b: &'t AdapterTensor,
}

impl Product<'_> {
    /// The refusal of a product that is another shape than its weight, `delta` as it would be stored.
    fn misfit(&self, context: &ClaimContext<'_>, weight: &Weight, delta: [u64; 2]) -> Error {
        let Product { a, b, .. } = self;
        let factors = format!("`{}` {} and `{}` {}", a.key, a.tensor.shape, b.key, b.tensor.shape);
        let delta = Shape::new(&delta).expect("both fit a file");
        let (adapter, tensor) = (context.adapter.name.clone(), weight.name.to_string());
        let base = weight.shape.clone();
        ClaimError::DeltaShape { adapter, tensor, delta, base, factors }.into()
    }
}

/// Axes of the factor of a convolution beside its first: the inputs, and a kernel of up to three.
const MOST_INNER_AXES: usize = 4;

/// `A` as a matrix: the first axis, and all others as one (a convolution's inputs and its kernel).
pub(crate) fn matrix(context: &ClaimContext<'_>, i: usize, expected: &str) -> Result<(u64, u64)> {
    match context.tensor(i).tensor.shape.axes() {
        [rows, rest @ ..]
            if (1..=MOST_INNER_AXES).contains(&rest.len())
                && *rows > 0
                && rest.iter().all(|&axis| axis > 0) =>
        {
            Ok((*rows, rest.iter().product()))
        }
        _ => Err(context.factor_shape(i, expected.to_owned())),
    }
}

/// `B` as a matrix: a convolution's has a kernel of one.
pub(crate) fn factor_b(context: &ClaimContext<'_>, i: usize) -> Result<(u64, u64)> {
    match *context.tensor(i).tensor.shape.axes() {
        [out, rank, ref kernel @ ..] if out > 0 && rank > 0 && kernel.iter().all(|&axis| axis == 1) => {
            Ok((out, rank))
        }
        _ => Err(context.factor_shape(i, "[out, rank], both above zero".to_owned())),
    }
}

/// An embedding is stored as `[tokens, width]`, which is `[in, out]`.
fn embedding(context: &ClaimContext<'_>, target: Target, product: &Product<'_>) -> Result<bool> {
    let (out, input) = (product.out, product.input);
    let weight = context.weight(target);
    if weight.shape.axes() == [input, out] {
        return Ok(true);
    }
    let error = product.misfit(context, &weight, [input, out]);
    Err(match weight.shape.axes() {
        [rows, cols] if *cols == out && *rows != input => error.hint(
            "the vocabulary was changed in training and the adapter does not hold the new embedding: save it again with \
             `save_embedding_layers=True`",
        ),
        _ => error,
    })
}

/// Whether the target is stored as `[in, out]`: by its shape, and by the model's family only if it is square.
pub(crate) fn orientation(
    context: &ClaimContext<'_>,
    findings: &mut Findings<'_>,
    target: Target,
    module: &str,
    product: &Product<'_>,
) -> Result<bool> {
    let (out, input) = (product.out, product.input);
    let weight = context.weight(target);
    match *weight.shape.axes() {
        [rows, cols] if rows == cols && (rows, cols) == (out, input) => {
            Ok(square(context, findings, module, &weight.name))
        }
        [rows, cols] if (rows, cols) == (out, input) => Ok(false),
        [rows, cols] if (rows, cols) == (input, out) => Ok(true),
        // A convolution: inputs and kernel are one axis.
        [rows, ref rest @ ..] if rest.len() > 1 && (rows, rest.iter().product()) == (out, input) => Ok(false),
        ref axes => Err(product.misfit(context, &weight, [out, input]).hint(other_shape(axes, input))),
    }
}

/// Whether a square weight is stored as `[in, out]`, which its shape does not tell.
fn square(context: &ClaimContext<'_>, findings: &mut Findings<'_>, module: &str, name: &str) -> bool {
    let family_says = context.stores_transposed(name);
    let flag = context.adapter.options.fan_in_fan_out;
    if flag != family_says {
        let stored = if family_says { "the Conv1D storage of its model type" } else { "plain storage" };
        findings.note(ClaimNote::SquareOrientation {
            module: module.to_owned(),
            stored,
            fan_in_fan_out: flag,
        });
    }
    family_says
}

fn other_shape(axes: &[u64], input: u64) -> &'static str {
    match axes {
        [_, per_group, kernel @ ..]
            if !kernel.is_empty() && input.is_multiple_of(per_group * kernel.iter().product::<u64>()) =>
        {
            "it is a grouped convolution, which PEFT cannot merge LoRA into either"
        }
        _ => "the adapter was trained on a model with other sizes: is it for this base?",
    }
}

#[cfg(test)]
mod tests {
    use super::other_shape;

    #[test]
    fn a_grouped_convolution_is_called_one() {
        // Eight outputs that see two of eight inputs each, by a kernel of 3 × 3: the factors are for all eight.
        assert!(other_shape(&[8, 2, 3, 3], 8 * 9).contains("grouped convolution"));
        for (axes, input) in [(&[8, 2, 3, 3][..], 8 * 9 + 1), (&[8, 4][..], 8)] {
            assert!(other_shape(axes, input).contains("other sizes"), "{axes:?}");
        }
    }
}
