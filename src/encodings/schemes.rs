//! Questions about all schemes of quantization: whose data a name is, what belongs to it, which keys and files are theirs.
//!
//! The file of an encoding owns the facts of its scheme and gives them as [`Encoding::scheme`]; schemes that are known and
//! refused are rows of [`unsupported`]. Whoever needs a fact about any scheme asks here.
//!
//! [`Encoding::scheme`]: crate::encodings::encoding::Encoding::scheme

use std::cmp::Reverse;

use crate::encodings::scheme::{ANY_ENDING, Scheme};
use crate::encodings::{ENCODINGS, unsupported};

/// Keys under which configs keep the description of their quantization, whatever the scheme; the second is MLX's.
pub(crate) const QUANTIZATION: &[&str] = &["quantization_config", "quantization"];

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

/// The titles of the schemes whose quantized data has such a name, where it is not called as the weight is.
pub(crate) fn titles_of_data(name: &str) -> Option<String> {
    titles(&|scheme| scheme.data.iter().any(|end| name.ends_with(end)))
}

/// Names that the quantized data of a weight may have, where it is not called as the weight is.
pub(crate) fn data_names(weight: &str) -> Vec<String> {
    let ends = unique(schemes().flat_map(|scheme| scheme.data).copied());
    ends.into_iter().map(|end| replaced(weight, end)).collect()
}

/// Names that the auxiliary tensors of a weight may have if its data is called as the weight is, or has its place.
pub(crate) fn auxiliary_names(weight: &str) -> Vec<String> {
    let all =
        schemes().flat_map(|scheme| scheme.auxiliary).filter(|auxiliary| auxiliary.ending != ANY_ENDING);
    all.flat_map(|auxiliary| auxiliary.names(weight)).chain(data_names(weight)).collect()
}

/// The titles of the schemes that a `quant_method` may mean; none if it is not known.
pub(crate) fn titles_of_method(method: &str) -> Option<String> {
    titles(&|scheme| scheme.methods.contains(&method))
}

fn titles(is_one: &dyn Fn(&Scheme) -> bool) -> Option<String> {
    let titles = unique(schemes().filter(|scheme| is_one(scheme)).map(|scheme| scheme.title));
    (!titles.is_empty()).then(|| titles.join(" or "))
}

/// Quantized data that a tensor may belong to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DataName {
    /// Its name.
    pub name: String,
    /// As [`Scheme::has_any_dtype`].
    pub has_any_dtype: bool,
}

/// What may be the data that a tensor of that name belongs to, the likeliest first.
pub(crate) fn data_of(name: &str) -> Vec<DataName> {
    let mut found: Vec<(usize, DataName)> = Vec::new();
    for scheme in schemes() {
        for row in scheme.auxiliary.iter().chain(scheme.unused) {
            let named = |name| DataName { name, has_any_dtype: scheme.has_any_dtype };
            found.extend(row.data_of(name).into_iter().map(|name| (row.ending.len(), named(name))));
        }
    }
    // A longer ending says more: `.weight_scale_inv` before `_scale_inv`.
    found.sort_by_key(|(len, _)| Reverse(*len));
    found.into_iter().map(|(_, data)| data).collect()
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
            ("a._scale", "a._data"),
        ] {
            assert!(data_of(name).iter().any(|found| found.name == data), "{name}: {:?}", data_of(name));
        }
        assert_eq!(data_of("a.weight_scale_inv")[0].name, "a.weight", "the longest ending comes first");
        assert!(data_of("a.bias").iter().chain(&data_of("a.W_q")).all(|found| found.name != "a.W_q"));
    }

    #[test]
    fn names_of_a_quantized_weight() {
        let data = data_names("m.up_proj.weight");
        for name in
            ["m.up_proj.qweight", "m.up_proj.weight_packed", "m.up_proj.weight_blocks", "m.up_proj.W_q"]
        {
            assert!(data.contains(&name.to_owned()), "{name}: {data:?}");
        }
        let auxiliary = auxiliary_names("m.up_proj.weight");
        for name in
            ["weight_scale", "weight_scale_inv", "scale", "qscale_weight", "weight_scale_2", "weight_packed"]
        {
            assert!(auxiliary.contains(&format!("m.up_proj.{name}")), "{name}");
        }
        for name in ["SCB", "scales", "weight.absmax", "weight.quant_map"] {
            assert!(auxiliary.contains(&format!("m.up_proj.{name}")), "{name}");
        }
        assert!(!auxiliary.contains(&"m.up_proj.input_scale".to_owned()), "no value depends on it");
    }

    #[test]
    fn every_scheme_has_a_title_and_says_how_it_is_told() {
        for scheme in schemes() {
            assert!(!scheme.title.is_empty());
            let is_told =
                !scheme.methods.is_empty() || !scheme.auxiliary.is_empty() || !scheme.data.is_empty();
            assert!(is_told, "{}", scheme.title);
        }
        assert_eq!(titles_of_method("hqq").as_deref(), Some("HQQ"));
        let fp8 = "block FP8 or FP8 with a scale for each tensor or channel";
        assert_eq!((titles_of_method("fp8").as_deref(), titles_of_method("x")), (Some(fp8), None));
        assert_eq!(titles_of_data("a.qweight").as_deref(), Some("GPTQ or AWQ"));
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
