//! Reasons to refuse an adapter that no single tensor shows: its type, its config, its contents, its base.

use crate::adapters::adapter::{Adapter, AdapterTensor};
use crate::adapters::claim::claims::CLAIMS;
use crate::adapters::peft::config::Field;
use crate::adapters::peft::producers;
use crate::adapters::scan::Contents;
use crate::checkpoint::catalogue::{BaseTensor, Catalogue, FileLayout};
use crate::checkpoint::llama_cpp::stored_name;
use crate::encodings::{runtime_scales, schemes};
use crate::error::Error;
use crate::error::adapter::AdapterError;
use crate::error::claim::ClaimError;
use crate::error::plan::PlanError;
use crate::error::quantized::QuantizedProblem;
use crate::model::heads::{is_embedding, is_head};
use crate::tensor::name::Name;

use crate::model::outline::{Addition, Outline, Target};

/// Fields that any adapter's config may have and that no merge depends on, or that only select modules.
const COMMON: &[(&str, Field)] = &[
    ("peft_type", Field::Fine),
    ("peft_version", Field::Fine),
    ("base_model_name_or_path", Field::Fine),
    ("revision", Field::Fine),
    ("task_type", Field::Fine),
    ("inference_mode", Field::Fine),
    ("auto_mapping", Field::Fine),
    ("runtime_config", Field::Fine),
    ("target_modules", Field::Fine),
    ("exclude_modules", Field::Fine),
    ("layers_to_transform", Field::Fine),
    ("layers_pattern", Field::Fine),
    ("modules_to_save", Field::Fine),
];

const NO_WEIGHTS: &str = "adds inputs and changes no weights: there is nothing to merge";
const BY_INPUT: &str = "depends on the input and cannot be merged";
const BY_SIGNS: &str = "turns singular vectors of the base into each other, by signs that they had where it was trained, which no file holds";
const KEEP: &str = "merge it with PEFT, on a host that holds the model";

/// Types that are not merged: why, and what helps where something does.
const UNMERGED: &[(&str, &str, Option<&str>)] = &[
    ("PROMPT_TUNING", NO_WEIGHTS, None),
    ("MULTITASK_PROMPT_TUNING", NO_WEIGHTS, None),
    ("P_TUNING", NO_WEIGHTS, None),
    ("PREFIX_TUNING", NO_WEIGHTS, None),
    ("ADAPTION_PROMPT", NO_WEIGHTS, None),
    ("CPT", NO_WEIGHTS, None),
    ("CARTRIDGE", NO_WEIGHTS, None),
    ("XLORA", BY_INPUT, Some("its experts are LoRAs by themselves: merge one at a time")),
    ("POLY", BY_INPUT, None),
    ("LILY", BY_INPUT, None),
    ("SHADOW", BY_INPUT, None),
    ("PSOFT", BY_SIGNS, Some("convert it with PEFT's `save_as_lora`, which writes a plain LoRA")),
    (
        "ADAMSS",
        "changes rows that it does not name: PEFT finds them by a clustering that no file holds",
        Some(KEEP),
    ),
    (
        "BONE",
        "was renamed and changed: no PEFT reads it any more",
        Some("train it again as MISS, or merge it with the PEFT that made it"),
    ),
];

/// Every field and the type, as far as they are not merged.
pub(crate) fn check_config(adapter: &Adapter, ignored: &[String]) -> Vec<Error> {
    let found = adapter.kind.as_str();
    let rules = CLAIMS.iter().filter(|claim| claim.peft_types().contains(&found));
    let mut known: Vec<(&str, Field)> = [COMMON, producers::FIELDS].concat();
    let mut is_known = false;
    for claim in rules {
        known.extend_from_slice(claim.fields());
        is_known = true;
    }
    if is_known {
        let mut refused = adapter.config.refused(&known, ignored);
        refused.extend(adapter.options.refused());
        return refused;
    }
    let row = UNMERGED.iter().find(|(kind, ..)| *kind == found);
    let (why, cure) = row.map_or(("is not supported yet", None), |(_, why, cure)| (*why, *cure));
    let kind = AdapterError::PeftType { adapter: adapter.name.clone(), found: found.to_owned(), why };
    vec![Error::new(kind).hint(cure.map_or_else(merged_types, str::to_owned))]
}

