//! The table of names that libraries know: which rules apply to which class, what is tied, and how experts are held.
//!
//! It is a text of sorted lines that `fixtures/make_names.py` writes and describes. Only the lines that are asked for are
//! parsed, so that a run pays for one class. Derived from Hugging Face transformers 5.23.0 and diffusers 0.42.1 (Apache
//! License 2.0; the notice stands at the head of the table).

use std::sync::OnceLock;

use miniz_oxide::inflate::decompress_to_vec;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::model::names::rules::{Rule, parse_rules};

/// `table.txt`, compressed by the build script.
static COMPRESSED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/names.deflate"));

fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let bytes = decompress_to_vec(COMPRESSED).expect("the build script compressed it");
        String::from_utf8(bytes).expect("it is a text")
    })
}

/// What the table knows about a class of models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Class {
    /// The class, as a config names it.
    pub name: &'static str,
    /// Its model type; `diffusers` for models of that library, which have none.
    pub model_type: &'static str,
    /// Path of the base model in it, `model` for most.
    pub base: &'static str,
    /// Which entries of rules apply, in which order: scope (none for whole names) and entry.
    pub uses: Vec<(Option<&'static str>, &'static str)>,
    ties: &'static str,
}

/// One kind of experts module, whose experts are fused in stacked parameters.
#[derive(Debug, Deserialize)]
struct ExpertsRow(
    /// Its class.
    IgnoredAny,
    /// Last segment of its path.
    IgnoredAny,
    /// Its parameters of two or more axes, in the order in which the module registers them.
    Vec<String>,
    /// The number of axes of each.
    IgnoredAny,
    /// Whether the module says that it holds its parameters as `[experts, in, out]`.
    bool,
);

/// An order that older versions of transformers registered the parameters of experts in, which the table's has not.
const OLDER_ORDER: [&str; 3] = ["w1", "w2", "w3"];

/// The lines of a kind, each without its kind.
fn lines(kind: &'static str) -> impl Iterator<Item = &'static str> {
    text().split('\n').filter_map(move |line| line.strip_prefix(kind)?.strip_prefix('\t'))
}

/// The rest of the line of that kind and name.
fn line(kind: &'static str, name: &str) -> Option<&'static str> {
    lines(kind).find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'))
}

/// What is known about a class.
pub(crate) fn class(name: &str) -> Option<Class> {
    let line = lines("class").find(|line| line.split('\t').next() == Some(name))?;
    Some(parse_class(line))
}

/// All classes of a model type.
pub(crate) fn classes_of(model_type: &str) -> Vec<Class> {
    let of_type = |line: &&str| line.split('\t').nth(1) == Some(model_type);
    lines("class").filter(of_type).map(parse_class).collect()
}

fn parse_class(line: &'static str) -> Class {
    let mut fields = line.split('\t');
    let mut next = || fields.next().unwrap_or("");
    let (name, model_type, base, uses, ties) = (next(), next(), next(), next(), next());
    let used = |each: &'static str| {
        let (scope, entry) = each.split_once(':')?;
        Some(((scope != "~").then_some(scope), entry))
    };
    Class { name, model_type, base, uses: uses.split(' ').filter_map(used).collect(), ties }
}

impl Class {
    /// The runtime names that can be tied, each with the name of what it is tied to.
    pub(crate) fn ties(&self) -> Vec<(String, String)> {
        let mut ties = Vec::new();
        for group in self.ties.split(';').filter(|group| !group.is_empty()) {
            let Some((pairs, rests)) = group.split_once(':') else { continue };
            for (head, source) in pairs.split(',').filter_map(|pair| pair.split_once('>')) {
                for rest in rests.split(',') {
                    for_all(rest, |rest| ties.push((format!("{head}{rest}"), format!("{source}{rest}"))));
                }
            }
        }
        ties
    }
}

/// Calls `then` with `text` for every number of its range `{a-b}`, or once if it has none.
fn for_all(text: &str, mut then: impl FnMut(&str)) {
    let range = text.split_once('{').and_then(|(before, rest)| {
        let (range, after) = rest.split_once('}')?;
        let (first, last) = range.split_once('-')?;
        Some((before, first.parse::<u32>().ok()?..=last.parse::<u32>().ok()?, after))
    });
    match range {
        Some((before, numbers, after)) => {
            numbers.for_each(|number| then(&format!("{before}{number}{after}")));
        }
        None => then(text),
    }
}

/// The name of the entry that holds the rules of `entry`, if the table has it.
pub(crate) fn root(entry: &str) -> Option<&'static str> {
    let named = |line: &'static str| line.split('\t').next();
    let (mut name, mut rest) =
        (lines("rules").filter_map(named).find(|name| *name == entry)?, line("rules", entry)?);
    while let Some(other) = rest.strip_prefix('=') {
        (name, rest) = (other, line("rules", other)?);
    }
    Some(name)
}

