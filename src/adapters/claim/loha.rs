//! LoHa: `W + s·(B₁·A₁)∘(B₂·A₂)`, the element-wise product of two low-rank products, on linear layers and convolutions.
//!
//! Source: Hyeon-Woo et al. 2021 (arXiv:2108.06098, FedPara), `s = alpha/rank`. PEFT: `loha/layer.py`, `make_weight`, and
//! `make_weight_cp` for a convolution with cores, where each product is [`Core`]'s (peft-methods.md 4.11). The tensors
//! `hada_w1_a [out, rank]` and `hada_w1_b [rank, in·kernel]` are the first product's `B` and `A`; beside a core `hada_t1
//! [rank, rank, kernel]` they are `[rank, out]` and `[rank, in]`.
//!
//! Rounding: both products in f32, their product rounded, times `s` rounded, added to the running value, as in PEFT.

use crate::adapters::claim::context::Claiming;
use crate::adapters::peft::config::Field;
use crate::adapters::peft::keys::Tail;
use crate::error::Result;
use crate::ops::op::Factor;

use crate::adapters::claim::Method;
use crate::adapters::claim::lycoris;
use crate::adapters::claim::lycoris::{Core, Layer};
use crate::ops::block::Block;

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

const fn tail(role: &'static str) -> Tail {
    Tail { role, ending: "" }
}

/// In the order of an op's factors: both products, or both with a core behind.
const TAILS: [Tail; 6] = [
    tail(".hada_w1_a"),
    tail(".hada_w1_b"),
    tail(".hada_t1"),
    tail(".hada_w2_a"),
    tail(".hada_w2_b"),
    tail(".hada_t2"),
];

impl Method for Loha {
    fn name(&self) -> &'static str {
        "loha"
    }

    fn peft_types(&self) -> &'static [&'static str] {
        &["LOHA"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, claiming: &mut Claiming<'_>) {
        for (module, tensors) in lycoris::take(claiming, &TAILS) {
            if let Err(error) = claim_module(claiming, &module, tensors) {
                claiming.refuse(error);
            }
        }
    }

    fn rooms(&self) -> usize {
        2
    }

    fn apply(&self, block: &mut Block<'_>) {
        if let &[rank, kernel] = block.settings {
            for room in 0..2 {
                rebuild(block, room, rank as usize, kernel as usize);
            }
        } else {
            block.product_into(0, 0, 1);
            block.product_into(1, 2, 3);
        }
        let (first, second) = block.scratch.split_at_mut(block.window.elements() as usize);
        first.iter_mut().zip(second).for_each(|(first, second)| *first *= *second);
        block.add_scaled();
    }
}

/// Writes what a core and its two factors make into a room.
fn rebuild(block: &mut Block<'_>, room: usize, rank: usize, kernel: usize) {
    let [a, b, t] = [0, 1, 2].map(|i| block.factors[3 * room + i]);
    let core = Core { t: t.data, b: b.data, rank, kernel };
    let ([(outs, out_step), (ins, in_step)], elements) = (block.axes(), block.elements());
    let room = &mut block.scratch[room * elements..][..elements];
    let mut partial = Vec::new();
    for (p, out) in outs.enumerate() {
        core.partial(|i| a.at(out, i), &mut partial);
        for (q, value) in core.row(&partial, ins.clone()).enumerate() {
            room[p * out_step + q * in_step] = value;
        }
    }
}

fn claim_module(claiming: &mut Claiming<'_>, module: &str, tensors: [Option<usize>; 6]) -> Result<()> {
    let present: Vec<usize> = tensors.into_iter().flatten().collect();
    let has_cores = tensors[2].is_some() || tensors[5].is_some();
    let needed = |slot: &usize| has_cores || *slot != 2 && *slot != 5;
    if let Some(missing) = (0..6).filter(needed).find(|&slot| tensors[slot].is_none()) {
        claiming.lacks_partner(present[0], &TAILS[missing].key(module));
        return Ok(());
    }
    let Some(layer) = Layer::find(claiming, module, &present, "LoHa")? else { return Ok(()) };
    let tensor = |i: usize| claiming.tensor(i).tensor.clone();
    let (shape, change) = match present[..] {
        [a1, b1, a2, b2] => {
            let (out, rank) = lycoris::matrix(claiming, a1, "[out, rank]")?;
            let (_, input) = lycoris::matrix(claiming, b1, "[rank, in]")?;
            lycoris::expect(claiming, b1, &[rank, input], a1)?;
            lycoris::expect(claiming, a2, &[out, rank], a1)?;
            lycoris::expect(claiming, b2, &[rank, input], b1)?;
            let along_out = |i| Factor::along(0, tensor(i), rank, rank, 1);
            let along_in = |i| Factor::along(1, tensor(i), 1, rank, input);
            let factors = vec![along_out(a1), along_in(b1), along_out(a2), along_in(b2)];
            let shape = (out, input);
            (shape, lycoris::change("loha", claiming, module, shape, Some(rank), factors)?)
        }
        [a1, b1, t1, a2, b2, t2] => {
            let (rank, out) = lycoris::matrix(claiming, a1, "[rank, out]")?;
            let (_, inputs) = lycoris::matrix(claiming, b1, "[rank, in]")?;
            lycoris::expect(claiming, b1, &[rank, inputs], a1)?;
            lycoris::expect_core(claiming, t1, rank, &layer)?;
            lycoris::expect(claiming, a2, &[rank, out], a1)?;
            lycoris::expect(claiming, b2, &[rank, inputs], b1)?;
            lycoris::expect_core(claiming, t2, rank, &layer)?;
            let of = |[a, b, t]: [usize; 3]| {
                let along_out = Factor::along(0, tensor(a), 1, rank, out);
                [along_out, Factor::whole(tensor(b)), Factor::whole(tensor(t))]
            };
            let factors = [of([a1, b1, t1]), of([a2, b2, t2])].concat();
            let kernel: u64 = layer.kernel().iter().product();
            let shape = (out, inputs * kernel);
            let mut change = lycoris::change("loha", claiming, module, shape, Some(rank), factors)?;
            change.settings = vec![rank as f64, kernel as f64];
            (shape, change)
        }
        _ => unreachable!("all that is needed is there, and nothing else has been taken"),
    };
    layer.claim(claiming, module, &present, shape, change)
}
