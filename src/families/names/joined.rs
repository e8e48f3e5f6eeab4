//! Dense projections that some models hold joined and others apart: which rows of the joined tensor each one is.

use super::geometry::Geometry;

/// Rows of one projection.
#[derive(Clone, Copy, Debug)]
enum Rows {
    Queries,
    KeysOrValues,
    Intermediate,
}

/// A joined projection and its parts, in the order of rows.
struct Joined {
    /// Models that hold it joined on disk.
    model_types: &'static [&'static str],
    whole: &'static str,
    parts: &'static [(&'static str, Rows)],
}

const QKV: &[(&str, Rows)] =
    &[("q_proj", Rows::Queries), ("k_proj", Rows::KeysOrValues), ("v_proj", Rows::KeysOrValues)];
const GATE_UP: &[(&str, Rows)] = &[("gate_proj", Rows::Intermediate), ("up_proj", Rows::Intermediate)];

/// What diffusers' `fuse_qkv_projections` makes of projections that lie apart on disk.
const DIFFUSERS_QKV: &[(&str, Rows)] =
    &[("to_q", Rows::Queries), ("to_k", Rows::KeysOrValues), ("to_v", Rows::KeysOrValues)];
const DIFFUSERS_KV: &[(&str, Rows)] = &[("to_k", Rows::KeysOrValues), ("to_v", Rows::KeysOrValues)];
const DIFFUSERS_ADDED_QKV: &[(&str, Rows)] =
    &[("add_q_proj", Rows::Queries), ("add_k_proj", Rows::KeysOrValues), ("add_v_proj", Rows::KeysOrValues)];
const DIFFUSERS_ADDED_KV: &[(&str, Rows)] =
    &[("add_k_proj", Rows::KeysOrValues), ("add_v_proj", Rows::KeysOrValues)];

/// All that are known. Models whose rows alternate by head (BLOOM, GPT-NeoX, Falcon) have no such ranges.
const JOINED: &[Joined] = &[
    Joined { model_types: &["phi3", "phi4_multimodal"], whole: "qkv_proj", parts: QKV },
    Joined {
        model_types: &["phi3", "phi4_multimodal", "glm", "glm4"],
        whole: "gate_up_proj",
        parts: GATE_UP,
    },
    Joined { model_types: &[], whole: "to_qkv", parts: DIFFUSERS_QKV },
    Joined { model_types: &[], whole: "to_kv", parts: DIFFUSERS_KV },
    Joined { model_types: &[], whole: "to_added_qkv", parts: DIFFUSERS_ADDED_QKV },
    Joined { model_types: &[], whole: "to_added_kv", parts: DIFFUSERS_ADDED_KV },
];

/// A part of a joined projection.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// Runtime path of the joined module.
    pub whole: String,
    /// First row.
    pub start: u64,
    /// Number of rows.
    pub rows: u64,
    /// Rows of the whole.
    pub of: u64,
}

/// The joined module, in models that have one, that the module at `path` is a part of.
pub fn part(path: &str, geometry: &Geometry) -> Option<Part> {
    let (parent, leaf) = path.rsplit_once('.')?;
    let of_model = JOINED.iter().filter(|joined| geometry.is_one_of(joined.model_types));
    for joined in of_model {
        let Some(at) = joined.parts.iter().position(|(part, _)| *part == leaf) else { continue };
        let sizes: Vec<u64> =
            joined.parts.iter().map(|&(_, rows)| size(rows, geometry)).collect::<Option<_>>()?;
        let (start, of) = (sizes[..at].iter().sum(), sizes.iter().sum());
        return Some(Part { whole: format!("{parent}.{}", joined.whole), start, rows: sizes[at], of });
    }
    None
}

/// The modules, in the order of rows, that the joined module at `path` would be made of.
pub fn parts(path: &str) -> Option<Vec<String>> {
    let (parent, leaf) = path.rsplit_once('.')?;
    let joined = JOINED.iter().find(|joined| joined.whole == leaf)?;
    Some(joined.parts.iter().map(|(part, _)| format!("{parent}.{part}")).collect())
}

fn size(rows: Rows, geometry: &Geometry) -> Option<u64> {
    match rows {
        Rows::Queries => Some(geometry.attention()?[0]),
        Rows::KeysOrValues => Some(geometry.attention()?[1]),
        Rows::Intermediate => geometry.intermediate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Config;

    #[test]
    fn rows_of_phi3() {
        let config = serde_json::json!({
            "model_type": "phi3", "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
            "intermediate_size": 20,
        });
        let geometry = Geometry::of(&Config(config));
        let v = part("model.layers.0.self_attn.v_proj", &geometry).expect("joined");
        assert_eq!(
            (v.whole.as_str(), v.start, v.rows, v.of),
            ("model.layers.0.self_attn.qkv_proj", 48, 16, 64)
        );
        let up = part("model.layers.0.mlp.up_proj", &geometry).expect("joined");
        assert_eq!((up.start, up.rows), (20, 20));
        assert!(part("model.layers.0.mlp.down_proj", &geometry).is_none());
        assert!(part("model.layers.0.mlp.up_proj", &Geometry::default()).is_none());
        assert_eq!(parts("a.qkv_proj").expect("joined"), ["a.q_proj", "a.k_proj", "a.v_proj"]);
    }

    #[test]
    fn fused_in_memory_only() {
        for (whole, expected) in [
            ("attn1.to_qkv", &["attn1.to_q", "attn1.to_k", "attn1.to_v"][..]),
            ("attn2.to_kv", &["attn2.to_k", "attn2.to_v"]),
            ("attn.to_added_qkv", &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
            ("attn.to_added_kv", &["attn.add_k_proj", "attn.add_v_proj"]),
        ] {
            assert_eq!(parts(whole).expect("joined"), expected, "{whole}");
        }
        assert!(part("attn1.to_q", &Geometry::default()).is_none(), "no checkpoint has them joined");
    }
}
