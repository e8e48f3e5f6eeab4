//! JSON read strictly: objects refuse a key that is there twice, and nesting has a limit. Configs are read as Python reads them.
//!
//! Two readers of one file can disagree about a key that is there twice, so headers and indices refuse it. Configs are what
//! Python programs write by hand and read with `json`, for which the last counts. What is kept of a file has a limit, too: a
//! built value can take sixteen times the memory of its text. serde calls
//! visitors back with its own error type, which holds only text; a typed problem therefore travels beside it, in a
//! [`Cause`] that the visitor fills in before it makes serde stop.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;
use std::mem::size_of;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::formats::allowance::Allowance;
use crate::tensor::size::show_size;

/// Objects and lists inside each other that [`parse_json_strict`] accepts; serde_json itself stops at 128.
pub(crate) const MAX_DEPTH: u32 = 64;

/// Bytes of memory that the values of one file may take: 100,000 entries of an object fit.
const MAX_VALUE_BYTES: usize = 24 << 20;
/// Bytes of one value; a list may have grown to twice what it holds.
const VALUE_BYTES: usize = 2 * size_of::<Value>();
/// Bytes that an object needs for an entry beside its key and its value.
const ENTRY_BYTES: usize = 2 * (size_of::<String>() + 2 * size_of::<u64>());

/// What is wrong with a piece of JSON.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonProblem {
    #[error("byte {at} is not UTF-8")]
    NotUtf8 { at: usize },
    #[error("`{key}` is there twice in one object")]
    Twice { key: String },
    #[error("objects and lists are nested more than {limit} deep")]
    TooDeep { limit: u32 },
    #[error("its values would take more than {}", show_size(*limit))]
    TooLarge { limit: u64 },
    #[error(transparent)]
    Syntax(#[from] serde_json::Error),
}

/// Reads one JSON value, refusing duplicate keys in all its objects.
///
/// Python's `json` writes `NaN`, `Infinity` and `-Infinity`, which are no JSON but stand in real model configs
/// (`"time_step_limit": [0.0, Infinity]`). They are read as `null`, the nearest thing a JSON value can hold, and so is a
/// number beyond what a float holds, which Python takes for infinity.
///
/// # Errors
/// Whatever is not UTF-8, not one JSON value, nested deeper than [`MAX_DEPTH`], larger than [`MAX_VALUE_BYTES`], or has a key
/// twice in an object.
pub(crate) fn parse_json_strict(json: &[u8]) -> Result<Value, JsonProblem> {
    parse_text(utf8(json)?, Twice::Refused, PythonNumbers::Null)
}

/// Reads a config as Python's `json` does: of a key that is there twice the last counts, and a byte order mark is skipped,
/// which editors of other systems put in front. Otherwise as [`parse_json_strict`].
///
/// # Errors
/// Whatever is not UTF-8, not one JSON value, nested deeper than [`MAX_DEPTH`], or larger than [`MAX_VALUE_BYTES`].
pub(crate) fn parse_json_as_python(json: &[u8]) -> Result<Value, JsonProblem> {
    parse_python(json, PythonNumbers::Null)
}

/// The same, but a number that no JSON value can hold is read as its text (`"NaN"`, `"-Infinity"`, `"1e400"`). Where fields
/// decide arithmetic it must not pass for one that is null, which may mean that it is off, and messages show what is written.
///
/// # Errors
/// As [`parse_json_as_python`].
pub(crate) fn parse_json_as_written(json: &[u8]) -> Result<Value, JsonProblem> {
    parse_python(json, PythonNumbers::Text)
}

fn parse_python(json: &[u8], numbers: PythonNumbers) -> Result<Value, JsonProblem> {
    let text = utf8(json)?;
    parse_text(text.strip_prefix('\u{feff}').unwrap_or(text), Twice::LastCounts, numbers)
}

/// What a number of Python is read as that no JSON value can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PythonNumbers {
    Null,
    Text,
}

fn parse_text(text: &str, twice: Twice, numbers: PythonNumbers) -> Result<Value, JsonProblem> {
    let parse = |text: &str| {
        let cause = Cause::default();
        let strict = Strict { twice, ..Strict::keep(&cause) };
        read(text, strict).map_err(|error| cause.take().unwrap_or(JsonProblem::Syntax(error)))
    };
    match parse(text) {
        Err(JsonProblem::Syntax(error)) => match without_python_numbers(text, numbers) {
            Cow::Owned(text) => parse(&text),
            Cow::Borrowed(_) => Err(JsonProblem::Syntax(error)),
        },
        done => done,
    }
}

/// Runs `seed` over all of `text`, after which only whitespace may follow.
pub(crate) fn read<'de, S: DeserializeSeed<'de>>(
    text: &'de str,
    seed: S,
) -> Result<S::Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// `bytes` as text.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, JsonProblem> {
    std::str::from_utf8(bytes).map_err(|error| JsonProblem::NotUtf8 { at: error.valid_up_to() })
}

