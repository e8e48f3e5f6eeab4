//! torchtune's export to PEFT: which families it is right for.
//!
//! It reorders the rows of `lora_B` of queries and keys from interleaved to halved rotary order, for every family
//! (`tune_to_peft_adapter_weights`). That is right where the checkpoint itself is converted so. Qwen's is not, and then the
//! rows are in a wrong order, which nothing in the file shows (key-mapping.md 10.2).

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::own_model::torchtune::TORCHTUNE;
use crate::adapters::parts::Role;
use crate::adapters::peft::torchtune::NATIVE;
use crate::checkpoint::config::Config;
use crate::error::Error;
use crate::error::adapter::AdapterError;
use crate::model::family::Families;

/// Modules whose rows it reorders.
const ROTARY: &[&str] = &["q_proj", "k_proj"];

/// The refusal of an export whose rows are in a wrong order for this base.
pub(crate) fn reordered_wrongly(adapter: &Adapter, base: &Config) -> Option<Error> {
    if !adapter.evidence.is_torchtune {
        return None;
    }
    let families = Families::of_config(base);
    if families.is_empty() || TORCHTUNE.is_interleaved(&families) == Some(true) {
        return None;
    }
    let is_rotary = |tensor: &&AdapterTensor| {
        tensor.part.role == Role::B
            && ROTARY.iter().any(|name| tensor.module().rsplit('.').next() == Some(*name))
    };
    let tensor = adapter.tensors.iter().find(is_rotary)?;
    let family = base.model_type().or(base.class()).unwrap_or_default().to_owned();
    let (adapter, key) = (adapter.name.clone(), tensor.key.to_string());
    let error = Error::new(AdapterError::TorchtuneOrder { adapter, key, family });
    Some(error.hint(format!(
        "torchtune's own file of the epoch (`{NATIVE}`, or `adapter_0.pt`) has them as they were trained, and is read where it lies \
         beside the config: get it whole, or let torchtune write the merged model (`save_adapter_weights_only: False`)"
    )))
}
