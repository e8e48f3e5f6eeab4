//! LoHa: the element-wise product of two low-rank products ([`Hadamard`]), on linear layers and convolutions.
//!
//! PEFT: `loha/layer.py`, `make_weight`, and `make_weight_cp` for a convolution with cores (peft-methods.md 4.11); `s =
//! alpha/rank`. The tensors `hada_w1_a [out, rank]` and `hada_w1_b [rank, in·kernel]` are the first product's `B` and `A`;
//! beside a core `hada_t1 [rank, rank, kernel]` they are `[rank, out]` and `[rank, in]`.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris;
use crate::adapters::claim::lycoris::LycorisLayer;
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::Result;
use crate::ops::cp_core::CoreSizes;
use crate::ops::factor::Factor;
use crate::ops::hadamard::Hadamard;
use crate::ops::op::Op;

/// A product of two products.
pub(crate) struct Loha;

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("alpha", Field::Fine),
    ("rank_pattern", Field::Fine),
    ("alpha_pattern", Field::Fine),
    // The shapes tell whether there are cores.
    ("use_effective_conv2d", Field::Fine),
    ("init_weights", Field::Fine),
    ("rank_dropout", Field::Fine),
    ("module_dropout", Field::Fine),
];

/// In the order of an op's factors: both products, or both with a core behind, and LyCORIS' magnitudes.
const TAILS: [Tail; 7] = [
    Tail::bare(".hada_w1_a"),
    Tail::bare(".hada_w1_b"),
    Tail::bare(".hada_t1"),
    Tail::bare(".hada_w2_a"),
    Tail::bare(".hada_w2_b"),
    Tail::bare(".hada_t2"),
    Tail::bare(".hada_magnitude"),
];

impl Claim for Loha {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LOHA", "LYCORIS"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        lycoris::claim_modules(context, findings, &TAILS, claim_module);
    }
}

/// The tensors of both products.
enum Products {
    /// `a` and `b` of each.
    Plain([usize; 4]),
    /// `a`, `b` and the core of each.
    Cores([usize; 6]),
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensors: [Option<usize>; 7],
) -> Result<()> {
    let present: Vec<usize> = tensors.into_iter().flatten().collect();
    let [a1, b1, t1, a2, b2, t2, magnitude] = tensors;
    let products = match [a1, b1, t1, a2, b2, t2] {
        [Some(a1), Some(b1), None, Some(a2), Some(b2), None] => Products::Plain([a1, b1, a2, b2]),
        [Some(a1), Some(b1), Some(t1), Some(a2), Some(b2), Some(t2)] => {
            Products::Cores([a1, b1, t1, a2, b2, t2])
        }
        _ => {
            let has_cores = tensors[2].is_some() || tensors[5].is_some();
            let mut needed = (0..6).filter(|slot| has_cores || ![2, 5].contains(slot));
            if let Some(missing) = needed.find(|&slot| tensors[slot].is_none()) {
                findings.lacks_partner(present[0], &TAILS[missing].key(module));
            }
            return Ok(());
        }
    };
    let Some(layer) = LycorisLayer::find(context, findings, module, &present, "PEFT's LoHa")? else {
        return Ok(());
    };
    let (shape, op) = match products {
        Products::Plain(tensors) => plain(context, module, tensors)?,
        Products::Cores(tensors) => with_cores(context, module, &layer, tensors)?,
    };
    let op = lycoris::rescaled(context, op, layer.kernel(), magnitude)?;
    layer.claim(context, findings, ("loha", module), &present, shape, op)
}

/// Outputs and inputs of two products, and the op.
fn plain(context: &ClaimContext<'_>, module: &str, [a1, b1, a2, b2]: [usize; 4]) -> Result<((u64, u64), Op)> {
    let (out, rank) = lycoris::matrix(context, a1, "[out, rank]")?;
    let (_, input) = lycoris::matrix(context, b1, "[rank, in]")?;
    lycoris::expect(context, b1, &[rank, input], a1)?;
    lycoris::expect(context, a2, &[out, rank], a1)?;
    lycoris::expect(context, b2, &[rank, input], b1)?;
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let along_out = |i| Factor::along(0, tensor(i), rank, rank, 1);
    let along_in = |i| Factor::along(1, tensor(i), 1, rank, input);
    let factors = vec![along_out(a1), along_in(b1), along_out(a2), along_in(b2)];
    let shape = (out, input);
    Ok((shape, lycoris::op(Hadamard { core: None }, context, module, shape, Some(rank), factors)?))
}

/// The same of two products with cores.
fn with_cores(
    context: &ClaimContext<'_>,
    module: &str,
    layer: &LycorisLayer,
    [a1, b1, t1, a2, b2, t2]: [usize; 6],
) -> Result<((u64, u64), Op)> {
    let (rank, out) = lycoris::matrix(context, a1, "[rank, out]")?;
    let (_, inputs) = lycoris::matrix(context, b1, "[rank, in]")?;
    lycoris::expect(context, b1, &[rank, inputs], a1)?;
    lycoris::expect_core(context, t1, rank, layer)?;
    lycoris::expect(context, a2, &[rank, out], a1)?;
    lycoris::expect(context, b2, &[rank, inputs], b1)?;
    lycoris::expect_core(context, t2, rank, layer)?;
    let tensor = |i: usize| context.tensor(i).tensor.clone();
    let of = |[a, b, t]: [usize; 3]| {
        let along_out = Factor::along(0, tensor(a), 1, rank, out);
        [along_out, Factor::whole(tensor(b)), Factor::whole(tensor(t))]
    };
    let factors = [of([a1, b1, t1]), of([a2, b2, t2])].concat();
    let kernel: u64 = layer.kernel().iter().product();
    let core = Some(CoreSizes { rank: rank as usize, kernel: kernel as usize });
    let shape = (out, inputs * kernel);
    Ok((shape, lycoris::op(Hadamard { core }, context, module, shape, Some(rank), factors)?))
}
