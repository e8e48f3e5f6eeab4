//! The rules that turn a name on disk into a runtime name, as transformers applies them when it loads a checkpoint.
//!
//! First every rule that renames, in order, each at most once and each seeing what the former left; then the first that
//! converts, and no other. A rule with a scope sees only names below `base.scope.` or `scope.`, and only what follows.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::model::names::conversions::ConversionOp;
use crate::model::names::pattern::{Match, Pattern};

/// What a rule does with the text that its pattern matched.
#[derive(Debug)]
pub enum ConversionKind {
    /// Puts its first `to` there.
    Rename,
    /// Puts the `to` of the alternative that matched there; only in checkpoints in which the first one matches somewhere.
    Group {
        /// Whether the first alternative has matched.
        active: AtomicBool,
    },
    /// Renames, its group being a number that so much is added to.
    Offset(i64),
    /// Makes runtime parameters of tensors.
    Convert(Vec<ConversionOp>),
}

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// What it matches.
    pub pattern: Pattern,
    /// What it puts there; for a conversion the parameters that it makes.
    pub to: Vec<String>,
    /// What it does.
    pub kind: ConversionKind,
    /// Prefixes below which it applies, the longer one first; none if it sees whole names.
    scope: Option<[String; 2]>,
}

/// A conversion that a name takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Which of [`Rules::conversion`].
    pub rule: usize,
    /// Which of its patterns matched.
    pub from: usize,
    /// The number that stood for `*`.
    pub number: Option<u64>,
}

/// What the rules made of a name.
#[derive(Debug)]
pub struct Renamed<'n> {
    /// The name after all that rename.
    pub name: Cow<'n, str>,
    /// The name that the conversion gave (with its first `to`), and which one it was.
    pub converted: Option<(String, Converted)>,
}

/// The rules of one class, in order.
#[derive(Debug, Default)]
pub struct Rules {
    renames: Vec<Rule>,
    conversions: Vec<Rule>,
}

impl Rules {
    /// Adds rules behind those that are there, with the scope that they are used in: the base model's path and the scope.
    pub fn extend(&mut self, rules: Vec<Rule>, scope: Option<(&str, &str)>) {
        let dotted = |text: &str| if text.is_empty() { String::new() } else { format!("{text}.") };
        for mut rule in rules {
            rule.scope = scope.map(|(base, scope)| [dotted(base) + &dotted(scope), dotted(scope)]);
            match rule.kind {
                ConversionKind::Convert(_) => self.conversions.push(rule),
                _ => self.renames.push(rule),
            }
        }
    }

    /// One of the rules that convert.
    pub fn conversion(&self, rule: usize) -> &Rule {
        &self.conversions[rule]
    }

    /// Whether [`Rules::notice`] has to see all names before any is renamed.
    pub fn must_notice(&self) -> bool {
        self.renames.iter().any(|rule| matches!(rule.kind, ConversionKind::Group { .. }))
    }

    /// Notes what a checkpoint has that holds this name.
    pub fn notice(&self, name: &str) {
        let mut name = Cow::Borrowed(name);
        for rule in &self.renames {
            if let (ConversionKind::Group { active }, Some((_, found))) = (&rule.kind, rule.find(&name))
                && found.branch == 0
            {
                active.store(true, Ordering::Relaxed);
            }
            rule.rename(&mut name);
        }
    }

    /// The name after all rules that rename.
    pub fn rename<'n>(&self, name: &'n str) -> Cow<'n, str> {
        let mut name = Cow::Borrowed(name);
        for rule in &self.renames {
            rule.rename(&mut name);
        }
        name
    }

    /// What all rules make of a name.
    pub fn apply<'n>(&self, name: &'n str) -> Renamed<'n> {
        let name = self.rename(name);
        let mut converting = self.conversions.iter().enumerate();
        let converted = converting.find_map(|(rule, conversion)| {
            let (prefix, found) = conversion.find(&name)?;
            let converted = Converted { rule, from: found.branch, number: found.number };
            let to = conversion.replacement(&found)?.into_owned();
            Some((prefix.len(), found.text.to_owned(), to, converted))
        });
        let converted = converted.map(|(prefix, text, to, converted)| {
            (format!("{}{}", &name[..prefix], name[prefix..].replacen(&text, &to, 1)), converted)
        });
        Renamed { name, converted }
    }

    /// The name that the rules would turn into `name`, as far as their renames can be read backwards: those without groups.
    pub fn before(&self, name: &str) -> impl Iterator<Item = String> {
        self.renames.iter().filter(|rule| rule.scope.is_none()).filter_map(move |rule| {
            let [source] = rule.pattern.sources() else { return None };
            let source = source.strip_prefix('^').unwrap_or(source).replace("\\.", ".");
            let to = rule.to.first().filter(|to| !to.is_empty() && name.contains(to.as_str()))?;
            let before = name.replacen(to.as_str(), &source, 1);
            (self.rename(&before) == name).then_some(before)
        })
    }
}

