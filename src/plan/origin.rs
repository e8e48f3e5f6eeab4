//! Where an adapter comes from, against where it goes: the base it was trained on, what lies beside it, what it is a save of.

use crate::adapters::adapter::Adapter;
use crate::adapters::own_model::torchtune_export::reordered_wrongly;
use crate::adapters::peft::residual::on_residual;

use crate::adapters::{other_base, unmerged};
use crate::checkpoint::config::Config;
use crate::encodings::schemes;
use crate::error::Result;
use crate::note::Note;
use crate::note::input::InputNote;

use crate::plan::claim_set::ClaimSet;
use crate::plan::planner::Planner;

/// Families that are known by their names, whoever gives the names to what is made from them.
const NAMED_FAMILIES: &[&str] = &["llama", "qwen", "mistral", "mixtral", "gemma", "phi"];

impl Planner<'_> {
    /// Checks where an adapter comes from. What the user allows is noted and recorded.
    pub(crate) fn check_origin(&self, adapter: &Adapter, claim_set: &mut ClaimSet) {
        claim_set.notes.extend(self.provenance(adapter));
        claim_set.errors.extend(reordered_wrongly(adapter, &self.model().config));
        self.check_class(adapter, claim_set);
        if let Err(error) = self.check_beside(adapter, claim_set) {
            claim_set.errors.push(error);
        }
    }

    /// Whether the base is of the family that the adapter was trained on.
    fn check_class(&self, adapter: &Adapter, claim_set: &mut ClaimSet) {
        let Some((trained_on, base)) = other_base::other_class(adapter, self.model()) else { return };
        if !self.allow_other_base {
            return claim_set.errors.push(other_base::refused(adapter, trained_on, base));
        }
        let note = InputNote::OtherClassAllowed { adapter: adapter.name.clone(), trained_on, base };
        claim_set.skipped.push(note.to_string());
        claim_set.notes.push(note.into());
    }

    /// Whether the directory of the adapter tells that it is not whole, or for another base.
    fn check_beside(&self, adapter: &Adapter, claim_set: &mut ClaimSet) -> Result<()> {
        claim_set.errors.extend(on_residual(adapter)?);
        let found = unmerged::beside(adapter, Some(self.model()), self.allow_unmerged_files)?;
        claim_set.errors.extend(unmerged::refused(&adapter.name, found.open));
        for file in found.allowed {
            let note = InputNote::UnmergedAllowed { adapter: adapter.name.clone(), file };
            claim_set.skipped.push(note.to_string());
            claim_set.notes.push(note.into());
        }
        Ok(())
    }

    /// What the adapter says of its base, where that disagrees with this one by name.
    fn provenance(&self, adapter: &Adapter) -> Option<Note> {
        let trained_on = adapter.options.base.as_deref()?;
        let (of, adapter) = (trained_on.to_owned(), adapter.name.clone());
        let config = &self.model().config;
        if schemes::is_quantized_build(trained_on) && config.quantization().is_none() {
            if self.base_as.is_some() {
                return None;
            }
            return Some(InputNote::TrainedOnQuantized { adapter, trained_on: of }.into());
        }
        let by_config = config.text("_name_or_path").filter(|name| !name.is_empty());
        let names: Vec<&str> = self.model().name.as_deref().into_iter().chain(by_config).collect();
        let Some(base) = names.first().map(|name| (*name).to_owned()) else {
            let model_type = other_family(trained_on, config)?.to_owned();
            return Some(InputNote::OtherFamily { adapter, trained_on: of, model_type }.into());
        };
        let is_other = names.iter().all(|name| leaf(name) != leaf(trained_on));
        is_other.then(|| InputNote::OtherBase { adapter, trained_on: of, base }.into())
    }
}

/// The base's model type, if a name is that of another family.
fn other_family<'c>(name: &str, config: &'c Config) -> Option<&'c str> {
    let model_type = config.model_type().filter(|_| !config.is_of_many())?;
    let name = leaf(name).to_lowercase();
    let is_of = |family: &&&str| model_type.starts_with(**family);
    let own = NAMED_FAMILIES.iter().find(is_of)?;
    let is_other = !name.contains(own) && NAMED_FAMILIES.iter().any(|family| name.contains(family));
    is_other.then_some(model_type)
}

/// The last segment of a path or of `org/name`.
fn leaf(name: &str) -> &str {
    name.trim_end_matches('/').rsplit('/').next().unwrap_or(name)
}
