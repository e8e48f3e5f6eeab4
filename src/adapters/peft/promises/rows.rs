//! Rows of tokens: `trainable_token_indices` of LoRA and `token_indices` of the method of its own promise them.

use serde_json::Value;

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::peft::methods::tokens::FIELDS;
use crate::adapters::peft::promises::lacks::Lacks;
use crate::adapters::peft::selection::is_named;
use crate::error::promise::Promise;
use crate::model::heads::{is_embedding, is_head};
use crate::model::outline::Outline;

/// What the tensors of rows belong to.
const FAMILY: &str = "trainable_tokens";

/// Reports modules whose tokens are listed and that have no rows. Tied weights have them once.
pub(crate) fn check(adapter: &Adapter, outline: &Outline<'_>, lacks: &mut Lacks<'_>) {
    let is_rows = |tensor: &&AdapterTensor| tensor.part.family().is_some_and(|family| family.name == FAMILY);
    let with_rows: Vec<&str> = adapter.needed().filter(is_rows).map(AdapterTensor::owner).collect();
    let has_rows = |module: &str| {
        let is_one =
            |owner: &&str| is_named(owner, module) || is_tied(outline, owner) && is_tied(outline, module);
        with_rows.iter().any(is_one)
    };
    for (field, value) in adapter.config.active().filter(|(field, _)| FIELDS.contains(field)) {
        let promise = Promise::Tokens { field: field.to_owned() };
        let modules = match value {
            // Each has its own, and one without tokens has none.
            Value::Object(modules) => {
                let listed =
                    modules.iter().filter(|(_, list)| list.as_array().is_none_or(|list| !list.is_empty()));
                listed.map(|(module, _)| module.clone()).collect()
            }
            _ if with_rows.is_empty() => vec![embedding(outline)],
            _ => Vec::new(),
        };
        for module in modules.iter().filter(|module| !has_rows(module)) {
            lacks.add(&promise, module);
        }
    }
}

/// Whether a module is an end of the weights that the base ties.
pub(crate) fn is_tied(outline: &Outline<'_>, module: &str) -> bool {
    let weight = format!("{module}.weight");
    let ties = outline.head.is_some() || outline.base.config.ties_embeddings() == Some(true);
    ties && (is_head(&weight) || is_embedding(&weight))
}

/// The module of the base's embedding of tokens.
fn embedding(outline: &Outline<'_>) -> String {
    let tensors = outline.base.catalogue.tensors.iter().map(|tensor| &*tensor.name);
    let found = tensors.filter(|name| is_embedding(name)).find_map(|name| name.strip_suffix(".weight"));
    found.unwrap_or("embed_tokens").to_owned()
}