/// What is said of a type that is not merged, where nothing else helps.
fn merged_types() -> String {
    let mut types: Vec<&str> = CLAIMS.iter().flat_map(|claim| claim.peft_types()).copied().collect();
    types.sort_unstable();
    types.dedup();
    format!("shardfold merges {}", types.join(", "))
}

/// Tensors that are not finite.
pub(crate) fn check_contents(adapter: &Adapter, contents: &Contents) -> Vec<Error> {
    let tensors = adapter.tensors.iter().zip(&contents.tensors).filter(|(_, contents)| !contents.finite);
    let error = |(tensor, _): (&AdapterTensor, _)| {
        let (adapter, key) = (adapter.name.clone(), tensor.key.to_string());
        AdapterError::NonFiniteFactor { adapter, key }.into()
    };
    tensors.map(error).collect()
}

/// Embedding and head must have one number of tokens, unless the model has the head of another task and no use for this.
pub(crate) fn check_vocabulary(outline: &Outline<'_>) -> Vec<Error> {
    let of_tokens = |name: &str| is_embedding(name) || is_head(name);
    if !outline.resized().any(|(target, _)| of_tokens(&outline.weight(target).name))
        || outline.has_other_head()
    {
        return Vec::new();
    }
    let base = (0..outline.base.catalogue.tensors.len()).map(Target::Base);
    let all = base.chain((0..outline.additions.len()).map(Target::New)).map(|target| outline.weight(target));
    let of_vocabulary = all.filter(|weight| of_tokens(&weight.name));
    let sizes: Vec<(Name, u64)> = of_vocabulary
        .map(|weight| (weight.name, weight.shape.axes().first().copied().unwrap_or(0)))
        .collect();
    let Some((first, first_rows)) = sizes.first().cloned() else { return Vec::new() };
    let others = sizes.into_iter().filter(|(_, rows)| *rows != first_rows);
    let error = |(second, second_rows): (Name, u64)| {
        let first = first.to_string();
        Error::new(PlanError::Vocabulary { first, first_rows, second: second.to_string(), second_rows })
            .hint(
                "the adapter resized one of the two and does not hold the other: save it with `save_embedding_layers=True`. \
                 (Where only one of them is adapted, PEFT omits the other all the same; it must be in `modules_to_save`.)",
            )
    };
    others.map(error).collect()
}

/// What an adapter changes that its file holds in a form of its own, or that its header would have to follow.
pub(crate) fn check_stored(outline: &Outline<'_>, is_touched: impl Fn(Target) -> bool) -> Vec<Error> {
    let catalogue = &outline.base.catalogue;
    if catalogue.layout() != FileLayout::LlamaCpp {
        return Vec::new();
    }
    let shifted = (0..catalogue.tensors.len()).filter(|&place| {
        catalogue.stored(place).is_some_and(|stored| stored.is_shifted) && is_touched(Target::Base(place))
    });
    let shifted = shifted.map(|place| (Target::Base(place), "1 is added to its values there"));
    let resized =
        outline.resized().map(|(target, _)| (target, "the tokens that its rows are for stand in the header"));
    let is_new = |(_, addition): &(usize, &Addition)| stored_name(&addition.name).is_none();
    let new = outline.additions.iter().enumerate().filter(is_new);
    let new = new.map(|(i, _)| (Target::New(i), "llama.cpp has no name for it"));
    let is_scaled =
        |&(place, _): &(usize, &BaseTensor)| is_touched(Target::Base(place)) && is_scaled(catalogue, place);
    let scaled = catalogue.tensors.iter().enumerate().filter(is_scaled);
    let scaled =
        scaled.map(|(place, _)| (Target::Base(place), "its `.scale` multiplies it, which is not read yet"));
    let error = |(target, why): (Target, &'static str)| {
        let tensor = outline.weight(target).name.to_string();
        Error::new(PlanError::OfHeader { tensor, why })
            .hint("merge into the checkpoint that the file was converted from, and convert the result")
    };
    shifted.chain(scaled).chain(resized).chain(new).map(error).collect()
}

