//! OFT: `W·blockdiag(R)ᵀ`, every row rotated block by block, on linear layers and convolutions of two dimensions (rows with
//! the kernel in them); of an embedding `W·blockdiag(R)`.
//!
//! PEFT: `oft/layer.py`, `OFTRotationModule.get_weight` and `merge` of each layer (peft-methods.md 5.1). A row of `oft_R
//! [blocks, b(b−1)/2]` is the part above the diagonal of a skew `Q`. With `coft`, `Q` is first shortened to the length
//! `eps/√blocks`; `use_cayley_neumann` makes a series of it. With `block_share` one block serves all of a row. The
//! arithmetic is [`crate::ops::rotate`]'s.

use crate::adapters::claim::Claim;
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::ClaimedModule;
use crate::adapters::claim::findings::Findings;
use crate::adapters::parts::Tail;
use crate::adapters::peft::config::Field;
use crate::adapters::peft::methods::oft::OftOptions;
use crate::error::adapter::AdapterError;
use crate::error::claim::ClaimError;
use crate::error::{Error, Result};
use crate::model::heads::is_head;
use crate::note::claim::ClaimNote;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::ops::placement::Placement;
use crate::ops::rotate::{Cayley, Rotate};
use crate::tensor::shape::Shape;

/// A rotation of rows.
pub(crate) struct Oft;

const FIELDS: &[(&str, Field)] = &[
    // The shapes tell the size of a block; PEFT moves these to sizes that divide a row.
    ("r", Field::Fine),
    ("oft_block_size", Field::Fine),
    ("block_share", Field::Fine),
    ("coft", Field::Fine),
    ("eps", Field::Fine),
    ("use_cayley_neumann", Field::Fine),
    ("num_cayley_neumann_terms", Field::Fine),
    ("bias", Field::Only(&["none", "all", "oft_only"], "is none of `none`, `all`, `oft_only`")),
    ("init_weights", Field::Fine),
    ("module_dropout", Field::Fine),
    // Storage tells; PEFT sets it to false for linear layers.
    ("fan_in_fan_out", Field::Flag),
];

const R: Tail = Tail { role: ".oft_R", ending: ".weight" };
const EMBEDDING_R: Tail = Tail { role: ".oft_embedding_R", ending: ".weight" };
/// What PEFT wrote up to 0.15, whole matrices.
const OLD: [Tail; 2] = [Tail::bare(".oft_r"), Tail { role: ".oft_r", ending: ".weight" }];

impl Claim for Oft {
    fn peft_types(&self) -> &'static [&'static str] {
        &["OFT"]
    }

    fn fields(&self) -> &'static [(&'static str, Field)] {
        FIELDS
    }

    fn claim(&self, context: &mut ClaimContext<'_>, findings: &mut Findings<'_>) {
        let old: Vec<usize> =
            OLD.iter().flat_map(|&tail| findings.take(context, tail).into_values()).collect();
        let modules = [(R, false), (EMBEDDING_R, true)].map(|(tail, is_embedding)| {
            findings.take(context, tail).into_iter().map(move |(module, r)| (module, r, is_embedding))
        });
        let modules: Vec<(&str, usize, bool)> = modules.into_iter().flatten().collect();
        let cayley = match cayley(context, &old) {
            Ok(cayley) => cayley,
            Err(error) => return findings.refuse(error),
        };
        if let Some(terms) = cayley.series.filter(|_| !modules.is_empty()) {
            tell(context, findings, terms);
        }
        for (module, r, is_embedding) in modules {
            if let Err(error) = claim_module(context, findings, module, r, is_embedding, cayley) {
                findings.refuse(error);
            }
        }
    }
}

/// How rotations are made, if nothing is wrong with all of the adapter.
fn cayley(context: &ClaimContext<'_>, old: &[usize]) -> Result<Cayley> {
    if let Some(error) = refused(context, old) {
        return Err(error);
    }
    let cayley = options(context).cayley.as_ref();
    cayley.copied().map_err(|problem| problem.refused(&context.adapter.name))
}

fn options<'a>(context: &ClaimContext<'a>) -> &'a OftOptions {
    &context.adapter.options.methods.oft
}

/// What is wrong with all of the adapter.
fn refused(context: &ClaimContext<'_>, old: &[usize]) -> Option<Error> {
    let adapter = context.adapter.name.clone();
    let retrain =
        "no later PEFT reads it: merge it with the version that it was trained with, or train it again";
    if !options(context).has_block_size {
        let why = "without `oft_block_size` in the config is OFT as PEFT before 0.14 had it";
        let error = Error::new(AdapterError::PeftType { adapter, found: "OFT".to_owned(), why });
        return Some(error.hint(retrain));
    }
    if let Some(&first) = old.first() {
        let key = context.tensor(first).key.to_string();
        let (more, format) = (old.len() - 1, "OFT as PEFT up to 0.15 had it");
        return Some(Error::new(ClaimError::OldFormat { adapter, key, more, format }).hint(retrain));
    }
    weighted(context)
}

