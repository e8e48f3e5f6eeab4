//! Questions about all schemes of quantization: whose data a name is, what belongs to it, which keys and files are theirs.
//!
//! The file of an encoding owns the facts of its scheme and gives them as [`Encoding::scheme`]; schemes that are known and
//! refused are rows of [`unsupported`]. Whoever needs a fact about any scheme asks here.
//!
//! [`Encoding::scheme`]: crate::encodings::encoding::Encoding::scheme

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::LazyLock;

use crate::encodings::endings::Endings;
use crate::encodings::scheme::{ANY_ENDING, Auxiliary, Scheme};
use crate::encodings::{ENCODINGS, unsupported};

/// Keys under which configs keep the description of their quantization, whatever the scheme; the second is MLX's, the third
/// that of old checkpoints of compressed-tensors.
pub(crate) const QUANTIZATION: &[&str] = &["quantization_config", "quantization", "compression_config"];

/// Every scheme that is known: those that are read, then those that are not.
pub(crate) fn schemes() -> impl Iterator<Item = &'static Scheme> {
    ENCODINGS.iter().filter_map(|encoding| encoding.scheme()).chain(unsupported::SCHEMES)
}

/// Every key of a config that describes quantization.
pub(crate) fn config_keys() -> impl Iterator<Item = &'static str> {
    QUANTIZATION.iter().chain(schemes().flat_map(|scheme| scheme.config_keys)).copied()
}

/// Every key of `quantization_config` that lists modules which stay plain.
pub(crate) fn plain_lists() -> Vec<&'static str> {
    unique(schemes().flat_map(|scheme| scheme.plain_lists).copied())
}

/// Whether only quantized checkpoints have a file of that name.
pub(crate) fn is_side_file(name: &str) -> bool {
    schemes().any(|scheme| scheme.side_files.contains(&name))
}

/// Whether a model of that name is published as a quantized build.
pub(crate) fn is_quantized_build(name: &str) -> bool {
    let name = name.to_lowercase();
    schemes().flat_map(|scheme| scheme.builds).any(|end| name.ends_with(end))
}

/// The schemes whose quantized data has such a name, where it is not called as the weight is.
pub(crate) fn of_data_name(name: &str) -> Vec<&'static Scheme> {
    schemes().filter(|scheme| scheme.data.iter().any(|end| name.ends_with(end))).collect()
}

/// Names that the quantized data of a weight may have, where it is not called as the weight is.
pub(crate) fn data_names(weight: &str) -> Vec<String> {
    let ends = unique(schemes().flat_map(|scheme| scheme.data).copied());
    ends.into_iter().map(|end| replaced(weight, end)).collect()
}

/// Endings of quantized data that tensors of plain models have too.
const COMMON_DATA: &[&str] = &["_blocks", ".codes", ".indices", ".compressed", ".dense_weights"];

/// Whether only quantized data has such a name, whatever its type.
pub(crate) fn is_data(name: &str) -> bool {
    static OWN: LazyLock<Endings> = LazyLock::new(|| {
        Endings::of(
            schemes().flat_map(|scheme| scheme.data).copied().filter(|end| !COMMON_DATA.contains(end)),
        )
    });
    OWN.has(name)
}

/// Endings of auxiliary tensors that tensors of plain models have too, so that they mean something beside quantized data only.
const COMMON: &[&str] = &[".scale", ".scales", ".biases", ".shape", ".meta", "_scale", "_scales", ANY_ENDING];

/// Endings of auxiliary tensors that nothing but a quantized weight has.
fn unmistakable() -> impl Iterator<Item = &'static Auxiliary> {
    schemes().flat_map(|scheme| scheme.auxiliary).filter(|auxiliary| !COMMON.contains(&auxiliary.ending))
}

/// The auxiliary tensors that nothing but a quantized weight has, and that a checkpoint may have by the endings of its names.
pub(crate) fn possible_auxiliary(may_end: impl Fn(&str) -> bool) -> Vec<&'static Auxiliary> {
    unmistakable().filter(|auxiliary| may_end(auxiliary.ending)).collect()
}

