//! What was decided beyond adding deltas: a merge reports it, and the model card and the record repeat it.

use std::collections::BTreeMap;

use crate::encodings;
use crate::encodings::schemes;
use crate::model::outline::Outline;
use crate::note::plan::PlanNote;
use crate::plan::cast::CastType;
use crate::plan::config_file;
use crate::plan::out_tensor::{Content, OutShard, OutTensor};
use crate::plan::planner::Planner;
use crate::tensor::size::show_size;

/// The decisions, for an output of these shards.
pub(crate) fn decisions(
    outline: &Outline<'_>,
    shards: &[OutShard],
    (planner, cast): (&Planner<'_>, CastType),
    in_training: Option<PlanNote>,
) -> Vec<PlanNote> {
    let mut decisions: Vec<PlanNote> = in_training.into_iter().collect();
    for addition in &outline.additions {
        let tensor = addition.name.to_string();
        decisions.push(match addition.copy_of {
            Some(from) => {
                let shared = outline.base.catalogue.tensors[from].name.to_string();
                PlanNote::HeadUntied { head: tensor, shared }
            }
            None => PlanNote::TensorAdded { tensor },
        });
    }
    if let Some((base, tokens)) = config_file::vocabulary(outline) {
        decisions.push(PlanNote::VocabularyResized { tokens, base });
    }
    decisions.extend(asked(planner, cast, shards));
    if planner.types.is_some() {
        decisions.push(laid_out(outline, shards));
        return decisions;
    }
    if !outline.weights.any() {
        return decisions;
    }
    if let Some((by, fresh)) = planner.kept_by() {
        let by = by.to_owned();
        let is_any = shards.iter().flat_map(|shard| &shard.tensors).any(OutTensor::is_encoded_again);
        decisions.push(if is_any {
            PlanNote::EncodedAgain { by, fresh }
        } else {
            PlanNote::QuantizedKept { by }
        });
        return decisions;
    }
    let base: u64 = outline.base.catalogue.shards.iter().map(|shard| shard.bytes).sum();
    let output: u64 = shards.iter().map(|shard| shard.bytes).sum();
    let dtype = format!("{:?}", cast.of(outline.float_dtype()));
    let (base, output) = (show_size(base), show_size(output));
    if outline.weights.stand_alone() {
        let is_decoded = |tensor: &&OutTensor| matches!(&tensor.content, Content::Compute { start, .. } if Some(start.encoding()) != encodings::plain(tensor.dtype).map(|plain| plain.name()));
        let count = shards.iter().flat_map(|shard| &shard.tensors).filter(is_decoded).count();
        if count > 0 {
            decisions.push(PlanNote::ChangedDecoded { count, dtype, base, output });
        }
        return decisions;
    }
    decisions.push(PlanNote::BaseDecoded { dtype, base, output });
    let entries = dropped_entries(outline);
    if !entries.is_empty() {
        decisions.push(PlanNote::ConfigEntriesDropped { entries });
    }
    decisions
}

/// The type and the size of shards that flags ask for.
fn asked(planner: &Planner<'_>, cast: CastType, shards: &[OutShard]) -> impl Iterator<Item = PlanNote> {
    let cast = cast.asked().map(|dtype| PlanNote::Cast { dtype: format!("{dtype:?}") });
    let split =
        planner.max_shard_size.map(|size| PlanNote::Split { count: shards.len(), limit: size.bytes() });
    let count = shards.iter().map(|shard| shard.tensors.len()).sum();
    let of = planner.base.catalogue.tensors.len();
    let changed_only = planner.changed_only.then_some(PlanNote::ChangedOnly { count, of });
    cast.into_iter().chain(split).chain(changed_only)
}

/// As what a result is laid out, and the types that its bytes are mostly of.
fn laid_out(outline: &Outline<'_>, shards: &[OutShard]) -> PlanNote {
    let mut types: BTreeMap<String, u64> = BTreeMap::new();
    for tensor in shards.iter().flat_map(|shard| &shard.tensors) {
        *types.entry(format!("{:?}", tensor.dtype)).or_default() += tensor.bytes;
    }
    let most = types.into_iter().max_by_key(|(_, bytes)| *bytes);
    let dtype = most.map_or_else(String::new, |(dtype, _)| dtype);
    let template = outline.base.catalogue.shards.first().map_or_else(String::new, |shard| shard.name.clone());
    PlanNote::LaidOut { template, dtype }
}

/// The entries of `config.json` that said how the base is quantized.
fn dropped_entries(outline: &Outline<'_>) -> Vec<String> {
    let mut entries = Vec::new();
    for text in outline.base.config.text_configs() {
        let present = schemes::config_keys().filter(|key| text.fields.contains_key(*key));
        entries.extend(present.map(|key| text.path_to(key).join(".")));
    }
    entries
}
