//! Pairs of low-rank factors, as keys name them.

use std::borrow::Cow;

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::parts::Tail;

pub(crate) const A: Tail = Tail { role: ".lora_A", ending: ".weight" };
pub(crate) const B: Tail = Tail { role: ".lora_B", ending: ".weight" };

const EMBEDDING_A: Tail = Tail::bare(".lora_embedding_A");
const EMBEDDING_B: Tail = Tail::bare(".lora_embedding_B");

/// Two factors of one module.
pub(crate) struct Pair<'c> {
    /// Module path as the adapter spells it.
    pub(crate) module: Cow<'c, str>,
    /// `A [rank, in]`.
    pub(crate) a: usize,
    /// `B [out, rank]`.
    pub(crate) b: usize,
    /// Whether they are an embedding's, whose inputs are tokens.
    pub(crate) is_embedding: bool,
    /// The module and its parameter, where the path is that of a parameter.
    pub(crate) parameter: Option<Box<(String, String)>>,
}

/// Takes all pairs of factors that nobody has taken; notes those that are half.
pub(crate) fn take_pairs<'c>(context: &mut ClaimContext<'c>, findings: &mut Findings<'_>) -> Vec<Pair<'c>> {
    let mut pairs = take_tails(context, findings, A, B, false, |_| true);
    pairs.extend(take_tails(context, findings, EMBEDDING_A, EMBEDDING_B, true, |_| true));
    pairs
}

/// Takes the pairs of two tails whose modules are some of all.
pub(crate) fn take_tails<'c>(
    context: &mut ClaimContext<'c>,
    findings: &mut Findings<'_>,
    a_tail: Tail,
    b_tail: Tail,
    is_embedding: bool,
    is_one: impl Fn(&str) -> bool,
) -> Vec<Pair<'c>> {
    let (a, mut b) =
        (findings.take_where(context, a_tail, &is_one), findings.take_where(context, b_tail, &is_one));
    let mut pairs = Vec::new();
    for (module, a) in a {
        match b.remove(module) {
            Some(b) => pairs.push(Pair { module: module.into(), a, b, is_embedding, parameter: None }),
            None => findings.lacks_partner(a, &b_tail.key(module)),
        }
    }
    for (module, b) in b {
        findings.lacks_partner(b, &a_tail.key(module));
    }
    pairs
}
