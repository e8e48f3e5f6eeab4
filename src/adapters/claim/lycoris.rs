//! Rules that methods of LyCORIS share: the layers they fit, their scale, and the shape of a convolution's core
//! ([`crate::ops::cp_core`]).

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::parts::Tail;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::model::heads::{is_embedding, is_head};
use crate::model::outline::Target;
use crate::ops::DeltaKind;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::ops::rescaled::Rescaled;
use crate::tensor::name::Name;
use crate::tensor::shape::Shape;

/// The adapter's tensors of each module, in the order of the tails.
fn take<'c, const N: usize>(
    context: &mut ClaimContext<'c>,
    findings: &mut Findings<'_>,
    tails: &[Tail; N],
) -> BTreeMap<&'c str, [Option<usize>; N]> {
    let mut modules = BTreeMap::new();
    for (slot, tail) in tails.iter().enumerate() {
        for (module, tensor) in findings.take(context, *tail) {
            modules.entry(module).or_insert([None; N])[slot] = Some(tensor);
        }
    }
    modules
}

/// Takes the tensors of each module and claims them by `claim_module`, which is called with what is there of the tails.
pub(crate) fn claim_modules<const N: usize>(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    tails: &[Tail; N],
    mut claim_module: impl FnMut(&mut ClaimContext<'_>, &mut Findings<'_>, &str, [Option<usize>; N]) -> Result<()>,
) {
    for (module, tensors) in take(context, findings, tails) {
        if let Err(error) = claim_module(context, findings, module, tensors) {
            findings.refuse(error);
        }
    }
}

/// The same for methods all of whose tensors a module must have; one that lacks some is refused.
pub(crate) fn claim_whole_modules<const N: usize>(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    tails: &[Tail; N],
    mut claim_module: impl FnMut(&mut ClaimContext<'_>, &mut Findings<'_>, &str, [usize; N]) -> Result<()>,
) {
    claim_modules(context, findings, tails, |context, findings, module, tensors| {
        let there: SmallVec<[usize; 4]> = tensors.into_iter().flatten().collect();
        if let Ok(all) = <[usize; N]>::try_from(there.as_slice()) {
            return claim_module(context, findings, module, all);
        }
        lacks_one(findings, tails, module, &tensors);
        Ok(())
    });
}

/// Refuses a module of which a tensor is missing that all have; nothing if none is.
pub(crate) fn lacks_one<const N: usize>(
    findings: &mut Findings<'_>,
    tails: &[Tail; N],
    module: &str,
    tensors: &[Option<usize>; N],
) {
    let missing = tails.iter().zip(tensors).find(|(_, tensor)| tensor.is_none());
    if let (Some(present), Some((tail, _))) = (tensors.iter().flatten().next(), missing) {
        findings.lacks_partner(*present, &tail.key(module));
    }
}

/// The base tensor of a module.
pub(crate) struct LycorisLayer {
    /// Which one.
    pub(crate) target: Target,
    name: Name,
    shape: Shape,
    /// Whose method it is, and what it is called.
    what: &'static str,
}

impl LycorisLayer {
    /// Finds it; `None` if what is wrong is noted already.
    ///
    /// # Errors
    /// [`ClaimError::LayerUnfit`] for layers that PEFT's `what` does not fit.
    pub(crate) fn find(
        context: &mut ClaimContext<'_>,
        findings: &mut Findings<'_>,
        module: &str,
        tensors: &[usize],
        what: &'static str,
    ) -> Result<Option<LycorisLayer>> {
        let Some(target) = context.target(findings, tensors, module, "weight") else { return Ok(None) };
        let weight = context.weight(target);
        let (name, shape) = (weight.name, weight.shape);
        let layer = match *shape.axes() {
            [_, _] if is_embedding(&name) => "an embedding",
            [rows, cols] if rows == cols && context.names.conv1d() && !is_head(&name) => {
                "stored as [in, out]"
            }
            [_, _] | [_, _, _] | [_, _, _, _] => return Ok(Some(LycorisLayer { target, name, shape, what })),
            _ => "neither a linear layer nor a convolution of one or two dimensions",
        };
        Err(unfit(context, tensors[0], &name, layer, what))
    }