/// The rules of an entry, by its own name or another's.
pub(crate) fn rules(entry: &str) -> Option<Vec<Rule>> {
    let text = line("rules", root(entry)?)?;
    let value: Value = serde_json::from_str(text).ok()?;
    parse_rules(&value)
}

fn experts_rows(line: &str) -> Vec<ExpertsRow> {
    let rows = line.split_once('\t').and_then(|(_, rows)| serde_json::from_str(rows).ok());
    rows.unwrap_or_default()
}

/// The orders in which experts modules register their parameters, each once.
pub(crate) fn expert_orders() -> &'static [Vec<String>] {
    static ALL: OnceLock<Vec<Vec<String>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut orders: Vec<Vec<String>> = lines("experts")
            .flat_map(experts_rows)
            .map(|row| row.2)
            .filter(|order| order.len() > 1)
            .collect();
        orders.push(OLDER_ORDER.map(str::to_owned).to_vec());
        orders.sort_unstable();
        orders.dedup();
        orders
    })
}

/// Whether experts of that model type say that they hold their parameters as `[experts, in, out]`.
pub(crate) fn has_transposed_experts(model_type: &str) -> bool {
    let of_type = |line: &&str| line.split('\t').next() == Some(model_type);
    lines("experts").filter(of_type).flat_map(experts_rows).any(|row| row.4)
}

/// Whether linear layers of that model type are stored as `[in, out]`.
pub(crate) fn conv1d(model_type: &str) -> bool {
    lines("conv1d").any(|name| name == model_type)
}

#[cfg(test)]
pub(crate) fn entries() -> impl Iterator<Item = &'static str> {
    lines("rules").filter_map(|line| line.split('\t').next())
}

#[cfg(test)]
pub(crate) fn all_classes() -> impl Iterator<Item = Class> {
    lines("class").map(parse_class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_and_its_ties() {
        let class = class("LlavaForConditionalGeneration").expect("known");
        assert_eq!((class.model_type, class.base), ("llava", "model"));
        let uses = [(None, "llava"), (Some(""), "LlavaModel"), (Some("vision_tower"), "CLIPVisionModel")];
        assert_eq!(class.uses, uses);
        let tie = ("lm_head.weight".to_owned(), "model.language_model.embed_tokens.weight".to_owned());
        assert_eq!(class.ties(), [tie]);
        assert!(crate::model::names::table::class("NoSuchModel").is_none());
        assert!(classes_of("mixtral").iter().any(|class| class.name == "MixtralForCausalLM"));
    }

    #[test]
    fn ties_in_ranges_and_groups() {
        let ties = class("DeformableDetrForObjectDetection").expect("known").ties();
        assert!(ties.len() > 20);
        assert!(ties.iter().all(|(head, source)| !head.contains('{') && !source.contains('{')));
        assert!(class("PeAudioVideoModel").expect("known").ties().len() > 200);
    }

    #[test]
    fn experts_and_conv1d() {
        let has = |order: &[&str]| expert_orders().iter().any(|other| other == order);
        assert!(has(&["gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"]));
        assert!(has(&["gate_proj", "up_proj", "down_proj"]) && has(&OLDER_ORDER) && !has(&["weight"]));
        let transposed = ["gpt_oss", "aria", "aria_text", "openai_privacy_filter"];
        assert!(transposed.into_iter().all(has_transposed_experts) && !has_transposed_experts("mixtral"));
        for line in lines("experts") {
            assert!(!experts_rows(line).is_empty(), "{line}");
        }
        assert!(conv1d("gpt2") && conv1d("openai-gpt") && !conv1d("ctrl"));
    }

    #[test]
    fn every_use_and_alias_has_rules() {
        for entry in entries() {
            assert!(rules(entry).is_some(), "{entry}");
        }
        for class in all_classes() {
            for (_, entry) in &class.uses {
                assert!(root(entry).is_some(), "{} uses {entry}", class.name);
            }
        }
    }
}
