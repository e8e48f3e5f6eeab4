//! Edits of JSON text in place: a value, a new key or a removed key changes its own bytes and no others.
//!
//! A file that is read, changed and written again loses what its values do not hold: `1e-06` becomes `0.000001`,
//! `Infinity` becomes `null`, an integer of 31 digits becomes a float, and the order and the spacing are the writer's own.
//! Here the text stays, and paths of keys find the bytes to replace:
//!
//! ```text
//! {"eps": 1e-06, "text_config": {"tied": true}, "limit": [0.0, Infinity]}
//!                ^ key           ^ key ^ value of the path ["text_config", "tied"]
//! ```
//!
//! The text must be one that [`parse_json_as_python`](crate::formats::json::parse_json_as_python) reads. Where a key is
//! there twice the last counts, as for Python. A new key goes to the end of its object, spaced as the key before it.
//!
//! ```
//! use shardfold::testing::JsonEdit;
//!
//! let mut config = JsonEdit::new(r#"{"eps": 1e-06, "text_config": {"tied": true}, "limit": [0.0, Infinity]}"#);
//! assert!(config.set(&["text_config", "tied"], &false.into()));
//! assert!(config.remove(&["limit"]) && !config.remove(&["limit"]));
//! assert_eq!(config.text(), r#"{"eps": 1e-06, "text_config": {"tied": false}}"#);
//! ```

use std::ops::Range;

use serde::Serialize;
use serde_json::Value;
use serde_json::ser::{PrettyFormatter, Serializer};

/// A text of JSON that is being edited.
#[derive(Clone, Debug)]
pub struct JsonEdit {
    text: String,
}

/// One key of an object with its value, as spans of the text.
#[derive(Clone, Debug)]
struct Member {
    /// The key, unescaped.
    name: String,
    /// The key with its quotes.
    key: Range<usize>,
    value: Range<usize>,
}

/// An object of the text.
struct Object {
    /// Where `{` stands.
    open: usize,
    /// Where `}` stands.
    close: usize,
    members: Vec<Member>,
}

impl JsonEdit {
    /// Begins with a text as it is.
    pub fn new(text: &str) -> JsonEdit {
        JsonEdit { text: text.to_owned() }
    }

    /// The text as it is now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of the value at a path of keys; the whole value for the empty path.
    #[cfg(test)]
    pub(crate) fn get(&self, path: &[&str]) -> Option<&str> {
        self.text.get(self.find(path)?)
    }

    /// Puts `value` in the place of what is at the path, or adds its last key; false if there is no object to add it to.
    pub fn set(&mut self, path: &[&str], value: &Value) -> bool {
        let Some((key, parents)) = path.split_last() else { return false };
        let Some(object) = self.object(parents) else { return false };
        match object.last(key) {
            Some(member) => self.replace(&object, member, value),
            None => self.insert(&object, key, value),
        }
        true
    }

    /// Takes the last key of the path out of its object, wherever it is there; false if it is not.
    pub fn remove(&mut self, path: &[&str]) -> bool {
        let Some((key, parents)) = path.split_last() else { return false };
        let mut is_removed = false;
        while let Some(object) = self.object(parents)
            && let Some(at) = object.members.iter().position(|member| member.name == **key)
        {
            self.text.replace_range(object.span_with_comma(at), "");
            is_removed = true;
        }
        is_removed
    }

    /// The bytes of the value at a path.
    fn find(&self, path: &[&str]) -> Option<Range<usize>> {
        let mut scan = Scan::new(&self.text);
        scan.skip_space();
        let mut value = scan.value()?;
        for key in path {
            value = Scan::at(&self.text, value.start).object()?.last(key)?.value.clone();
        }
        Some(value)
    }

    fn object(&self, path: &[&str]) -> Option<Object> {
        Scan::at(&self.text, self.find(path)?.start).object()
    }

    fn replace(&mut self, object: &Object, member: &Member, value: &Value) {
        // A value that stays keeps its spelling.
        if serde_json::from_str::<Value>(&self.text[member.value.clone()]).is_ok_and(|old| old == *value) {
            return;
        }
        let written = written(value, &object.spacing(&self.text));
        self.text.replace_range(member.value.clone(), &written);
    }

    fn insert(&mut self, object: &Object, key: &str, value: &Value) {
        let spacing = object.spacing(&self.text);
        let member = format!("{}{}{}", quoted(key), spacing.colon, written(value, &spacing));
        match object.members.last() {
            Some(last) => self.text.insert_str(last.value.end, &format!(",{}{member}", spacing.between)),
            None => self.text.replace_range(object.open + 1..object.close, &member),
        }
    }
}

