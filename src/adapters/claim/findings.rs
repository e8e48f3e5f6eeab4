//! Findings: what claiming an adapter comes to. Rules write them; nothing is looked up here.
//!
//! Every tensor ends in exactly one of: claimed by a rule, ignored by a named rule, or refused. Nothing is reported one at a
//! time: a rule goes on after an error, and [`Findings::report`] adds what nobody claimed.

use std::collections::BTreeMap;

use crate::adapters::adapter::{Adapter, Unneeded};
use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::edits::{ClaimedModule, Edit};
use crate::adapters::parts::Tail;
use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::error::request::RequestError;
use crate::note::Note;
use crate::note::names::NameNote;
use crate::ops::factor::Factor;
use crate::ops::op::Op;
use crate::tensor::reference::TensorRef;

/// Which of an adapter's tensors are spoken for, what they do to which base tensors, and what is wrong.
pub(crate) struct Findings<'a> {
    adapter: &'a Adapter,
    taken: Vec<bool>,
    /// Keys that match no base tensor, and the names they were looked for by.
    unmatched: Vec<(String, String)>,
    claimed: Vec<ClaimedModule>,
    head_follows: bool,
    trains_as_one: bool,
    errors: Vec<Error>,
    notes: Vec<Note>,
}

/// What claiming an adapter came to.
pub(crate) struct ClaimReport {
    /// The claims, in the order they were made.
    pub claimed: Vec<ClaimedModule>,
    /// Whether a tied head follows what is done to the embedding.
    pub head_follows: bool,
    /// Whether what it holds of one tied end was trained for both, unless it holds the other's too.
    pub trains_as_one: bool,
    /// Keys that are left out because the user said so.
    pub skipped: Vec<String>,
    /// All that is wrong.
    pub errors: Vec<Error>,
    /// Things worth saying.
    pub notes: Vec<Note>,
}