/// What `possible` auxiliary tensors of a weight are called.
pub(crate) fn auxiliary_names(weight: &str, possible: &[&Auxiliary]) -> Vec<String> {
    let mut names: Vec<String> = possible.iter().flat_map(|auxiliary| auxiliary.names(weight)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether only an auxiliary tensor has such a name, whether or not its data is there.
pub(crate) fn is_auxiliary(name: &str) -> bool {
    static UNMISTAKABLE: LazyLock<Endings> =
        LazyLock::new(|| Endings::of(unmistakable().map(|auxiliary| auxiliary.ending)));
    UNMISTAKABLE.has(name)
}

/// The schemes that a `quant_method` may mean, those that `algorithm` (`quant_algo`) names where it names any.
pub(crate) fn of_method(method: Option<&str>, algorithm: Option<&str>) -> Vec<&'static Scheme> {
    let has = |names: &[&str], name: Option<&str>| name.is_none_or(|name| names.contains(&name));
    let is_known = algorithm.filter(|name| schemes().any(|scheme| scheme.algorithms.contains(name)));
    let is_one = |scheme: &&Scheme| has(scheme.methods, method) && has(scheme.algorithms, is_known);
    if method.is_none() && is_known.is_none() { Vec::new() } else { schemes().filter(is_one).collect() }
}

/// The titles of schemes, each once.
pub(crate) fn titles(schemes: &[&'static Scheme]) -> String {
    unique(schemes.iter().map(|scheme| scheme.title)).join(" or ")
}

/// Whether two schemes are one: a scheme may have several encodings.
pub(crate) fn is_same(one: &Scheme, other: &Scheme) -> bool {
    one.title == other.title
}

/// The files beside the weights that only quantized checkpoints have, each once.
pub(crate) fn side_files() -> Vec<&'static str> {
    unique(schemes().flat_map(|scheme| scheme.side_files).copied())
}

/// The schemes whose checkpoints have a file of that name.
pub(crate) fn of_side_file(name: &str) -> Vec<&'static Scheme> {
    schemes().filter(|scheme| scheme.side_files.contains(&name)).collect()
}

/// Quantized data that a tensor may belong to.
#[derive(Debug)]
pub(crate) struct DataName<'n> {
    stem: &'n str,
    end: &'static str,
    /// The scheme by which it does.
    pub scheme: &'static Scheme,
}

impl DataName<'_> {
    /// Its name.
    pub(crate) fn name(&self) -> String {
        [self.stem, self.end].concat()
    }

    /// Whether it is called so.
    pub(crate) fn is(&self, name: &str) -> bool {
        name.strip_prefix(self.stem) == Some(self.end)
    }
}

/// Whether all that stands beside data of that name belongs to it, whatever it is called.
fn owns_all_beside(name: &str) -> bool {
    static OWNERS: LazyLock<Endings> = LazyLock::new(|| {
        let rows = schemes().flat_map(|scheme| scheme.auxiliary).filter(|row| row.ending == ANY_ENDING);
        Endings::of(rows.flat_map(|row| row.data).copied())
    });
    OWNERS.has(name)
}

/// The rows of all schemes by the last segment of a name. Of the names of a checkpoint there may be 92,000, of their last
/// segments there are a few.
pub(crate) struct AuxiliaryRows<'n> {
    by_leaf: HashMap<&'n str, Vec<(&'static Scheme, &'static Auxiliary)>>,
    has_owner: bool,
}

