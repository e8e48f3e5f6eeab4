//! The base that an adapter was trained on, by what it says of it, against the base that it is merged into.
//!
//! Shapes do not tell one family from another: those of Llama 3 and of Qwen 3 are equal in many sizes. Classes do, where
//! both are known. Names are anybody's, and only noted.

use crate::checkpoint::discover::Checkpoint;
use crate::checkpoint::llama_cpp::are_apart;
use crate::error::Error;
use crate::error::adapter::AdapterError;
use crate::model::family::{Families, Kinship};

use crate::adapters::adapter::Adapter;
use crate::adapters::row_order::RowOrder;

/// What `adapter` says of the model's class, if the base is of another family: its class, and the base's.
pub(crate) fn other_class(adapter: &Adapter, base: &Checkpoint) -> Option<(String, String)> {
    let trained_on = &adapter.options.trained_on;
    let ours = || base.config.class().or(base.config.model_type()).map(str::to_owned);
    // What is converted for llama.cpp is of many types, or of one that has an architecture of its own.
    let own = adapter.reordered.and_then(RowOrder::model_type);
    let model_type = base.config.model_type().unwrap_or_default();
    let said = trained_on.types.iter().map(String::as_str).filter(|_| base.config.is_of_many());
    let mut types = said.chain(own);
    if let Some(apart) = types.find(|theirs| are_apart(theirs, model_type)) {
        return Some((apart.to_owned(), ours()?));
    }
    if base.config.is_of_many() {
        return None;
    }
    let mut families = Families::default();
    trained_on.classes.iter().for_each(|class| families.add_class(class));
    trained_on.types.iter().for_each(|model_type| families.add_type(model_type));
    if families.kinship(&Families::of_config(&base.config)) != Kinship::Other {
        return None;
    }
    let theirs = trained_on.classes.first().or(trained_on.types.first())?.clone();
    Some((theirs, ours()?))
}

/// The refusal of an adapter for a base of another class.
pub(crate) fn refused(adapter: &Adapter, trained_on: String, base: String) -> Error {
    let named = adapter.options.base.as_deref().map(|name| format!(" (`{name}`)")).unwrap_or_default();
    let kind = AdapterError::OtherBase { adapter: adapter.name.clone(), trained_on, base };
    Error::new(kind).hint(format!(
        "name the base that it was trained on{named} with `--base`; `--allow-other-base` merges into this one all the same"
    ))
}