impl Rule {
    /// The prefix of `name` that it does not see, and where it matches in the rest.
    fn find<'n>(&self, name: &'n str) -> Option<(&'n str, Match<'n>)> {
        let prefix = match &self.scope {
            None => "",
            Some(scopes) => &name[..scopes.iter().find(|scope| name.starts_with(scope.as_str()))?.len()],
        };
        Some((prefix, self.pattern.find(&name[prefix.len()..])?))
    }

    fn rename(&self, name: &mut Cow<'_, str>) {
        let Some((prefix, found)) = self.find(name) else { return };
        let Some(to) = self.replacement(&found) else { return };
        // As transformers does it, the first place with the matched text is changed, wherever the match was.
        let renamed = format!("{prefix}{}", name[prefix.len()..].replacen(found.text, &to, 1));
        *name = Cow::Owned(renamed);
    }

    /// What is put in the place of a match; nothing if the rule does not apply after all.
    fn replacement(&self, found: &Match<'_>) -> Option<Cow<'_, str>> {
        let (to, number) = match &self.kind {
            ConversionKind::Group { active } if found.branch > 0 && !active.load(Ordering::Relaxed) => {
                return None;
            }
            ConversionKind::Group { .. } => (self.to.get(found.branch)?, None),
            ConversionKind::Offset(offset) => {
                let number = found.group?.parse::<i64>().ok()?.checked_add(*offset)?;
                (self.to.first()?, Some(number.to_string()))
            }
            ConversionKind::Rename | ConversionKind::Convert(_) => (self.to.first()?, None),
        };
        if !to.contains("\\1") {
            return Some(Cow::Borrowed(to));
        }
        let group = number.as_deref().or(found.group)?;
        Some(Cow::Owned(to.replace("\\1", group)))
    }
}

/// The rules of an entry: rows of kind, `from`, `to`, and operations or an offset.
pub(crate) fn parse_rules(rows: &Value) -> Option<Vec<Rule>> {
    rows.as_array()?.iter().map(parse_rule).collect()
}

fn parse_rule(row: &Value) -> Option<Rule> {
    let texts = |value: &Value| -> Option<Vec<String>> {
        value.as_array()?.iter().map(|text| Some(text.as_str()?.to_owned())).collect()
    };
    let kind = match row.get(0)?.as_str()? {
        "rename" => ConversionKind::Rename,
        "group" => ConversionKind::Group { active: AtomicBool::new(false) },
        "offset" => ConversionKind::Offset(row.get(3)?.as_i64()?),
        "convert" => ConversionKind::Convert(
            row.get(3)?.as_array()?.iter().map(ConversionOp::parse).collect::<Option<_>>()?,
        ),
        _ => return None,
    };
    Some(Rule { pattern: Pattern::new(texts(row.get(1)?)?), to: texts(row.get(2)?)?, kind, scope: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::names::table;

    fn rules(uses: &[(Option<(&str, &str)>, &str)]) -> Rules {
        let mut rules = Rules::default();
        for (scope, entry) in uses {
            rules.extend(table::rules(entry).expect("known"), *scope);
        }
        rules
    }

    #[test]
    fn renames_chain_and_conversions_do_not() {
        let rules = rules(&[(None, "mixtral")]);
        let name = "model.layers.0.block_sparse_moe.experts.12.w3.weight";
        let renamed = rules.apply(name);
        assert_eq!(renamed.name, "model.layers.0.mlp.experts.12.w3.weight");
        let (name, converted) = renamed.converted.expect("converts");
        assert_eq!(name, "model.layers.0.mlp.experts.gate_up_proj");
        assert_eq!(converted, Converted { rule: 0, from: 1, number: Some(12) });
        assert!(rules.apply("model.norm.weight").converted.is_none());
    }

    #[test]
    fn scopes_with_and_without_the_base() {
        let rules = rules(&[(Some(("model", "vision_tower")), "CLIPVisionModel")]);
        for (name, renamed) in [
            ("model.vision_tower.vision_model.encoder.x", "model.vision_tower.encoder.x"),
            ("vision_tower.vision_model.encoder.x", "vision_tower.encoder.x"),
            ("audio.vision_model.encoder.x", "audio.vision_model.encoder.x"),
        ] {
            assert_eq!(rules.rename(name), renamed);
        }
    }

    #[test]
    fn groups_wait_for_their_first_pattern() {
        let name = |norm: &str| format!("vision_tower.encoder.blocks.3.{norm}.weight");
        let rules = rules(&[(None, "kimi_k25")]);
        assert!(rules.must_notice());
        let last = |norm: &str| rules.rename(&name(norm)).rsplit('.').nth(1).map(str::to_owned);
        assert_eq!(last("norm1").as_deref(), Some("norm1"), "already converted");
        rules.notice(&name("norm0"));
        assert_eq!((last("norm0").as_deref(), last("norm1").as_deref()), (Some("norm1"), Some("norm2")));
    }

    #[test]
    fn offsets_count() {
        let rules = rules(&[(None, "inkling2_text")]);
        let renamed = rules.rename("attn_res.attn_queries.4");
        assert!(renamed.contains("layers.5.attention_input.query"), "{renamed}");
    }

    #[test]
    fn backwards() {
        let rules = rules(&[(None, "llava"), (Some(("model", "")), "LlavaModel")]);
        let before: Vec<String> = rules.before("lm_head.weight").collect();
        assert_eq!(before, ["language_model.lm_head.weight"]);
    }
}