impl<'n> AuxiliaryRows<'n> {
    /// Those for a checkpoint of these names.
    pub(crate) fn of(mut names: impl Iterator<Item = &'n str>) -> AuxiliaryRows<'n> {
        AuxiliaryRows { by_leaf: HashMap::new(), has_owner: names.any(owns_all_beside) }
    }

    /// What may be the data that a tensor of that name belongs to, the likeliest first.
    pub(crate) fn data_of(&mut self, name: &'n str) -> impl Iterator<Item = DataName<'n>> {
        let leaf = name.rsplit('.').next().unwrap_or(name);
        let has_owner = self.has_owner;
        let rows = self.by_leaf.entry(leaf).or_insert_with(|| rows_of(leaf, has_owner));
        rows.iter().flat_map(move |&(scheme, row)| {
            row.data_of(name).map(move |(stem, end)| DataName { stem, end, scheme })
        })
    }
}

/// The rows that a name with that last segment may be of, the longest endings first: `.weight_scale_inv` says more than
/// `_scale_inv`. One that [owns all beside it](owns_all_beside) counts where there is such data.
fn rows_of(leaf: &str, has_owner: bool) -> Vec<(&'static Scheme, &'static Auxiliary)> {
    let is_one = |row: &Auxiliary| match row.ending.rsplit_once('.') {
        Some(_) if row.ending == ANY_ENDING => has_owner,
        Some((_, last)) => last == leaf,
        None => leaf.ends_with(row.ending),
    };
    let of = |scheme: &'static Scheme| {
        let rows = scheme.auxiliary.iter().chain(scheme.unused);
        rows.filter(|row| is_one(row)).map(move |row| (scheme, row)).collect::<Vec<_>>()
    };
    let mut found: Vec<_> = schemes().flat_map(of).collect();
    found.sort_by_key(|(_, row)| Reverse(row.ending.len()));
    found
}

/// The name of a weight with that ending: in the place of `.weight` if it begins a segment, else behind it.
fn replaced(weight: &str, end: &str) -> String {
    let stem = weight.strip_suffix(".weight").filter(|_| end.starts_with('.')).unwrap_or(weight);
    format!("{stem}{end}")
}

fn unique(all: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut found: Vec<&str> = Vec::new();
    for one in all {
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_of(name: &str, has_owner: bool) -> Vec<String> {
        let mut rows = AuxiliaryRows { by_leaf: HashMap::new(), has_owner };
        rows.data_of(name).map(|found| found.name()).collect()
    }

    #[test]
    fn what_belongs_to_what() {
        for (name, data) in [
            ("a.weight_scale_inv", "a.weight"),
            ("a.gate_up_proj_scale_inv", "a.gate_up_proj"),
            ("a.weight_shape", "a.weight_packed"),
            ("a.down_proj_scales", "a.down_proj_blocks"),
            ("a.qzeros", "a.qweight"),
            ("a.SCB", "a.weight"),
            ("a.weight.absmax", "a.weight"),
            ("a.meta", "a.W_q"),
            ("a.weight._scale", "a.weight._data"),
        ] {
            assert!(data_of(name, true).iter().any(|found| found == data), "{name}");
        }
        assert_eq!(data_of("a.weight_scale_inv", false)[0], "a.weight", "the longest ending comes first");
        assert!(data_of("a.bias", true).iter().chain(&data_of("a.W_q", true)).all(|found| found != "a.W_q"));
    }

    #[test]
    fn names_of_a_quantized_weight() {
        let data = data_names("m.up_proj.weight");
        for name in
            ["m.up_proj.qweight", "m.up_proj.weight_packed", "m.up_proj.weight_blocks", "m.up_proj.W_q"]
        {
            assert!(data.contains(&name.to_owned()), "{name}: {data:?}");
        }
        let auxiliary = auxiliary_names("m.up_proj.weight", &possible_auxiliary(|_| true));
        for name in
            ["weight_scale", "weight_scale_inv", "qscale_weight", "weight_scale_2", "SCB", "pre_quant_scale"]
        {
            assert!(auxiliary.contains(&format!("m.up_proj.{name}")), "{name}");
        }
        for name in ["weight.absmax", "weight.quant_map", "weight_scale_inv"] {
            assert!(auxiliary.contains(&format!("m.up_proj.{name}")), "{name}");
        }
        for name in ["scale", "scales", "biases", "bias"] {
            assert!(!auxiliary.contains(&format!("m.up_proj.{name}")), "plain modules have `{name}` too");
        }
        assert!(!auxiliary.contains(&"m.up_proj.input_scale".to_owned()), "no value depends on it");
    }

    #[test]
    fn every_scheme_has_a_title_and_says_how_it_is_told() {
        for scheme in schemes() {
            assert!(!scheme.title.is_empty());
            let is_named =
                !scheme.methods.is_empty() || !scheme.auxiliary.is_empty() || !scheme.data.is_empty();
            // The types of GGUF are of no other scheme.
            assert!(is_named || !scheme.dtypes.is_empty(), "{}", scheme.title);
        }
        let of = |method| titles(&of_method(Some(method), None));
        assert_eq!(of("hqq"), "HQQ");
        assert_eq!(of("x"), "");
        assert_eq!(titles(&of_method(Some("modelopt"), Some("NVFP4"))), "NVFP4 of ModelOpt");
        assert_eq!(titles(&of_method(None, Some("FP8_PB_WO"))), "block FP8 or FP8 of ModelOpt");
        assert_eq!(titles(&of_data_name("a.qweight")), "GPTQ or AWQ or AutoRound or FP-Quant");
        assert!(is_side_file("hf_quant_config.json") && !is_side_file("config.json"));
        assert!(is_quantized_build("org/Model-AWQ") && !is_quantized_build("org/Model"));
        for list in
            ["ignore", "modules_to_not_convert", "ignored_layers", "llm_int8_skip_modules", "skip_modules"]
        {
            assert!(plain_lists().contains(&list), "{list}");
        }
        assert!(config_keys().any(|key| key == "expert_dtype"));
    }
}