/// How the members of an object are spaced.
struct Spacing {
    /// From the comma to the last key.
    between: String,
    /// The colon, with the space around it.
    colon: String,
    /// What a line of a member begins with, if each stands on its own.
    line: Option<String>,
    /// By how much it is further in than the line of the closing brace.
    indent: String,
}

impl Object {
    /// The member that counts.
    fn last(&self, key: &str) -> Option<&Member> {
        self.members.iter().rev().find(|member| member.name == key)
    }

    fn spacing(&self, text: &str) -> Spacing {
        let first = self.members.first().map_or("", |member| &text[self.open + 1..member.key.start]);
        let between = match self.members.as_slice() {
            [.., one, last] => {
                text[one.value.end..last.key.start].split_once(',').map_or("", |(_, after)| after)
            }
            // As behind the brace; on one line a comma has a space behind it where a colon has.
            [one] if first.is_empty() && text[one.key.end..one.value.start].ends_with(' ') => " ",
            _ => first,
        };
        let colon = self.members.last().map_or(": ", |last| &text[last.key.end..last.value.start]);
        let line = first.rsplit_once('\n').map(|(_, line)| line.to_owned());
        let end = self.members.last().map_or("", |last| &text[last.value.end..self.close]);
        let outer = end.rsplit_once('\n').map_or("", |(_, line)| line);
        let indent = line.as_deref().and_then(|line| line.strip_prefix(outer)).unwrap_or("  ");
        Spacing { between: between.to_owned(), colon: colon.to_owned(), indent: indent.to_owned(), line }
    }

    /// The bytes to take out for the member at that place to be gone: with the comma before it, or behind it.
    fn span_with_comma(&self, at: usize) -> Range<usize> {
        let member = &self.members[at];
        match (at.checked_sub(1).map(|before| &self.members[before]), self.members.get(at + 1)) {
            (Some(before), _) => before.value.end..member.value.end,
            (None, Some(next)) => member.key.start..next.key.start,
            (None, None) => self.open + 1..self.close,
        }
    }
}

/// A value as text, over several lines where the members of its object are.
fn written(value: &Value, spacing: &Spacing) -> String {
    let Some(line) = &spacing.line else { return value.to_string() };
    let mut bytes = Vec::new();
    let pretty = PrettyFormatter::with_indent(spacing.indent.as_bytes());
    let done = value.serialize(&mut Serializer::with_formatter(&mut bytes, pretty));
    done.expect("JSON values always serialise");
    let text = String::from_utf8(bytes).expect("JSON is UTF-8");
    text.replace('\n', &format!("\n{line}"))
}

fn quoted(key: &str) -> String {
    Value::from(key).to_string()
}