    /// The same for methods that fit linear layers alone.
    ///
    /// # Errors
    /// [`ClaimError::LayerUnfit`] for all others.
    pub(crate) fn find_linear(
        context: &mut ClaimContext<'_>,
        findings: &mut Findings<'_>,
        module: &str,
        tensors: &[usize],
        what: &'static str,
    ) -> Result<Option<LycorisLayer>> {
        let found = LycorisLayer::find(context, findings, module, tensors, what)?;
        match found {
            Some(layer) if !layer.kernel().is_empty() => {
                Err(layer.unfit(context, tensors[0], "a convolution"))
            }
            found => Ok(found),
        }
    }

    /// The same for methods that work on whole rows of linear layers and of convolutions of two dimensions with a square kernel.
    ///
    /// # Errors
    /// [`ClaimError::LayerUnfit`] for all others.
    pub(crate) fn find_with_rows(
        context: &mut ClaimContext<'_>,
        findings: &mut Findings<'_>,
        module: &str,
        tensors: &[usize],
        what: &'static str,
    ) -> Result<Option<LycorisLayer>> {
        let Some(layer) = LycorisLayer::find(context, findings, module, tensors, what)? else {
            return Ok(None);
        };
        let unfit = match *layer.kernel() {
            [_] => "a convolution of one dimension",
            [high, wide] if high != wide => "a convolution whose kernel is not square",
            // Its stored rows are single elements.
            [1, 1] if layer.matrix().0 == 1 => "a convolution of one output without a kernel",
            _ => return Ok(Some(layer)),
        };
        Err(layer.unfit(context, tensors[0], unfit))
    }

    /// Sizes of the kernel; none for a linear layer.
    pub(crate) fn kernel(&self) -> &[u64] {
        self.shape.axes().get(2..).unwrap_or_default()
    }

    /// The refusal of a method for what the layer is.
    pub(crate) fn unfit(&self, context: &ClaimContext<'_>, tensor: usize, layer: &'static str) -> Error {
        unfit(context, tensor, &self.name, layer, self.what)
    }

    /// Outputs, and inputs with their kernel.
    pub(crate) fn matrix(&self) -> (u64, u64) {
        let axes = self.shape.axes();
        (axes[0], axes[1..].iter().product())
    }

