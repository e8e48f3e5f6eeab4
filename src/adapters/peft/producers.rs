//! What producers of PEFT files do otherwise than PEFT, as data: the one place where a deviation is known by name.
//!
//! Names are put right before anything looks at them ([`crate::adapters::peft::keys::normalise`]), tensors that no merge needs are ignored
//! by a rule (`aside`), and config fields are judged like any other ([`FIELDS`]). What stands in none of these tables is
//! refused. Deviations in how factors lie are in [`crate::adapters::claim::expert_layout`] (key-mapping.md 10.7).

use crate::adapters::adapter::Unneeded;
use crate::adapters::evidence::Evidence;
use crate::adapters::peft::config::{AdapterConfig, Field, Refused};
use crate::adapters::peft::torchtune;
use crate::error::Result;
use crate::storage::location::Location;
use crate::storage::store::Store;

/// Segments that wrappers of training put into paths; they name no module of any model.
pub(crate) const WRAPPERS: &[&str] = &[
    "_orig_mod",                  // torch.compile
    "_fsdp_wrapped_module",       // FSDP
    "_checkpoint_wrapped_module", // activation checkpointing
    "_forward_module",            // Lightning Fabric
];

/// Segments that wrap a whole model, and so come first only: inside a path they are modules like others.
pub(crate) const OUTER: &[&str] = &["module"];

/// What trainers call their model, where a state is saved from outside of it: only what PEFT wrapped follows. A trainer of two such
/// models has other names for the second, and its keys match nothing.
pub(crate) const HOLDERS: &[&str] = &["model", "llm", "net", "network", "policy", "actor"];

/// Modules that a producer calls by a name that no model has.
pub(crate) const RENAMED: &[(&str, &str)] = &[
    ("model.unembed_tokens", "lm_head"), // Tinker
];

/// A file that NeMo AutoModel writes beside an adapter.
const NEMO_CONFIG: &str = "automodel_peft_config.json";

/// So much of a model card is looked at for tags.
const CARD_BYTES: u64 = 1 << 20;

/// What an adapter's config and the files beside it show of its producer.
///
/// # Errors
/// As [`Location::read_start`].
pub(crate) fn evidence(dir: &Location, config: &AdapterConfig) -> Result<Evidence> {
    let card = dir.read_start("README.md", CARD_BYTES)?.map(|card| card.bytes).unwrap_or_default();
    let card = String::from_utf8_lossy(&card);
    let is_tagged = card.lines().any(|line| line.trim() == "- unsloth");
    Ok(Evidence {
        peft: config.text("peft_version").map(version),
        is_unsloth: is_tagged || is_marked_by_unsloth(config),
        is_nemo: dir.stat(NEMO_CONFIG)?.is_some(),
        is_megatron_bridge: is_of_megatron_bridge(config),
        // Its exports name no version, and cards of others may mention it.
        is_torchtune: config.text("peft_version").is_none()
            && (dir.stat(torchtune::NATIVE)?.is_some()
                || !torchtune::numbered(dir)?.is_empty()
                || card.to_lowercase().contains(torchtune::NAME)
                || config.mentions(torchtune::NAME)),
    })
}

/// Fields that every PEFT writes that knows `target_parameters`, and that Megatron-Bridge leaves out.
const WRITTEN_BY_PEFT: &[&str] = &["layers_to_transform", "loftq_config", "megatron_core", "eva_config"];

/// Signs of Megatron-Bridge, which writes the config by itself: parameters by their full paths, layer by layer, no version,
/// and few fields (its `build_adapter_config_dict`).
fn is_of_megatron_bridge(config: &AdapterConfig) -> bool {
    let parameters = config.list("target_parameters");
    let is_number = |segment: &str| !segment.is_empty() && segment.bytes().all(|c| c.is_ascii_digit());
    let is_full = |path: &&str| {
        // What others list begins at the layers at most, as `7.mlp.experts.down_proj`.
        path.split('.').position(is_number).is_some_and(|at| at > 1)
    };
    let is_by_hand = WRITTEN_BY_PEFT.iter().all(|field| !config.has(field));
    let has_no_modules = config.is_empty_list("target_modules");
    config.text("peft_version").is_none()
        && parameters.iter().any(is_full)
        && parameters.iter().all(is_full)
        && (is_by_hand || has_no_modules)
}

