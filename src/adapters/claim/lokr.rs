//! LoKr: a Kronecker product ([`Kronecker`]), on linear layers and convolutions.
//!
//! PEFT: `lokr/layer.py`, `LoKrLayer.get_delta_weight`, `make_kron`, `make_weight_cp` (peft-methods.md 4.12). `s = alpha/r`
//! even where neither factor is a product (LyCORIS has 1 there). `w₁` is `lokr_w1 [a, c]` or `lokr_w1_a [a, r]·lokr_w1_b [r,
//! c]`; `w₂` is one of ([`SecondTensors`]):
//!
//! - `lokr_w2 [k, n, kernel]`, all of it, with as many axes as the layer;
//! - `lokr_w2_a [k, r]·lokr_w2_b [r, n·kernel]`;
//! - `lokr_w2_a [r, k]` and `lokr_w2_b [r, n]` around the core `lokr_t2 [r, r, kernel]`.
//!
//! One oddity is PEFT's, in training as in its merge: for a convolution of one dimension with all of `w₂`, whose shape has
//! three axes, `torch.kron` puts the missing axis of `w₁` in front, so that `w₁` meets the inputs and the kernel and the
//! result is only reshaped. What comes out has `w₁` and `w₂` interleaved the other way round.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::claim::lycoris;
use crate::adapters::claim::lycoris::LycorisLayer;
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::ops::cp_core::CoreSizes;
use crate::ops::factor::Factor;
use crate::ops::kronecker::{Kronecker, SecondForm};

/// A Kronecker product.
pub(crate) struct Lokr;

const FIELDS: &[(&str, Field)] = &[
    ("r", Field::Fine),
    ("alpha", Field::Fine),
    ("rank_pattern", Field::Fine),
    ("alpha_pattern", Field::Fine),
    // The shapes tell what is a product, how sizes were split, and whether there is a core.
    ("use_effective_conv2d", Field::Fine),
    ("decompose_both", Field::Fine),
    ("decompose_factor", Field::Fine),
    ("init_weights", Field::Fine),
    ("rank_dropout", Field::Fine),
    ("rank_dropout_scale", Field::Fine),
    ("module_dropout", Field::Fine),
];

/// In the order of an op's factors, each as far as it is there; LyCORIS' magnitudes last.
const TAILS: [Tail; 8] = [
    Tail::bare(".lokr_w1"),
    Tail::bare(".lokr_w1_a"),
    Tail::bare(".lokr_w1_b"),
    Tail::bare(".lokr_w2"),
    Tail::bare(".lokr_w2_a"),
    Tail::bare(".lokr_w2_b"),
    Tail::bare(".lokr_t2"),
    Tail::bare(".lokr_magnitude"),
];

impl Claim for Lokr {
    fn peft_types(&self) -> &'static [&'static str] {
        &["LOKR", "LYCORIS"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        lycoris::claim_modules(context, findings, &TAILS, claim_module);
    }
}

/// The tensors of `w₁`.
enum FirstTensors {
    Whole(usize),
    Product(usize, usize),
}

/// The tensors of `w₂`.
enum SecondTensors {
    Whole(usize),
    Product(usize, usize),
    Core(usize, usize, usize),
}

/// Outputs and inputs of a factor, and its rank, if it has one.
type KronSizes = ((u64, u64), Option<u64>);

impl FirstTensors {
    /// From what of [`TAILS`] 0 to 2 is there; the place of the tail that is missing.
    fn of(tensors: [Option<usize>; 3]) -> std::result::Result<FirstTensors, usize> {
        match tensors {
            [Some(w1), ..] => Ok(FirstTensors::Whole(w1)),
            [None, Some(a), Some(b)] => Ok(FirstTensors::Product(a, b)),
            [None, Some(_), None] => Err(2),
            [None, None, Some(_)] => Err(1),
            [None, None, None] => Err(0),
        }
    }

    fn sizes(&self, context: &ClaimContext<'_>) -> Result<KronSizes> {
        match *self {
            FirstTensors::Whole(w1) => Ok((lycoris::matrix(context, w1, "[outs, ins]")?, None)),
            FirstTensors::Product(a, b) => product(context, a, b).map(|(sizes, rank)| (sizes, Some(rank))),
        }
    }
}

impl SecondTensors {
    /// From what of [`TAILS`] 3 to 6 is there; the place of the tail that is missing.
    fn of(tensors: [Option<usize>; 4]) -> std::result::Result<SecondTensors, usize> {
        match tensors {
            [Some(w2), ..] => Ok(SecondTensors::Whole(w2)),
            [None, Some(a), Some(b), None] => Ok(SecondTensors::Product(a, b)),
            [None, Some(a), Some(b), Some(t)] => Ok(SecondTensors::Core(a, b, t)),
            [None, Some(_), None, _] => Err(5),
            [None, None, None, None] => Err(3),
            [None, None, ..] => Err(4),
        }
    }

    fn sizes(&self, context: &ClaimContext<'_>, layer: &LycorisLayer) -> Result<KronSizes> {
        match *self {
            SecondTensors::Whole(w2) => Ok((whole(context, w2, layer)?, None)),
            SecondTensors::Product(a, b) => product(context, a, b).map(|(sizes, rank)| (sizes, Some(rank))),
            SecondTensors::Core(a, b, t) => {
                let (rank, outs) = lycoris::matrix(context, a, "[rank, outs]")?;
                let (_, ins) = lycoris::matrix(context, b, "[rank, ins]")?;
                lycoris::expect(context, b, &[rank, ins], a)?;
                lycoris::expect_core(context, t, rank, layer)?;
                Ok(((outs, ins * layer.kernel().iter().product::<u64>()), Some(rank)))
            }
        }
    }

