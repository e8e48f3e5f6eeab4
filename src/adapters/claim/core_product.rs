//! LoCon with a core: a product of two factors around it ([`Tucker`]), on convolutions.
//!
//! LyCORIS: `modules/locon.py` with `use_tucker`, `functional/locon.py` (`rebuild_tucker`); `s = alpha/rank`. The tensors are `lora_up [out, rank,
//! 1, ...]`, `lora_mid [rank, rank, kernel]` and `lora_down [rank, in, 1, ...]`, and magnitudes of outputs.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris;
use crate::adapters::claim::lycoris::LycorisLayer;
use crate::adapters::claim::placing::{factor_b, matrix};
use crate::adapters::parts::Tail;
use crate::error::Result;
use crate::ops::cp_core::CoreSizes;
use crate::ops::factor::Factor;
use crate::ops::tucker::Tucker;

/// A product around a core.
pub(crate) struct CoreProduct;

/// In the order of an op's factors.
const TAILS: [Tail; 4] = [
    Tail::bare(".tucker_up"),
    Tail::bare(".tucker_down"),
    Tail::bare(".tucker_core"),
    Tail::bare(".tucker_magnitude"),
];

impl Claim for CoreProduct {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LYCORIS"]
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        lycoris::claim_modules(context, findings, &TAILS, claim_module);
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensors: [Option<usize>; 4],
) -> Result<()> {
    let present: Vec<usize> = tensors.into_iter().flatten().collect();
    let [Some(up), Some(down), Some(core), magnitude] = tensors else {
        lycoris::lacks_one(findings, &TAILS, module, &tensors);
        return Ok(());
    };
    let Some(layer) = LycorisLayer::find(context, findings, module, &present, "LyCORIS' LoCon")? else {
        return Ok(());
    };
    let (out, rank) = factor_b(context, up)?;
    let (down_rank, inputs) = matrix(context, down, "[rank, in, ...], all above zero")?;
    if down_rank != rank {
        return Err(context.factor_shape(
            down,
            format!("[{rank}, {inputs}], as `{}` has rank {rank}", context.tensor(up).key),
        ));
    }
    let axes = [&[rank, rank], layer.kernel()].concat();
    if layer.kernel().is_empty() || context.tensor(core).tensor.shape.axes() != axes {
        let expected = format!("{axes:?}, by the rank of the others and the kernel of `{module}.weight`");
        return Err(context.factor_shape(core, expected));
    }
    let kernel: u64 = layer.kernel().iter().product();
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let along_out = Factor::along(0, tensor(up), rank, rank, 1);
    let factors = vec![along_out, Factor::whole(tensor(down)), Factor::whole(tensor(core))];
    let kind = Tucker { core: CoreSizes { rank: rank as usize, kernel: kernel as usize } };
    let shape = (out, inputs * kernel);
    let op = lycoris::op(kind, context, module, shape, Some(rank), factors)?;
    let op = lycoris::rescaled(context, op, layer.kernel(), magnitude)?;
    layer.claim(context, findings, ("locon", module), &present, shape, op)
}
