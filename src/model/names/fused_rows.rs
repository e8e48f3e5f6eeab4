//! Dense projections that some models hold fused and others apart: which rows of the fused tensor each one is.
//!
//! Which they are is data, `fused_rows.txt` beside this file, and describes itself there.

use std::sync::OnceLock;

use crate::checkpoint::one_file::joined;
use crate::error::conversion::RowsProblem;
use crate::model::names::geometry::Geometry;

static TABLE: &str = include_str!("fused_rows.txt");

/// A fused projection and its parts.
#[derive(Debug)]
struct FusedProjection {
    /// Models that hold it fused.
    model_types: Vec<&'static str>,
    whole: &'static str,
    /// The field that says in how many groups its rows are; none if in one.
    groups: Option<&'static str>,
    /// In the order of rows.
    parts: Vec<PartRows>,
}

/// A part of a fused projection.
#[derive(Debug)]
struct PartRows {
    /// None for rows that nothing has a name for.
    name: Option<&'static str>,
    /// What its number of rows is the product of.
    rows: Vec<&'static str>,
}

/// All lines of the table.
fn table() -> &'static [FusedProjection] {
    static ALL: OnceLock<Vec<FusedProjection>> = OnceLock::new();
    ALL.get_or_init(|| {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| parsed(line).expect("a line of our own table")).collect()
    })
}

fn parsed(line: &'static str) -> Option<FusedProjection> {
    let named = |word: &'static str| (word != "-").then_some(word);
    let mut fields = line.split(" | ");
    let model_types = fields.next()?.split(' ').collect();
    let (whole, groups) = (fields.next()?, named(fields.next()?));
    let part = |text: &'static str| {
        let (name, rows) = text.split_once(' ')?;
        Some(PartRows { name: named(name), rows: rows.split('*').collect() })
    };
    let parts = fields.next()?.split(", ").map(part).collect::<Option<_>>()?;
    fields.next().is_none().then_some(FusedProjection { model_types, whole, groups, parts })
}

/// A part of a fused projection, in a model of known sizes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PartOfFused {
    /// Runtime path of the fused module.
    pub whole: String,
    /// Where its rows are; why that is not known, if it is not.
    pub place: Result<RowRuns, RowsProblem>,
}

/// Rows of a fused projection that are a part of it: runs at equal distances, one in each group.
///
/// The number of groups is the config's: nothing may be made for each of them before the tensor was seen to have the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowRuns {
    /// First row of the first run; the part's own rows are the runs one after the other.
    pub first: u64,
    /// Rows of one run.
    pub run: u64,
    /// Rows from the start of one run to the start of the next.
    pub group: u64,
    /// Number of runs.
    pub groups: u64,
}

impl RowRuns {
    /// Rows of the whole; a product that was seen to fit.
    pub(crate) fn rows_of_whole(self) -> u64 {
        self.group * self.groups
    }

    /// The first row of each run.
    pub(crate) fn starts(self) -> impl Iterator<Item = u64> {
        (0..self.groups).map(move |i| i * self.group + self.first)
    }
}

/// The fused module, in models that have one, that the module at `path` is a part of.
pub(crate) fn part(path: &str, geometry: &Geometry) -> Option<PartOfFused> {
    let (parent, leaf) = path.rsplit_once('.')?;
    let of_model = table().iter().filter(|fused| geometry.is_one_of(&fused.model_types));
    let mut found =
        of_model.filter_map(|fused| Some((fused, fused.parts.iter().position(|p| p.name == Some(leaf))?)));
    let (fused, at) = found.next()?;
    Some(PartOfFused { whole: format!("{parent}.{}", fused.whole), place: place(fused, at, geometry) })
}

/// The modules, in the order of rows, that the fused module at `path` would be made of.
pub(crate) fn parts(path: &str) -> Option<Vec<String>> {
    if let Some(parts) = joined::parts(path) {
        return Some(parts);
    }
    let (parent, leaf) = path.rsplit_once('.')?;
    let mut named = table().iter().filter(|fused| fused.whole == leaf && fused.groups.is_none());
    let names = named.next()?.parts.iter().map(|part| Some(format!("{parent}.{}", part.name?)));
    names.collect()
}