    /// Records a change of all of it, if its shape is that of the delta: `out` outputs, and `input` inputs with their kernel.
    pub(crate) fn claim(
        self,
        context: &ClaimContext<'_>,
        findings: &mut Findings<'_>,
        of: (&'static str, &str),
        used: &[usize],
        covered: (u64, u64),
        op: Op,
    ) -> Result<()> {
        self.claim_all(context, findings, of, used, covered, vec![op])
    }

    /// The same by several changes.
    pub(crate) fn claim_all(
        self,
        context: &ClaimContext<'_>,
        findings: &mut Findings<'_>,
        (method, module): (&'static str, &str),
        used: &[usize],
        (out, input): (u64, u64),
        ops: Vec<Op>,
    ) -> Result<()> {
        let keys = used.iter().map(|&i| context.tensor(i).key.clone());
        let axes = self.shape.axes();
        if self.matrix() != (out, input) {
            if axes == [input, out] {
                return Err(unfit(context, used[0], &self.name, "stored as [in, out]", self.what));
            }
            let shown = |&i: &usize| {
                let tensor = context.tensor(i);
                format!("`{}` {}", tensor.key, tensor.tensor.shape)
            };
            let factors = used.iter().map(shown).collect::<Vec<_>>().join(", ");
            let (adapter, tensor, base) = (context.adapter.name.clone(), self.name.to_string(), self.shape);
            let delta = Shape::new(&[out, input]).expect("both are sizes of factors in a file");
            return Err(Error::new(ClaimError::DeltaShape { adapter, tensor, delta, base, factors })
                .hint("the adapter was trained on a model with other sizes: is it for this base?"));
        }
        findings.claim(ClaimedModule::change(method, module, keys, self.target, ops));
        Ok(())
    }
}

fn unfit(
    context: &ClaimContext<'_>,
    tensor: usize,
    name: &str,
    layer: &'static str,
    method: &'static str,
) -> Error {
    let (adapter, key) = (context.adapter.name.clone(), context.tensor(tensor).key.to_string());
    ClaimError::LayerUnfit { adapter, key, tensor: name.to_owned(), layer, method }.into()
}

/// An op that covers all of a layer, with the config's scale; where factors tell a rank, the config must have the same.
pub(crate) fn op(
    kind: impl Into<DeltaKind>,
    context: &ClaimContext<'_>,
    module: &str,
    (out, input): (u64, u64),
    rank: Option<u64>,
    factors: Vec<Factor>,
) -> Result<Op> {
    let scale = context.adapter.scale(module, rank)? as f32;
    Ok(Op::new(kind, Placement::matrix(out, input, false), factors, scale))
}

/// The op with new lengths behind it, where there are magnitudes: `[out, 1, ...]`, or `[1, in, ...]` of a layer with such a kernel.
pub(crate) fn rescaled(
    context: &ClaimContext<'_>,
    op: Op,
    kernel: &[u64],
    magnitude: Option<usize>,
) -> Result<Op> {
    let Some(magnitude) = magnitude else { return Ok(op) };
    let tensor = context.tensor(magnitude).tensor.clone();
    let of_inputs = matches!(tensor.shape.axes(), [1, rest @ ..] if rest.iter().any(|&axis| axis > 1));
    let (places, [outputs, width]) =
        (kernel.iter().product::<u64>(), [0, 1].map(|axis| op.placement.axes[axis].count));
    let (count, what) = if of_inputs { (width / places.max(1), "input") } else { (outputs, "output") };
    if tensor.shape.elements() != count {
        return Err(context.factor_shape(magnitude, format!("{count} values, one for every {what}")));
    }
    let mut factors = op.factors;
    factors.push(if of_inputs { Factor::whole(tensor) } else { Factor::along(0, tensor, 1, 1, 1) });
    let inputs = of_inputs.then_some(places as usize);
    Ok(Op { kind: Rescaled { added: op.kind, inputs }.into(), factors, ..op })
}

/// The axes of a factor that must be a matrix.
pub(crate) fn matrix(context: &ClaimContext<'_>, i: usize, expected: &str) -> Result<(u64, u64)> {
    match *context.tensor(i).tensor.shape.axes() {
        [rows, cols] if rows > 0 && cols > 0 => Ok((rows, cols)),
        _ => Err(context.factor_shape(i, format!("{expected}, both above zero"))),
    }
}

/// Refuses a factor that has other axes than those, which follow from another factor.
pub(crate) fn expect(context: &ClaimContext<'_>, i: usize, axes: &[u64], other: usize) -> Result<()> {
    if context.tensor(i).tensor.shape.axes() == axes {
        return Ok(());
    }
    let (expected, other) = (Shape::new(axes), context.tensor(other));
    let expected = expected.map_or_else(|| "fewer elements".to_owned(), |shape| shape.to_string());
    Err(context.factor_shape(i, format!("{expected}, as `{}` is {}", other.key, other.tensor.shape)))
}

/// Refuses a core that is not `[rank, rank]` and the kernel, which a convolution of one dimension has a one behind.
pub(crate) fn expect_core(
    context: &ClaimContext<'_>,
    i: usize,
    rank: u64,
    layer: &LycorisLayer,
) -> Result<()> {
    let mut axes = [&[rank, rank], layer.kernel()].concat();
    axes.resize(4, 1);
    if layer.kernel().is_empty() {
        return Err(context.factor_shape(i, format!("none at all, as `{}` has no kernel", layer.name)));
    }
    if context.tensor(i).tensor.shape.axes() == axes {
        return Ok(());
    }
    let expected = format!("{axes:?}, by the rank of the others and the kernel of `{}`", layer.name);
    Err(context.factor_shape(i, expected))
}