/// The number of Python at the start of `text` that no JSON value can hold.
fn python_number(text: &str) -> Option<&str> {
    if let Some(word) = ["NaN", "Infinity", "-Infinity"].iter().find(|word| text.starts_with(**word)) {
        return text.get(..word.len());
    }
    let is_end = |c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E');
    let number = &text[..text.find(is_end).unwrap_or(text.len())];
    number.parse::<f64>().is_ok_and(f64::is_infinite).then_some(number)
}

/// `text` with what stands for each of Python's extra numbers outside strings; borrowed if there is none.
fn without_python_numbers(text: &str, numbers: PythonNumbers) -> Cow<'_, str> {
    let mut out = String::new();
    let (mut copied, mut at) = (0, 0);
    let (mut in_string, mut escaped, mut in_number) = (false, false, false);
    while let Some(&byte) = text.as_bytes().get(at) {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else if byte == b'"' {
            in_string = true;
        } else if matches!(byte, b'N' | b'I' | b'-' | b'0'..=b'9')
            && !in_number
            && let Some(number) = python_number(&text[at..])
        {
            out.push_str(&text[copied..at]);
            match numbers {
                PythonNumbers::Null => out.push_str("null"),
                PythonNumbers::Text => out.extend(["\"", number, "\""]),
            }
            at += number.len();
            copied = at;
            continue;
        }
        in_number = matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// The first of `names` that came before.
pub(crate) fn first_twice<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = HashSet::with_capacity(names.len());
    names.into_iter().find(|name| !seen.insert(*name))
}

/// Why a visitor made serde stop, empty if serde stopped by itself; and the room that is left for values.
pub(crate) struct Cause<P> {
    problem: Cell<Option<P>>,
    room: Cell<usize>,
}

impl<P> Default for Cause<P> {
    fn default() -> Cause<P> {
        Cause { problem: Cell::new(None), room: Cell::new(MAX_VALUE_BYTES) }
    }
}

impl<P> Cause<P> {
    /// Notes `problem` and gives the error that makes serde stop.
    pub(crate) fn stop<E: de::Error>(&self, problem: P) -> E {
        self.note(problem);
        E::custom("refused")
    }

    /// Notes `problem`, unless a visitor further inside has noted one.
    pub(crate) fn note(&self, problem: P) {
        let first = self.problem.take().unwrap_or(problem);
        self.problem.set(Some(first));
    }

    /// What was noted.
    pub(crate) fn take(&self) -> Option<P> {
        self.problem.take()
    }
}

/// What a key means that is there twice in one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Twice {
    /// An error.
    Refused,
    /// The last value, in the place of the first.
    LastCounts,
}

/// Reads any value with the checks of [`parse_json_strict`].
#[derive(Clone, Copy)]
pub(crate) struct Strict<'a> {
    cause: &'a Cause<JsonProblem>,
    twice: Twice,
    /// Levels that may still be opened.
    depth: u32,
    /// Whether the value is built. If not, it is only checked and lists and objects come back empty.
    keep: bool,
}

impl<'a> Strict<'a> {
    /// Builds the value.
    pub(crate) fn keep(cause: &'a Cause<JsonProblem>) -> Strict<'a> {
        Strict { cause, twice: Twice::Refused, depth: MAX_DEPTH, keep: true }
    }

    /// Checks the value and forgets it.
    pub(crate) fn check(cause: &'a Cause<JsonProblem>) -> Strict<'a> {
        Strict { cause, twice: Twice::Refused, depth: MAX_DEPTH, keep: false }
    }

    fn deeper<E: de::Error>(self) -> Result<Strict<'a>, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Strict { depth, ..self }),
            None => Err(self.cause.stop(JsonProblem::TooDeep { limit: MAX_DEPTH })),
        }
    }

    /// Takes the room of what is kept.
    fn take<E: de::Error>(self, bytes: usize) -> Result<(), E> {
        match self.cause.room.get().checked_sub(bytes) {
            Some(left) => {
                self.cause.room.set(left);
                Ok(())
            }
            None => Err(self.cause.stop(JsonProblem::TooLarge { limit: MAX_VALUE_BYTES as u64 })),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        if !self.keep {
            return Ok(Value::Null);
        }
        self.take(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = list.next_element_seed(inner)? {
            if self.keep {
                self.take(VALUE_BYTES)?;
                items.push(item);
            }
        }
        // It may be kept to the end, with others.
        items.shrink_to_fit();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut seen = HashSet::new();
        let mut items = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            let is_twice = items.contains_key(&key) || seen.contains(&key);
            if is_twice && self.twice == Twice::Refused {
                return Err(self.cause.stop(JsonProblem::Twice { key }));
            }
            self.take(key.len() + ENTRY_BYTES)?;
            let value = object.next_value_seed(inner)?;
            if self.keep {
                self.take(VALUE_BYTES)?;
                items.insert(key, value);
            } else {
                seen.insert(key);
            }
        }
        Ok(Value::Object(items))
    }
}

/// Memory of a pair in a list, which may have grown to twice what it holds, beside its texts.
const PAIR_BYTES: usize = 2 * size_of::<(String, String)>() + 2 * size_of::<[usize; 2]>();

/// Reads an object of strings as pairs in the order of the file; whether a key is there twice is for the caller to see. It
/// keeps none once its allowance is used up.
pub(crate) struct Pairs<'a>(pub(crate) &'a Allowance);

