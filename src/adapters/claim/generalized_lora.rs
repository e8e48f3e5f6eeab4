//! GLoRA: a low-rank product, and another of the weight itself ([`Generalized`]), on linear layers and convolutions.
//!
//! LyCORIS: `modules/glora.py`, `make_weight`; `s = alpha/rank`. The tensors are `a1 [in, rank]`, `a2 [rank, in]`, `b1 [out, rank]` and `b2 [rank, in,
//! kernel]`, each but the last with a kernel of one.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris;
use crate::adapters::claim::lycoris::LycorisLayer;
use crate::adapters::claim::placing::{factor_b, matrix};
use crate::adapters::parts::Tail;
use crate::error::Result;
use crate::ops::factor::Factor;
use crate::ops::generalized::Generalized;

/// A product of the weight, and one beside it.
pub(crate) struct GeneralizedLora;

/// In the order of an op's factors.
const TAILS: [Tail; 4] =
    [Tail::bare(".glora_a1"), Tail::bare(".glora_a2"), Tail::bare(".glora_b1"), Tail::bare(".glora_b2")];

impl Claim for GeneralizedLora {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LYCORIS"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        lycoris::claim_whole_modules(context, findings, &TAILS, claim_module);
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensors: [usize; 4],
) -> Result<()> {
    let [a1, a2, b1, b2] = tensors;
    let Some(layer) = LycorisLayer::find(context, findings, module, &tensors, "LyCORIS' GLoRA")? else {
        return Ok(());
    };
    let (out, rank) = factor_b(context, b1)?;
    let (b_rank, width) = matrix(context, b2, "[rank, in, ...], all above zero")?;
    let kernel: u64 = layer.kernel().iter().product();
    let inputs = width / kernel.max(1);
    let fits = |i: usize, found: (u64, u64), expected: [u64; 2]| {
        if found == (expected[0], expected[1]) {
            return Ok(());
        }
        Err(context.factor_shape(i, format!("{expected:?}, by `{}` and the layer", context.tensor(b1).key)))
    };
    fits(b2, (b_rank, width), [rank, inputs * kernel])?;
    fits(a1, factor_b(context, a1)?, [inputs, rank])?;
    fits(a2, factor_b(context, a2)?, [rank, inputs])?;
    if rank > inputs || (out == 1 && kernel == 1) {
        let expected = format!("a rank of no more than {inputs}, and more than one output");
        return Err(context.factor_shape(a1, expected));
    }
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let factors = vec![
        Factor::whole(tensor(a1)),
        Factor::whole(tensor(a2)),
        Factor::along(0, tensor(b1), rank, rank, 1),
        Factor::along(1, tensor(b2), 1, rank, width),
    ];
    let [inputs, kernel, of] = [inputs, kernel, rank].map(|size| size as usize);
    let kind = Generalized { inputs, kernel, rank: of };
    let op = lycoris::op(kind, context, module, (out, width), Some(rank), factors)?;
    layer.claim(context, findings, ("glora", module), &tensors, (out, width), op)
}