    /// How the op sees it.
    fn form(&self, layer: &LycorisLayer, rank: Option<u64>) -> SecondForm {
        let kernel = layer.kernel().iter().product::<u64>() as usize;
        let rank = rank.unwrap_or(0) as usize;
        match self {
            SecondTensors::Whole(_) if layer.kernel().len() == 1 => SecondForm::Interleaved { kernel },
            SecondTensors::Whole(_) => SecondForm::Whole,
            SecondTensors::Product(..) => SecondForm::Product { rank },
            SecondTensors::Core(..) => SecondForm::Core(CoreSizes { rank, kernel }),
        }
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    tensors: [Option<usize>; 8],
) -> Result<()> {
    let present: Vec<usize> = tensors.into_iter().flatten().collect();
    for (whole, mut parts) in [(0, 1..3), (3, 4..7)] {
        if let (Some(whole), Some(part)) = (tensors[whole], parts.find_map(|slot| tensors[slot])) {
            return Err(both(context, whole, part));
        }
    }
    let [w1, a1, b1, w2, a2, b2, t, magnitude] = tensors;
    let (first, second) = match (FirstTensors::of([w1, a1, b1]), SecondTensors::of([w2, a2, b2, t])) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(missing), _) | (_, Err(missing)) => {
            findings.lacks_partner(present[0], &TAILS[missing].key(module));
            return Ok(());
        }
    };
    let Some(layer) = LycorisLayer::find(context, findings, module, &present, "PEFT's LoKr")? else {
        return Ok(());
    };
    let (of_first, first_rank) = first.sizes(context)?;
    let (of_second, second_rank) = second.sizes(context, &layer)?;
    check_core(context, &second, &layer, (of_first, of_second), second_rank)?;
    if let (Some(expected), Some(found)) = (first_rank, second_rank)
        && expected != found
    {
        let (adapter, module) = (context.adapter.name.clone(), module.to_owned());
        return Err(ClaimError::Rank { adapter, module, found, expected }.into());
    }
    let shape = (of_first.0 * of_second.0, of_first.1 * of_second.1);
    let made_of = present.iter().filter(|&&i| Some(i) != magnitude);
    let factors = made_of.map(|&i| Factor::whole(context.tensor(i).tensor.clone())).collect();
    let kronecker = Kronecker {
        first: [of_first.0, of_first.1].map(|size| size as usize),
        first_rank: first_rank.map(|rank| rank as usize),
        second: [of_second.0, of_second.1].map(|size| size as usize),
        form: second.form(&layer, second_rank),
    };
    let op = lycoris::op(kronecker, context, module, shape, first_rank.or(second_rank), factors)?;
    let op = lycoris::rescaled(context, op, layer.kernel(), magnitude)?;
    layer.claim(context, findings, ("lokr", module), &present, shape, op)
}

/// Refuses a core on which `torch.kron` fails for how it lies in memory: measured with PEFT 0.21.2, it is so for rank 1 where
/// `w₁` has columns and `w₂` has outputs and inputs, all more than one.
fn check_core(
    context: &ClaimContext<'_>,
    second: &SecondTensors,
    layer: &LycorisLayer,
    ((_, columns), (outs, ins)): ((u64, u64), (u64, u64)),
    rank: Option<u64>,
) -> Result<()> {
    let (SecondTensors::Core(_, _, core), [kernel]) = (second, layer.kernel()) else { return Ok(()) };
    if rank != Some(1) || columns < 2 || outs < 2 || ins / kernel < 2 {
        return Ok(());
    }
    let (adapter, key) = (context.adapter.name.clone(), context.tensor(*core).key.to_string());
    let why =
        "PEFT fails on a core of rank 1 of such a convolution of one dimension, in training as in merging";
    Err(ClaimError::Unclaimed { adapter, key, why }.into())
}

/// Outputs and inputs of a product `a [outs, rank]·b [rank, ins]`, and its rank.
fn product(context: &ClaimContext<'_>, a: usize, b: usize) -> Result<((u64, u64), u64)> {
    let (outs, rank) = lycoris::matrix(context, a, "[outs, rank]")?;
    let (_, ins) = lycoris::matrix(context, b, "[rank, ins]")?;
    lycoris::expect(context, b, &[rank, ins], a)?;
    Ok(((outs, ins), rank))
}

/// Outputs, and inputs with the kernel, of a second factor that is all there.
fn whole(context: &ClaimContext<'_>, w2: usize, layer: &LycorisLayer) -> Result<(u64, u64)> {
    match *context.tensor(w2).tensor.shape.axes() {
        [outs, ins, ref kernel @ ..] if outs > 0 && ins > 0 && kernel == layer.kernel() => {
            Ok((outs, ins * kernel.iter().product::<u64>()))
        }
        _ => {
            let kernel: String = layer.kernel().iter().map(|size| format!(", {size}")).collect();
            Err(context.factor_shape(w2, format!("[outs, ins{kernel}], both above zero")))
        }
    }
}

fn both(context: &ClaimContext<'_>, whole: usize, part: usize) -> Error {
    let (adapter, key) = (context.adapter.name.clone(), context.tensor(part).key.to_string());
    ClaimError::FactorTwice { adapter, key, other: context.tensor(whole).key.to_string() }.into()
}