/// `0.19.1.dev0@hash` as three numbers.
fn version(text: &str) -> [u64; 3] {
    let mut parts = text.split(['.', '@', '+']).map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// Signs of Unsloth in a config: a mark of its own, the name of the base.
fn is_marked_by_unsloth(config: &AdapterConfig) -> bool {
    let fixed = config.get("auto_mapping").and_then(|mapping| mapping.get("unsloth_fixed")?.as_bool());
    let base = config.text("base_model_name_or_path").unwrap_or_default().to_lowercase();
    fixed == Some(true) || base.starts_with("unsloth/")
}

const MERGED_LINEAR: &str = "makes ms-swift train parts of a fused layer, which is not merged yet";

/// Fields that producers add to `adapter_config.json`.
pub(crate) const FIELDS: &[(&str, Field)] = &[
    // ms-swift: the type that factors are trained in, and learning rates of LoRA+; then the constants of its `SwiftConfig`.
    ("lora_dtype", Field::Fine),
    ("lorap_lr_ratio", Field::Fine),
    ("lorap_emb_lr", Field::Fine),
    // The names of labels, beside the head that tells them apart.
    ("id2label", Field::Fine),
    ("label2id", Field::Fine),
    (
        "swift_type",
        Field::Only(&["LORA"], "is a method of ms-swift other than LoRA, which is not merged yet"),
    ),
    ("model_key_mapping", Field::Only(&[], "makes ms-swift train modules under other names")),
    ("enable_lora", Field::Only(&[], MERGED_LINEAR)),
    ("use_merged_linear", Field::Only(&[], MERGED_LINEAR)),
    (
        "use_qa_lora",
        Field::Only(&[], "makes ms-swift train QA-LoRA, whose factors see the means of groups of inputs"),
    ),
    // The classes of the model that it was trained on, looked at with the base's.
    ("architectures", Field::Fine),
    // PEFT up to 0.2: whether an `eval()` merges in memory.
    ("merge_weights", Field::Fine),
    (
        "nvfp4_merge_aware",
        Field::Cured(
            &[],
            &[Refused {
                starts: "",
                why: "means that axolotl trained for the merged weights in NVFP4, which no 16-bit merge holds",
                cure: "to quantize the result to NVFP4 with new scales, as training did, merge with this field set to `null` \
                       first",
            }],
        ),
    ),
];

/// Which tensors a rule is for.
enum Which {
    /// Those with this segment in their path.
    Segment(&'static str),
    /// Those whose path ends in these segments.
    End(&'static str),
    /// Those of these roles without elements, and such values.
    Empty(&'static [&'static str]),
}

/// Tensors that a merge does not need, and why.
const ASIDE: &[(Which, Unneeded)] = &[
    (Which::Segment("original_module"), Unneeded::FrozenCopy),
    (Which::End("rotary_emb.inv_freq"), Unneeded::Computed),
    // Tinker's, for projections that a model does not have. What the base has is missing: `promises::empty` refuses it.
    (Which::Empty(&["lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"]), Unneeded::Empty),
];

/// Why a tensor is ignored, if it is: its path, whether it stands in place of a parameter, and how many elements it has.
pub(crate) fn aside(path: &str, is_value: bool, elements: u64) -> Option<Unneeded> {
    let is_one = |which: &Which| match which {
        Which::Segment(segment) => path.split('.').any(|other| other == *segment),
        Which::End(end) => path == *end || path.strip_suffix(end).is_some_and(|rest| rest.ends_with('.')),
        Which::Empty(roles) => {
            elements == 0 && (is_value || path.split('.').any(|other| roles.contains(&other)))
        }
    };
    ASIDE.iter().find(|(which, _)| is_one(which)).map(|(_, rule)| *rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_without_what_follows() {
        assert_eq!(version("0.19.1.dev0@abc"), [0, 19, 1]);
        assert_eq!(version("0.20"), [0, 20, 0]);
        assert!(version("0.18.1") < [0, 19, 0]);
    }

    #[test]
    fn only_what_a_rule_names_is_left_aside() {
        for (path, elements, is_aside) in [
            ("score.original_module.weight", 8, true),
            ("model.layers.0.self_attn.rotary_emb.inv_freq", 8, true),
            ("rotary_emb.inv_freq", 8, true),
            ("model.my_rotary_emb.inv_freq", 8, false),
            ("model.layers.0.mlp.experts.w3.lora_A.weight", 0, true),
            ("model.layers.0.mlp.experts.w3.lora_A.weight", 8, false),
            ("model.layers.0.self_attn.q_proj.oft_R.weight", 0, false),
            ("v_head.summary.weight", 8, false),
        ] {
            assert_eq!(aside(path, false, elements).is_some(), is_aside, "{path}");
        }
        assert!(aside("lm_head.weight", true, 0).is_some() && aside("lm_head.weight", true, 8).is_none());
    }
}