impl<'de> DeserializeSeed<'de> for Pairs<'_> {
    type Value = Vec<(String, String)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pairs<'_> {
    type Value = Vec<(String, String)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some((key, value)) = object.next_entry::<String, String>()? {
            if self.0.take((key.len() + value.len() + PAIR_BYTES) as u64) {
                pairs.push((key, value));
            } else {
                pairs = Vec::new();
            }
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_what_serde_json_reads() {
        let text =
            r#" {"a": [1, -2, 3.5, 18446744073709551615, "x\u00e9", true, null], "b": {"a": {}}, "": []} "#;
        let ours = parse_json_strict(text.as_bytes()).unwrap();
        assert_eq!(ours, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn refuses() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let cases = [
            (r#"{"a":1,"a":2}"#, "`a` is there twice in one object"),
            (r#"{"a":1,"\u0061":2}"#, "`a` is there twice in one object"),
            (r#"[{"x":{"b":1,"c":2,"b":1}}]"#, "`b` is there twice in one object"),
            (&deep(65), "objects and lists are nested more than 64 deep"),
            (&deep(100_000), "objects and lists are nested more than 64 deep"),
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{} x", "trailing characters at line 1 column 4"),
            ("[1,]", "trailing comma at line 1 column 4"),
            ("[Infinite]", "expected value at line 1 column 2"),
            (r#"{"a":NaN,"a":NaN}"#, "`a` is there twice in one object"),
        ];
        for (text, message) in cases {
            assert_eq!(parse_json_strict(text.as_bytes()).unwrap_err().to_string(), message, "{text:.40}");
        }
        assert!(parse_json_strict(deep(64).as_bytes()).is_ok());
        assert_eq!(parse_json_strict(b"\"a\xff\"").unwrap_err().to_string(), "byte 2 is not UTF-8");
    }

    #[test]
    fn values_that_take_too_much_memory_are_refused() {
        let list = |unit: &str, count: usize| format!("[{}1]", unit.repeat(count));
        let keys: String = (0..200_000).map(|i| format!("\"{i}\":1,")).collect();
        let all =
            [list("1,", 400_000), list("[],", 400_000), list("{},", 400_000), format!("{{{keys}\"z\":1}}")];
        for text in all.iter().chain([&format!("[\"{}\"]", "x".repeat(MAX_VALUE_BYTES))]) {
            let error = parse_json_strict(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), "its values would take more than 24 MiB", "{text:.40}");
            assert!(parse_json_as_python(text.as_bytes()).is_err(), "{text:.40}");
        }
        assert!(parse_json_strict(list("1,", 100_000).as_bytes()).is_ok());
    }

    #[test]
    fn numbers_of_python_are_null() {
        let text = r#"{"limit": [0.0, Infinity, -Infinity, NaN, -1], "s": "NaN \" Infinity \\", "t": NaN}"#;
        let expected = json!({"limit": [0.0, null, null, null, -1], "s": "NaN \" Infinity \\", "t": null});
        assert_eq!(parse_json_strict(text.as_bytes()).unwrap(), expected);
    }

    #[test]
    fn numbers_of_python_are_their_text_where_that_is_asked_for() {
        let text = r#"{"a": [0.0, Infinity, -Infinity, 1e400], "s": "NaN \" 1e400", "t": NaN, "u": -1e999, "v": null}"#;
        let expected = json!({
            "a": [0.0, "Infinity", "-Infinity", "1e400"], "s": "NaN \" 1e400", "t": "NaN", "u": "-1e999", "v": null,
        });
        assert_eq!(parse_json_as_written(text.as_bytes()).unwrap(), expected);
        assert!(parse_json_as_written(b"{\"a\": NaNs}").is_err());
    }

    #[test]
    fn configs_are_read_as_python_reads_them() {
        let text =
            "\u{feff}{\"a\": {\"b\": 1}, \"c\": [1e400, -1e999, 1e5, 0.5e-400], \"a\": {\"d\": 2, \"d\": 3}}";
        let expected = json!({"a": {"d": 3}, "c": [null, null, 1e5, 0.0]});
        assert_eq!(parse_json_as_python(text.as_bytes()).unwrap(), expected);
        assert!(parse_json_strict(text.as_bytes()).is_err());
        let digits = format!("{{\"n\": {}, \"s\": \"1e400\"}}", "9".repeat(400));
        assert_eq!(parse_json_as_python(digits.as_bytes()).unwrap(), json!({"n": null, "s": "1e400"}));
        assert!(parse_json_as_python(b"{} x").is_err());
        assert!(parse_json_as_python("\u{feff}\u{feff}{}".as_bytes()).is_err(), "one mark is one");
    }
}
