//! `adapter_config.json`: typed access, and the refusal of fields that nothing honours.

use serde_json::{Map, Value};

use crate::error::adapter::AdapterError;
use crate::error::{Error, MOST_WRONG};

use crate::adapters::peft::python_regex::Unreadable;

/// What a config field means to a merge.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    /// Honoured by a method, or without effect on the merge.
    Fine,
    /// The same, and either true or false.
    Flag,
    /// Fine while it is null, false, empty, or one of these; anything else is refused for the reason.
    Only(&'static [&'static str], &'static str),
    /// The same, with what helps: of anything else, the first that its value starts with says both.
    Cured(&'static [&'static str], &'static [Refused]),
}

/// Why values of a field are refused, and what helps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused {
    /// What such values start with; empty for all.
    pub starts: &'static str,
    /// The reason, which follows on "which".
    pub why: &'static str,
    /// The hint.
    pub cure: &'static str,
}

const UNKNOWN_FIELD: &str =
    "is a field shardfold does not know, so it cannot tell whether it changes the merge";
const UNKNOWN_VALUE: &str =
    "is a value shardfold does not know, so it cannot tell whether it changes the merge";

/// The parsed `adapter_config.json`, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct AdapterConfig {
    /// Name of the adapter, for messages.
    pub adapter: String,
    fields: Map<String, Value>,
}

impl AdapterConfig {
    /// A config; `adapter` names it in messages.
    pub(crate) fn new(adapter: String, fields: Map<String, Value>) -> AdapterConfig {
        AdapterConfig { adapter, fields }
    }

    /// All of its fields.
    pub(crate) fn into_fields(self) -> Map<String, Value> {
        self.fields
    }

    /// A field that is there and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// A field as the file has it, null too: what decides arithmetic may be left out, and not be null.
    pub(crate) fn stated(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// A string.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// Whether a flag is set.
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A list of strings; empty if it is none.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let values = self.get(name).and_then(Value::as_array);
        values.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether a field is there, whatever its value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Whether a field is a list without entries.
    pub(crate) fn is_empty_list(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty)
    }

    /// Whether a field, or the text of one, has that word in it.
    pub(crate) fn mentions(&self, word: &str) -> bool {
        let is_in = |text: &str| text.to_lowercase().contains(word);
        self.fields.iter().any(|(name, value)| is_in(name) || value.as_str().is_some_and(is_in))
    }

    /// Every field that `known` does not allow to have its value; of those it does not have, `ignored` ones aside.
    pub(crate) fn refused(&self, known: &[(&str, Field)], ignored: &[String]) -> Vec<Error> {
        let mut errors = Vec::new();
        for (name, value) in &self.fields {
            if errors.len() == MOST_WRONG {
                break;
            }
            let known = known.iter().find(|(known, _)| known == name);
            // A field that is known to change the merge cannot be ignored.
            if is_inactive(value) || known.is_none() && ignored.iter().any(|ignored| ignored == name) {
                continue;
            }
            let is_one = |values: &[&str]| values.iter().any(|allowed| is_value(value, allowed));
            let (why, hint) = match known {
                Some((_, Field::Fine)) => continue,
                Some((_, Field::Flag)) if value.is_boolean() => continue,
                // What Python takes for true is not what whoever wrote it need have meant.
                Some((_, Field::Flag)) => ("is neither true nor false", None),
                Some((_, Field::Only(values, _) | Field::Cured(values, _))) if is_one(values) => continue,
                Some((_, Field::Only(_, why))) => (*why, None),
                Some((_, Field::Cured(_, refused))) => match reason(value, refused) {
                    Some(refused) => (refused.why, Some(refused.cure.to_owned())),
                    None => (UNKNOWN_VALUE, None),
                },
                None => {
                    let hint = format!("if it does not, `--ignore-field {name}` merges without it");
                    (UNKNOWN_FIELD, Some(hint))
                }
            };
            let error = self.bad(name, value, why);
            errors.push(match hint {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }
        errors
    }

    /// Every field, in the order of the file.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Every field that switches something on, in the order of the file: not null, not false, not empty.
    pub(crate) fn active(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.fields
            .iter()
            .filter(|(_, value)| !is_inactive(value))
            .map(|(name, value)| (name.as_str(), value))
    }

    /// The refusal of one field's value.
    pub(crate) fn bad(&self, field: &str, value: &Value, why: &'static str) -> Error {
        bad_field(&self.adapter, field, value, why)
    }
}

/// The refusal of the value of a field of `adapter`.
pub(crate) fn bad_field(adapter: &str, field: &str, value: &Value, why: &'static str) -> Error {
    let adapter = adapter.to_owned();
    AdapterError::Field { adapter, field: field.to_owned(), value: shortened(value), why }.into()
}

/// The refusal of a pattern in a field of `adapter`.
pub(crate) fn unreadable_pattern(adapter: &str, field: &str, pattern: &str, cause: Unreadable) -> Error {
    let adapter = adapter.to_owned();
    let kind = AdapterError::Pattern { adapter, field: field.to_owned(), pattern: shown_pattern(pattern) };
    Error::new(kind).because(cause)
}

/// Null, false, and what is empty switch nothing on.
fn is_inactive(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

fn is_value(value: &Value, text: &str) -> bool {
    let shown = value.to_string();
    value.as_str() == Some(text) || shown == text
}

/// The first that a value starts with.
fn reason(value: &Value, refused: &'static [Refused]) -> Option<&'static Refused> {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    refused.iter().find(|refused| text.starts_with(refused.starts))
}

/// A value as messages show it.
pub(crate) fn shortened(value: &Value) -> String {
    match value.as_str() {
        Some(text) => cut_behind(text, 60),
        None => cut_behind(&value.to_string(), 60),
    }
}

/// A pattern for a message: one of a hostile config may have millions of characters.
pub(crate) fn shown_pattern(pattern: &str) -> String {
    cut_behind(pattern, 400)
}

/// The first characters of a text, so many at most.
fn cut_behind(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> AdapterConfig {
        AdapterConfig::new("style".into(), serde_json::from_str(json).expect("valid"))
    }

    #[test]
    fn unknown_fields_are_refused_only_when_they_are_on() {
        let known = [
            ("r", Field::Fine),
            ("use_dora", Field::Only(&[], "is not merged yet")),
            ("use_rslora", Field::Flag),
            ("lora_bias", Field::Flag),
            ("init", Field::Only(&["true", "gaussian"], "changes the base")),
        ];
        let config = config(
            r#"{"r": 8, "use_dora": true, "init": "pissa", "use_rslora": true, "lora_bias": "false", "new": {"a": 1}, "off": false, "none": null, "empty": []}"#,
        );
        let errors = config.refused(&known, &[]);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "adapter `style` sets `use_dora` to `true`, which is not merged yet",
                "adapter `style` sets `init` to `pissa`, which changes the base",
                "adapter `style` sets `lora_bias` to `false`, which is neither true nor false",
                "adapter `style` sets `new` to `{\"a\":1}`, which is a field shardfold does not know, so it cannot tell whether it changes the merge",
            ]
        );
        assert_eq!(errors[3].advice(), Some("if it does not, `--ignore-field new` merges without it"));
        assert_eq!(
            config.refused(&known, &["new".into(), "use_dora".into()]).len(),
            3,
            "known ones stay refused"
        );
    }
}
