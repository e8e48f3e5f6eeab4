//! Projections that image models hold apart and that are one in memory after `fuse_qkv_projections` of diffusers, in what some trainers adapt,
//! or in the code that a model was first trained by: the parts in the order of their rows.
//!
//! Source: diffusers `models/attention_processor.py`, `loaders/lora_conversion_utils.py`, `loaders/single_file_utils.py`.

/// The names of joined projections, and those of their parts beside them.
const JOINED: &[(&str, &[&str])] = &[
    ("to_qkv", &["to_q", "to_k", "to_v"]),
    ("to_kv", &["to_k", "to_v"]),
    ("to_added_qkv", &["add_q_proj", "add_k_proj", "add_v_proj"]),
    ("to_added_kv", &["add_k_proj", "add_v_proj"]),
    ("qkv_mlp", &["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"]),
];

/// The modules, in the order of rows, that the joined module at `path` would be made of.
pub(crate) fn parts(path: &str) -> Option<Vec<String>> {
    let (parent, leaf) = path.rsplit_once('.')?;
    let (_, parts) = JOINED.iter().find(|(whole, _)| *whole == leaf)?;
    Some(parts.iter().map(|part| format!("{parent}.{part}")).collect())
}