/// Whether a tensor has a scale beside it, as weights of NVFP4 have, which llama.cpp multiplies what comes of it with.
fn is_scaled(catalogue: &Catalogue, place: usize) -> bool {
    let name = catalogue.tensors[place].name.strip_suffix(".weight");
    name.is_some_and(|stem| catalogue.find(&format!("{stem}.scale")).is_some())
}

/// What only the description of a quantization explains, in a base whose data is decoded: the description goes, so that
/// nothing may be left that needs it.
pub(crate) fn check_encodings(outline: &Outline<'_>) -> Vec<Error> {
    if !outline.weights.any() {
        return Vec::new();
    }
    let tensors = outline.base.catalogue.tensors.iter().enumerate();
    let error = |(i, tensor): (usize, &BaseTensor)| {
        let why = left_over(outline, i, tensor)?;
        let kind = ClaimError::Quantized { tensor: tensor.name.to_string(), why };
        Some(Error::new(kind).hint("`--keep-quantized` copies quantized tensors that no adapter changes"))
    };
    tensors.filter_map(error).collect()
}

/// Weights that can be decoded and are not to be trusted, as far as they are.
pub(crate) fn check_dubious(outline: &Outline<'_>, is_decoded: impl Fn(usize) -> bool) -> Vec<Error> {
    let error = |(place, why): (usize, &QuantizedProblem)| {
        let tensor = outline.weight(Target::Base(place)).name.to_string();
        Error::new(ClaimError::Quantized { tensor, why: why.clone() }).hint(
            "merge into the 16-bit checkpoint that this base was made from: what these weights mean cannot be told",
        )
    };
    outline.weights.dubious().filter(|(place, _)| is_decoded(*place)).map(error).collect()
}

/// Why a tensor would mean nothing in a base that is decoded, if it would not.
fn left_over(outline: &Outline<'_>, i: usize, tensor: &BaseTensor) -> Option<QuantizedProblem> {
    if let Some(data) = outline.weights.unread(i) {
        return Some(QuantizedProblem::UnreadData { titles: data.titles() });
    }
    if outline.weights.get(i).is_some() || outline.weights.is_beside_unread(i) {
        return None;
    }
    // Tensors of such a file say by themselves what they are, and none is decoded but what changes.
    if outline.base.catalogue.layout() == FileLayout::LlamaCpp {
        return None;
    }
    if schemes::is_data(&tensor.name) {
        let titles = schemes::titles(&schemes::of_data_name(&tensor.name));
        return Some(QuantizedProblem::UnreadName { titles, dtype: tensor.tensor.dtype });
    }
    let is_one = schemes::is_auxiliary(&tensor.name) || runtime_scales::is_named(&tensor.name);
    is_one.then_some(QuantizedProblem::LeftOver)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_field_that_peft_has_is_honored_or_refused() {
        let text = include_str!("../../fixtures/methods/fields.json");
        let all: BTreeMap<String, Vec<String>> = serde_json::from_str(text).expect("lists of fields");
        let mut unknown = Vec::new();
        for (kind, fields) in &all {
            let rules = CLAIMS.iter().filter(|claim| claim.peft_types().contains(&kind.as_str()));
            let known: Vec<&str> =
                rules.clone().flat_map(|claim| claim.fields()).map(|(field, _)| *field).collect();
            if rules.count() == 0 {
                let is_said = UNMERGED.iter().any(|(unmerged, ..)| unmerged == kind);
                unknown.extend((!is_said).then(|| kind.clone()));
                continue;
            }
            let is_common = |field: &str| COMMON.iter().any(|(common, _)| *common == field);
            let unread = fields.iter().filter(|field| !known.contains(&field.as_str()) && !is_common(field));
            unknown.extend(unread.map(|field| format!("{kind}: {field}")));
        }
        assert!(all.len() > 40 && unknown.is_empty(), "{unknown:?}");
    }
}