/// The refusal of an adapter that rotates and has another weight than 1.
pub(crate) fn weighted(context: &ClaimContext<'_>) -> Option<Error> {
    context.weighted("OFT rotates, and a rotation has no scale")
}

/// Says what a series may surprise with.
fn tell(context: &mut ClaimContext<'_>, findings: &mut Findings<'_>, terms: usize) {
    let adapter = &context.adapter.name;
    if options(context).is_before_0_18 {
        findings.note(ClaimNote::EarlyCayley { adapter: adapter.clone() });
    }
    if terms < 2 {
        findings.note(ClaimNote::NoCayleyTerms { adapter: adapter.clone() });
    }
}

fn claim_module(
    context: &mut ClaimContext<'_>,
    findings: &mut Findings<'_>,
    module: &str,
    r: usize,
    is_embedding: bool,
    cayley: Cayley,
) -> Result<()> {
    let Some(target) = context.target(findings, &[r], module, "weight") else { return Ok(()) };
    let weight = context.weight(target);
    let (side, blocks) = packed(context, r)?;
    let (out, width) = rows(context, r, &weight.name, &weight.shape, is_embedding)?;
    let is_shared = options(context).is_shared;
    if is_shared && blocks != 1 {
        let expected = format!("[1, {}], as the config sets `block_share`", side * (side - 1) / 2);
        return Err(context.factor_shape(r, expected));
    }
    let fits = if is_shared { width.is_multiple_of(side) } else { blocks.checked_mul(side) == Some(width) };
    if fits && side == 1 {
        findings.note(ClaimNote::BlocksOfOne { tensor: weight.name.to_string() });
        let keys = [context.tensor(r).key.clone()];
        findings.claim(ClaimedModule::change("oft", module, keys, target, Vec::new()));
        return Ok(());
    }
    if !fits {
        if !is_embedding && weight.shape.axes().len() == 2 && blocks * side == out {
            return Err(unfit(context, r, &weight.name, STORED_TRANSPOSED));
        }
        let expected =
            format!("blocks that make up rows of {width}, as `{}` is {}", weight.name, weight.shape);
        let error = context.factor_shape(r, expected);
        return Err(
            error.hint(format!("{blocks} of {side} · {side} make up {}", blocks.saturating_mul(side)))
        );
    }
    let tensor = context.tensor(r).clone();
    let placement = Placement::matrix(out, width, false);
    let [side, blocks, width] = [side, blocks, width].map(|size| size as usize);
    let rotate = Rotate { cayley, side, blocks, width, is_embedding };
    let factors = vec![Factor::prepared(tensor.tensor, rotate.prepared_len())];
    let op = Op::new(rotate, placement, factors, 1.0);
    findings.claim(ClaimedModule::change("oft", module, [tensor.key], target, vec![op]));
    Ok(())
}

/// Rows of a block, and how many blocks the file has.
fn packed(context: &ClaimContext<'_>, r: usize) -> Result<(u64, u64)> {
    let found = match *context.tensor(r).tensor.shape.axes() {
        // Where nothing else divides a row, PEFT takes blocks of one element, which have nothing above their diagonal.
        [blocks, packed] if blocks > 0 => {
            let side = (1 + 8 * packed).isqrt().div_ceil(2);
            (side * (side - 1) / 2 == packed).then_some((side, blocks))
        }
        _ => None,
    };
    found.ok_or_else(|| context.factor_shape(r, "[blocks, b·(b - 1)/2] for blocks of b · b".to_owned()))
}

const STORED_TRANSPOSED: &str = "stored as [in, out]";

/// Rows of the base tensor and elements of each, if it is a layer that PEFT's OFT fits.
fn rows(
    context: &ClaimContext<'_>,
    r: usize,
    name: &str,
    shape: &Shape,
    is_embedding: bool,
) -> Result<(u64, u64)> {
    let is_shared = options(context).is_shared;
    let layer = match *shape.axes() {
        [rows, cols] if is_embedding => return Ok((rows, cols)),
        [rows, cols] if context.names.conv1d() && !is_head(name) && (rows == cols || is_shared) => {
            STORED_TRANSPOSED
        }
        [rows, cols] => return Ok((rows, cols)),
        [_, _, high, wide] if high != wide && !is_embedding => "a convolution whose kernel is not square",
        // Its stored rows are single elements.
        [1, _, 1, 1] if !is_embedding => "a convolution of one output without a kernel",
        [rows, ref rest @ ..] if rest.len() == 3 && !is_embedding => {
            return Ok((rows, rest.iter().product()));
        }
        _ if is_embedding => "no embedding",
        _ => "neither a linear layer nor a convolution of two dimensions",
    };
    Err(unfit(context, r, name, layer))
}

fn unfit(context: &ClaimContext<'_>, r: usize, name: &str, layer: &'static str) -> Error {
    let (adapter, key) = (context.adapter.name.clone(), context.tensor(r).key.to_string());
    ClaimError::LayerUnfit { adapter, key, tensor: name.to_owned(), layer, method: "PEFT's OFT" }.into()
}