/// Where the part number `at` is.
fn place(fused: &FusedProjection, at: usize, geometry: &Geometry) -> Result<RowRuns, RowsProblem> {
    let number = |factor: &&str| {
        let number = factor.parse().ok().or_else(|| geometry.number(factor)).filter(|&number| number > 0);
        number.ok_or_else(|| RowsProblem::NoSize { field: (*factor).to_owned() })
    };
    let product = |factors: &[&str]| {
        factors
            .iter()
            .try_fold(1u64, |rows, factor| rows.checked_mul(number(factor)?).ok_or(RowsProblem::TooMany))
    };
    let groups = fused.groups.map_or(Ok(1), |field| number(&field))?;
    let in_group = |part: &PartRows| {
        let rows = product(&part.rows)?;
        let divides = rows.is_multiple_of(groups);
        divides.then_some(rows / groups).ok_or(RowsProblem::UnequalGroups { rows, groups })
    };
    let sizes = fused.parts.iter().map(in_group).collect::<Result<Vec<u64>, RowsProblem>>()?;
    let sum = |sizes: &[u64]| sizes.iter().try_fold(0u64, |sum, &size| sum.checked_add(size));
    let (group, first) = sum(&sizes).zip(sum(&sizes[..at])).ok_or(RowsProblem::TooMany)?;
    group.checked_mul(groups).ok_or(RowsProblem::TooMany)?;
    Ok(RowRuns { first, run: sizes[at], group, groups })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::Config;

    fn geometry(config: serde_json::Value) -> Geometry {
        Geometry::of(&Config::from(config))
    }

    fn place_of(path: &str, geometry: &Geometry) -> (String, RowRuns) {
        let part = part(path, geometry).expect("a part");
        (part.whole, part.place.expect("known sizes"))
    }

    #[test]
    fn every_line_is_read() {
        let lines = TABLE.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(table().len(), lines);
        assert!(table().iter().all(|fused| fused.parts.len() > 1 && !fused.whole.contains(' ')));
    }

    #[test]
    fn rows_of_phi3() {
        let phi3 = geometry(serde_json::json!({
            "model_type": "phi3", "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2,
            "intermediate_size": 20,
        }));
        let rows = RowRuns { first: 48, run: 16, group: 64, groups: 1 };
        let v = ("model.layers.0.self_attn.qkv_proj".to_owned(), rows);
        assert_eq!(place_of("model.layers.0.self_attn.v_proj", &phi3), v);
        let (_, up) = place_of("model.layers.0.mlp.up_proj", &phi3);
        assert_eq!((up.first, up.run, up.rows_of_whole()), (20, 20, 40));
        assert!(part("model.layers.0.mlp.down_proj", &phi3).is_none());
        assert!(part("model.layers.0.mlp.up_proj", &Geometry::default()).is_none());
        assert_eq!(parts("a.qkv_proj").expect("fused"), ["a.q_proj", "a.k_proj", "a.v_proj"]);
    }

    #[test]
    fn rows_in_groups() {
        let sizes = serde_json::json!({
            "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 3,
            "linear_value_head_dim": 5,
        });
        let of = |model_type: &str| {
            let mut text = sizes.clone();
            text["model_type"] = model_type.into();
            geometry(serde_json::json!({"text_config": text}))
        };
        // A group has 3 rows of queries, 3 of keys, and of values and gates those of two heads.
        let (_, v) = place_of("m.in_proj_v", &of("qwen3_next"));
        assert_eq!((v.starts().collect::<Vec<_>>(), v.run, v.rows_of_whole()), (vec![6, 32], 10, 52));
        let (whole, a) = place_of("m.in_proj_a", &of("qwen3_next"));
        assert_eq!((whole.as_str(), a), ("m.in_proj_ba", RowRuns { first: 2, run: 2, group: 4, groups: 2 }));
        let (_, v) = place_of("m.in_proj_v", &of("qwen3_5_text"));
        assert_eq!(v, RowRuns { first: 12, run: 20, group: 32, groups: 1 });
        assert!(part("m.in_proj_z", &of("qwen3_5_text")).is_none(), "it is a tensor of its own there");
        assert!(parts("m.in_proj_qkvz").is_none(), "its parts are not one after the other");
    }

    #[test]
    fn sizes_that_do_not_tell() {
        let of = |groups: u64, heads: u64| {
            geometry(serde_json::json!({
                "model_type": "qwen3_next", "linear_num_key_heads": groups, "linear_num_value_heads": heads,
                "linear_key_head_dim": 1, "linear_value_head_dim": u64::MAX,
            }))
        };
        let why = |path: &str, geometry: &Geometry| {
            part(path, geometry).expect("a part").place.expect_err("no").to_string()
        };
        assert_eq!(why("m.in_proj_b", &of(2, 3)), "3 rows are not 2 equal groups");
        assert!(
            why("m.in_proj_b", &of(0, 3)).starts_with("the config gives no `linear_num_key_heads` above")
        );
        assert!(why("m.in_proj_z", &of(2, 4)).contains("more rows than a tensor"));
        let nemotron = geometry(serde_json::json!({"model_type": "nemotron_h"}));
        assert!(why("m.x_proj", &nemotron).contains("`mamba_num_heads`"));
        assert!(parts("m.in_proj").is_none(), "some of its rows have no name");
    }

    #[test]
    fn fused_in_memory_only() {
        for (whole, expected) in [
            ("attn1.to_qkv", &["attn1.to_q", "attn1.to_k", "attn1.to_v"][..]),
            ("attn2.to_kv", &["attn2.to_k", "attn2.to_v"]),
            ("attn.to_added_qkv", &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
            ("attn.to_added_kv", &["attn.add_k_proj", "attn.add_v_proj"]),
        ] {
            assert_eq!(parts(whole).expect("fused"), expected, "{whole}");
        }
        assert!(part("attn1.to_q", &Geometry::default()).is_none(), "no checkpoint has them fused");
    }
}
