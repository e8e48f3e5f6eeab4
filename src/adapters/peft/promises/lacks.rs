//! What an adapter lacks, by the promise that it breaks: reported together, but for what `--allow-missing` names.

use std::collections::{BTreeMap, BTreeSet};

use crate::adapters::adapter::Adapter;
use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::error::promise::Promise;
use crate::note::Note;
use crate::note::names::NameNote;

/// What an adapter lacks.
pub(crate) struct Lacks<'a> {
    adapter: &'a Adapter,
    refused: BTreeMap<Promise, BTreeSet<String>>,
    allowed: BTreeMap<String, BTreeSet<String>>,
}

impl<'a> Lacks<'a> {
    /// Of `adapter`, nothing yet.
    pub(crate) fn new(adapter: &'a Adapter) -> Lacks<'a> {
        Lacks { adapter, refused: BTreeMap::new(), allowed: BTreeMap::new() }
    }

    /// Whether the user allows `name` to be missing that `field` promises, which is noted.
    pub(crate) fn allow(&mut self, field: &str, name: &str) -> bool {
        let is_allowed = self.adapter.missing.iter().any(|pattern| pattern.is_match(name));
        if is_allowed {
            self.allowed.entry(field.to_owned()).or_default().insert(name.to_owned());
        }
        is_allowed
    }

    /// Adds something that is missing, by what the adapter calls it, or would.
    pub(crate) fn add(&mut self, promise: &Promise, name: &str) {
        if !self.allow(promise.field(), name) {
            self.refused.entry(promise.clone()).or_default().insert(name.to_owned());
        }
    }

    /// The refusals.
    pub(crate) fn errors(&self) -> Vec<Error> {
        let error = |(promise, names): (&Promise, &BTreeSet<String>)| {
            let names: Vec<String> = names.iter().cloned().collect();
            let adapter = self.adapter.name.clone();
            let hint = match names.as_slice() {
                [name] => format!("`--allow-missing '^{}$'` merges without it", regex::escape(name)),
                _ => "`--allow-missing REGEX` merges without those that it matches".to_owned(),
            };
            let cure = promise.cure();
            Error::new(ClaimError::Missing { adapter, names, promise: promise.clone() })
                .hint(format!("{cure}; {hint}"))
        };
        self.refused.iter().map(error).collect()
    }

    /// What is noted of those that are allowed.
    pub(crate) fn notes(&self) -> impl Iterator<Item = Note> {
        self.allowed.iter().map(|(promise, names)| {
            let names = names.iter().cloned().collect();
            let (adapter, promise) = (self.adapter.name.clone(), promise.clone());
            NameNote::MissingAllowed { adapter, promise, names }.into()
        })
    }

    /// The same for the model card.
    pub(crate) fn choices(&self) -> impl Iterator<Item = String> {
        let all =
            self.allowed.iter().flat_map(|(promise, names)| names.iter().map(move |name| (promise, name)));
        all.map(|(promise, name)| {
            let adapter = &self.adapter.name;
            format!(
                "`{name}` has no tensor in `{adapter}`, which `{promise}` promises; allowed (--allow-missing)"
            )
        })
    }
}