/// Walks over a text that is known to be JSON, as Python writes it; `None` where it is not.
struct Scan<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Scan<'t> {
    /// At the beginning of a text, behind a byte order mark.
    fn new(text: &'t str) -> Scan<'t> {
        Scan { text, at: text.len() - text.strip_prefix('\u{feff}').unwrap_or(text).len() }
    }

    fn at(text: &'t str, at: usize) -> Scan<'t> {
        Scan { text, at }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// The span of the value that begins here.
    fn value(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' => self.at += 1,
                _ => self.skip_scalar(),
            }
            if depth == 0 {
                return Some(start..self.at);
            }
        }
    }

    fn skip_scalar(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        let is_end = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b'}' | b']');
        self.at += rest.iter().position(is_end).unwrap_or(rest.len()).max(1);
    }

    /// The span of the string that begins here, with its quotes.
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(start..self.at);
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    /// The object that begins here.
    fn object(&mut self) -> Option<Object> {
        let open = self.at;
        self.expect(b'{')?;
        let mut members = Vec::new();
        loop {
            self.skip_space();
            match self.peek()? {
                b'}' => return Some(Object { open, close: self.at, members }),
                b',' => self.at += 1,
                b'"' => members.push(self.member()?),
                _ => return None,
            }
        }
    }

    fn member(&mut self) -> Option<Member> {
        let key = self.string()?;
        let name = serde_json::from_str(self.text.get(key.clone())?).ok()?;
        self.expect(b':')?;
        self.skip_space();
        Some(Member { name, key, value: self.value()? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edited(text: &str, edit: impl FnOnce(&mut JsonEdit) -> bool) -> String {
        let mut json = JsonEdit::new(text);
        assert!(edit(&mut json), "{text}");
        json.text().to_owned()
    }

    #[test]
    fn values_are_found_by_path() {
        let json =
            JsonEdit::new(r#"{"a": {"b,}": [1, "]}\"", {"c": Infinity}] , "d":-1e-06}, "\u0061": {"e": 2}}"#);
        assert_eq!(json.get(&["a", "e"]), Some("2"), "the last of two keys counts, however it is spelled");
        assert_eq!(json.get(&["a", "d"]), None);
        assert_eq!(json.get(&["a", "e", "f"]), None);
        let json =
            JsonEdit::new("\u{feff} {\"a\": {\"b,}\": [1, \"]}\\\"\", {\"c\": Infinity}] , \"d\":-1e-06}}\n");
        assert_eq!(json.get(&["a", "b,}"]), Some(r#"[1, "]}\"", {"c": Infinity}]"#));
        assert_eq!(json.get(&["a", "d"]), Some("-1e-06"));
        assert_eq!(JsonEdit::new("[1]").get(&["a"]), None);
    }

    #[test]
    fn a_value_is_replaced_and_nothing_else() {
        let text = "{\r\n\t\"eps\" : 1e-06,\"big\":1000000000000000019884624838656, \"t\": {\"tied\":true },\"x\":NaN}\n";
        let set = |path: &[&str], value: Value| edited(text, |json| json.set(path, &value));
        assert_eq!(set(&["t", "tied"], json!(false)), text.replace("true", "false"));
        assert_eq!(set(&["big"], json!(7)), text.replace("1000000000000000019884624838656", "7"));
        assert_eq!(set(&["t", "tied"], json!(true)), text, "a value that stays keeps its bytes");
        assert_eq!(edited("{\"a\": 1.0e0}", |json| json.set(&["a"], &json!(1.0))), "{\"a\": 1.0e0}");
        assert!(!JsonEdit::new(text).set(&["eps", "a"], &json!(1)));
        assert!(!JsonEdit::new(text).set(&["none", "a"], &json!(1)));
    }

    #[test]
    fn a_new_key_goes_to_the_end_spaced_as_its_neighbors() {
        for (before, after) in [
            ("{}", r#"{"k": [1,2]}"#),
            ("{ }", r#"{"k": [1,2]}"#),
            (r#"{"a":1}"#, r#"{"a":1,"k":[1,2]}"#),
            (r#"{"a": 1, "b": 2 }"#, r#"{"a": 1, "b": 2, "k": [1,2] }"#),
            ("{\n  \"a\": 1\n}\n", "{\n  \"a\": 1,\n  \"k\": [\n    1,\n    2\n  ]\n}\n"),
            (
                "{\n\t\"a\": 1,\n\t\"b\": 2\n}",
                "{\n\t\"a\": 1,\n\t\"b\": 2,\n\t\"k\": [\n\t\t1,\n\t\t2\n\t]\n}",
            ),
        ] {
            let done = edited(before, |json| json.set(&["k"], &json!([1, 2])));
            assert_eq!(done, after, "{before}");
        }
        let nested = "{\n  \"t\": {\n    \"a\": 1\n  },\n  \"z\": 0\n}";
        let after =
            "{\n  \"t\": {\n    \"a\": 1,\n    \"k\": {\n      \"0\": \"x\"\n    }\n  },\n  \"z\": 0\n}";
        assert_eq!(edited(nested, |json| json.set(&["t", "k"], &json!({"0": "x"}))), after);
    }

    #[test]
    fn a_key_is_removed_with_one_comma() {
        let text = "{\n  \"a\": 1,\n  \"b\": [2, {}],\n  \"c\": 3\n}\n";
        let remove = |key: &str| edited(text, |json| json.remove(&[key]));
        assert_eq!(remove("a"), "{\n  \"b\": [2, {}],\n  \"c\": 3\n}\n");
        assert_eq!(remove("b"), "{\n  \"a\": 1,\n  \"c\": 3\n}\n");
        assert_eq!(remove("c"), "{\n  \"a\": 1,\n  \"b\": [2, {}]\n}\n");
        assert_eq!(edited("{\"t\": { \"a\": 1 }}", |json| json.remove(&["t", "a"])), "{\"t\": {}}");
        assert_eq!(edited("{\"a\":1,\"b\":2,\"a\":3}", |json| json.remove(&["a"])), "{\"b\":2}");
        assert!(!JsonEdit::new(text).remove(&["d"]));
    }

    #[test]
    fn what_is_no_json_is_left_as_it_is() {
        for text in ["", "{", "{\"a", "{\"a\":", "{\"a\": [1", "]", "{1: 2}", "{\"a\\"] {
            let mut json = JsonEdit::new(text);
            assert!(!json.set(&["k"], &json!(1)) && !json.remove(&["a"]), "{text}");
            assert_eq!(json.text(), text);
        }
    }
}