impl<'a> Findings<'a> {
    /// Begins with every tensor unclaimed but those that no merge needs, which are ignored by rules that say so.
    pub(crate) fn new(context: &ClaimContext<'a>) -> Findings<'a> {
        let adapter = context.adapter;
        let reported = |(&wrapper, &keys): (&&str, &usize)| {
            let (adapter, wrapper) = (adapter.name.clone(), wrapper.to_owned());
            NameNote::WrapperRemoved { adapter, wrapper, keys }.into()
        };
        let mut findings = Findings {
            adapter,
            taken: vec![false; adapter.tensors.len()],
            unmatched: Vec::new(),
            claimed: Vec::new(),
            head_follows: false,
            trains_as_one: false,
            errors: Vec::new(),
            notes: adapter.stripped.iter().map(reported).collect(),
        };
        let mut by_rule: BTreeMap<&'static str, Vec<usize>> = BTreeMap::new();
        for (i, tensor) in adapter.tensors.iter().enumerate() {
            findings.taken[i] = tensor.unneeded.is_some();
            if let Some(rule) = tensor.unneeded.and_then(Unneeded::rule) {
                by_rule.entry(rule).or_default().push(i);
            }
        }
        by_rule.into_iter().for_each(|(rule, found)| findings.ignore_all(&found, rule));
        findings
    }

    /// Takes every tensor with that tail, by module path.
    pub(crate) fn take<'c>(&mut self, context: &ClaimContext<'c>, tail: Tail) -> BTreeMap<&'c str, usize> {
        self.take_where(context, tail, |_| true)
    }

    /// Takes every tensor with that tail whose module is one of those.
    pub(crate) fn take_where<'c>(
        &mut self,
        context: &ClaimContext<'c>,
        tail: Tail,
        is_one: impl Fn(&str) -> bool,
    ) -> BTreeMap<&'c str, usize> {
        let mut modules = BTreeMap::new();
        for (i, path) in context.paths().enumerate() {
            if self.taken[i] {
                continue;
            }
            let Some(module) = tail.module(path).filter(|module| is_one(module)) else { continue };
            self.taken[i] = true;
            if let Some(first) = modules.insert(module, i) {
                self.errors.push(context.key_twice(first, i));
            }
        }
        modules
    }

    /// Takes a tensor for which something else is reported.
    pub(crate) fn take_one(&mut self, i: usize) {
        self.taken[i] = true;
    }

    /// The tensors that nobody has taken, which are taken with this.
    pub(crate) fn untaken(&mut self) -> Vec<usize> {
        let untaken = (0..self.taken.len()).filter(|&i| !self.taken[i]).collect();
        self.taken.fill(true);
        untaken
    }

    /// Records a claim, unless its factors are of a type that is not read. With weight 0 it does nothing.
    pub(crate) fn claim(&mut self, mut claimed: ClaimedModule) {
        if self.adapter.weight_of(&claimed.module) == 0.0 {
            (claimed.edit, claimed.elements) = (Edit::Change(Vec::new()), 0);
        }
        let ops: &[Op] = match &claimed.edit {
            Edit::Change(ops) => ops,
            Edit::Replace { .. } => &[],
        };
        if ops.iter().any(|op| !op.scale.is_finite()) {
            let (adapter, what) = (self.adapter.name.clone(), claimed.module.to_string());
            let weight = self.adapter.weight_of(&claimed.module);
            let why = "what it adds is then multiplied by no finite number";
            self.errors.push(ClaimError::Weighted { adapter, what, weight, why }.into());
            return;
        }
        match ops.iter().flat_map(|op| &op.factors).find_map(Factor::unread) {
            Some(tensor) => self.errors.push(self.factor_dtype(tensor, &claimed.module)),
            None => self.claimed.push(claimed),
        }
    }

    /// The refusal of a factor for its type.
    fn factor_dtype(&self, tensor: &TensorRef, module: &str) -> Error {
        let mut all = self.adapter.tensors.iter();
        let key = all.find(|other| other.tensor.offset == tensor.offset).map(|other| other.key.to_string());
        let (adapter, key) = (self.adapter.name.clone(), key.unwrap_or_else(|| module.to_owned()));
        ClaimError::FactorDtype { adapter, key, found: tensor.dtype }.into()
    }

    /// Records tensors of the adapter that are for a parameter which no base tensor is.
    pub(crate) fn unmatched(&mut self, tensors: &[usize], name: &str) {
        let adapter = self.adapter;
        self.unmatched.extend(tensors.iter().map(|&i| (adapter.tensors[i].key.to_string(), name.to_owned())));
    }

    /// Records an error.
    pub(crate) fn refuse(&mut self, error: Error) {
        self.errors.push(error);
    }

    /// Refuses a tensor for what it is.
    pub(crate) fn refuse_tensor(&mut self, i: usize, why: &'static str) {
        let (adapter, key) = (self.adapter.name.clone(), self.adapter.tensors[i].key.to_string());
        self.errors.push(ClaimError::Unclaimed { adapter, key, why }.into());
    }

    /// The same, with what helps.
    pub(crate) fn refuse_with(&mut self, i: usize, why: &'static str, cure: &'static str) {
        let (adapter, key) = (self.adapter.name.clone(), self.adapter.tensors[i].key.to_string());
        self.errors.push(Error::new(ClaimError::Unclaimed { adapter, key, why }).hint(cure));
    }

    /// Whether a tensor is spoken for.
    pub(crate) fn is_taken(&self, i: usize) -> bool {
        self.taken[i]
    }

    /// Refuses a tensor that lacks the one it needs.
    pub(crate) fn lacks_partner(&mut self, i: usize, partner: &str) {
        let (adapter, key) = (self.adapter.name.clone(), self.adapter.tensors[i].key.to_string());
        let error = Error::new(ClaimError::NoPartner { adapter, key, partner: partner.to_owned() });
        self.errors.push(error.hint("the adapter was not saved whole: save it again, or get the whole file"));
    }

    /// Ignores a tensor by a rule, and says so.
    pub(crate) fn ignore(&mut self, i: usize, rule: &'static str) {
        self.ignore_all(&[i], rule);
    }

    /// Ignores all untaken tensors of such paths by one rule, and says so once.
    pub(crate) fn ignore_where(
        &mut self,
        context: &ClaimContext<'_>,
        is_one: impl Fn(&str) -> bool,
        rule: &'static str,
    ) {
        let all = context.paths().enumerate();
        let found = all.filter(|(i, path)| !self.taken[*i] && is_one(path)).map(|(i, _)| i);
        let found: Vec<usize> = found.collect();
        self.ignore_all(&found, rule);
    }

    /// Ignores tensors by one rule, and says so once.
    pub(crate) fn ignore_all(&mut self, found: &[usize], rule: &'static str) {
        if found.is_empty() {
            return;
        }
        for &i in found {
            self.taken[i] = true;
        }
        let keys = found.iter().map(|&i| self.adapter.tensors[i].key.to_string()).collect();
        self.note(NameNote::Ignored { keys, rule });
    }

    /// Says something that is no error.
    pub(crate) fn note(&mut self, note: impl Into<Note>) {
        self.notes.push(note.into());
    }

    /// Notes that whatever the adapter does to the embedding, the tied head follows.
    pub(crate) fn head_follows(&mut self) {
        self.head_follows = true;
    }

    /// Whether that was noted.
    pub(crate) fn does_head_follow(&self) -> bool {
        self.head_follows
    }

    /// Notes that tied weights were trained as one, however the base stores them: what the adapter holds of the embedding
    /// alone is the head's as well.
    pub(crate) fn trains_tied_as_one(&mut self) {
        self.trains_as_one = true;
    }

    /// What all of it came to.
    pub(crate) fn report(mut self, context: &ClaimContext<'_>) -> ClaimReport {
        for i in self.untaken() {
            self.refuse_tensor(i, "no method knows it");
        }
        let skipped = self.skip_unmatched();
        if let Some((_, name)) = self.unmatched.first() {
            let nearest = context.outline.base.catalogue.nearest(name, 3);
            let keys: Vec<String> = self.unmatched.iter().map(|(key, _)| key.clone()).collect();
            let wrapped = context.wrapped_base();
            let hint = match nearest.as_slice() {
                _ if wrapped.is_some() => wrapped.unwrap_or_default(),
                [] => format!("no base tensor has a name like `{name}`: is the adapter for this base?"),
                nearest => format!("tried `{name}`; the base has `{}`", nearest.join("`, `")),
            };
            let (adapter, count) = (self.adapter.name.clone(), keys.len());
            self.errors.push(Error::new(ClaimError::Unmatched { adapter, count, keys, nearest }).hint(hint));
        }
        let Findings { claimed, head_follows, trains_as_one, errors, notes, .. } = self;
        ClaimReport { claimed, head_follows, trains_as_one, skipped, errors, notes }
    }

    /// Takes those out of what matches no base tensor that the user listed, and returns them. A pattern that lists all of
    /// an adapter lists nothing, and is refused.
    fn skip_unmatched(&mut self) -> Vec<String> {
        let adapter = self.adapter;
        for pattern in &adapter.unmatched {
            if adapter.tensors.iter().all(|tensor| pattern.is_match(&tensor.key)) {
                let (value, tensors) = (pattern.as_str().to_owned(), adapter.tensors.len());
                let (flag, adapter) = ("--allow-unmatched", adapter.name.clone());
                self.errors.push(RequestError::MatchesAll { flag, value, tensors, adapter }.into());
                return Vec::new();
            }
        }
        let is_listed = |key: &str| adapter.unmatched.iter().any(|pattern| pattern.is_match(key));
        let all = std::mem::take(&mut self.unmatched);
        let (listed, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(key, _)| is_listed(key));
        self.unmatched = others;
        if listed.is_empty() {
            return Vec::new();
        }
        let keys: Vec<String> = listed.into_iter().map(|(key, _)| key).collect();
        self.note(NameNote::UnmatchedAllowed { keys: keys.clone() });
        keys
    }
}
