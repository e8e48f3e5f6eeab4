//! Meeting a base: the names of its modules for a trainer's own, and the order of its rows.
//!
//! A base that has the trainer's names itself is that model, and all is as the file has it.

use std::collections::HashMap;

use crate::checkpoint::discover::Checkpoint;
use crate::error::adapter::AdapterError;
use crate::error::{Error, Result};
use crate::model::family::Families;

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::own_model::own_names::OwnModel;
use crate::adapters::parts::Grammar;
use crate::adapters::row_order::RowOrder;

/// The adapter with the paths that transformers has, if its trainer has others; else as it is.
///
/// # Errors
/// [`AdapterError::OwnFamily`] for a base of a family that the trainer has no model of.
pub(crate) fn meet_own_model(adapter: Adapter, base: &Checkpoint) -> Result<Adapter> {
    let Some(own) = adapter.own_model.filter(|_| !is_own(&adapter, base)) else { return Ok(adapter) };
    let Some(is_interleaved) = own.is_interleaved(&Families::of_config(&base.config)) else {
        return Err(other_family(&adapter, own, base));
    };
    let mut adapter = adapter;
    let grammar = Grammar::of(&adapter.kind);
    let theirs = |module: &str| own.module(module).unwrap_or_else(|| module.to_owned());
    let met = |tensor: AdapterTensor| {
        let module = tensor.module();
        let path = format!("{}{}", theirs(module), &tensor.path()[module.len()..]);
        tensor.at_path(&path, &grammar)
    };
    adapter.tensors = std::mem::take(&mut adapter.tensors).into_iter().map(met).collect();
    let scales = std::mem::take(&mut adapter.options.own);
    adapter.options.own =
        scales.into_iter().map(|(module, scale)| (theirs(&module), scale)).collect::<HashMap<_, _>>();
    adapter.reordered = is_interleaved.then_some(RowOrder::Interleaved);
    Ok(adapter)
}

/// Whether the base has a weight by the trainer's own name.
fn is_own(adapter: &Adapter, base: &Checkpoint) -> bool {
    let Some(owner) = adapter.owners().first().map(|owner| format!("{owner}.weight")) else { return false };
    base.catalogue.tensors.iter().any(|tensor| *tensor.name == *owner)
}

fn other_family(adapter: &Adapter, own: &OwnModel, base: &Checkpoint) -> Error {
    let family = base.config.model_type().or(base.config.class()).unwrap_or("(none)").to_owned();
    let (adapter, trainer) = (adapter.name.clone(), own.trainer);
    let hint = format!(
        "read are those for {}: in which order the rows of another are, the file does not say. Name the base that it was trained on \
         with `--base`, or let {trainer} write the merged model",
        own.listed()
    );
    Error::new(AdapterError::OwnFamily { adapter, trainer, family }).hint(hint)
}
