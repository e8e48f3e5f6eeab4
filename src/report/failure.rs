//! An error as the user sees it: what, the causes below it, and the cure, as text or as JSON.

use std::error::Error as _;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::error::Error;
use crate::error::claim::ClaimError;
use crate::error::kind::ErrorKind;
use crate::note::printable::push_printable;

use crate::report::terminal::Terminal;

/// Keys of one error that are listed.
const LISTED: usize = 20;

/// Errors alike that are shown before the rest is counted.
const ALIKE: usize = 3;

impl Error {
    /// What the command prints of it: the message, what it is because of, and the hint, each on lines of its own. Several errors
    /// stand one after the other, those alike together.
    pub fn text(&self) -> String {
        text(self, Terminal::default())
    }
}

/// The text of an error, or of several: those alike together, with their hint once.
pub(crate) fn text(error: &Error, terminal: Terminal) -> String {
    let mut all: String = groups(error).iter().map(|group| group_text(group, terminal)).collect();
    if let Some(more) = more(error) {
        let _ = writeln!(all, "  … and {more} more errors");
    }
    all
}

/// Errors that are counted and not kept, if there are any.
fn more(error: &Error) -> Option<usize> {
    let ErrorKind::Several { count } = error.kind() else { return None };
    count.checked_sub(error.each().len()).filter(|more| *more > 0)
}

/// One JSON object for each error that `error` stands for, and one for those that are only counted.
pub(crate) fn json(error: &Error) -> Vec<Value> {
    let unkept = more(error).map(|more| {
        let message = format!("and {more} more errors");
        json!({"event": "error", "exit_code": error.exit_code() as u8, "message": message})
    });
    error.each().iter().map(one_json).chain(unkept).collect()
}

fn one_json(error: &Error) -> Value {
    let mut object = json!({
        "event": "error",
        "exit_code": error.exit_code() as u8,
        "message": error.to_string(),
    });
    let causes = causes(error);
    if !causes.is_empty() {
        object["causes"] = causes.into();
    }
    if let ErrorKind::Claim(error) = error.kind()
        && let Some((_, names)) = error.listed()
    {
        object["keys"] = names.into();
    }
    if let Some(hint) = error.advice() {
        object["hint"] = hint.into();
    }
    object
}

/// What lies below an error, from above.
fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause.to_string());
        next = cause.source();
    }
    causes
}

/// The errors that `error` stands for, those alike together.
fn groups(error: &Error) -> Vec<Vec<&Error>> {
    let mut groups: Vec<Vec<&Error>> = Vec::new();
    for one in error.each() {
        match groups.iter_mut().find(|group| is_alike(group[0], one)) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

/// Whether two errors differ only in what they name.
fn is_alike(one: &Error, other: &Error) -> bool {
    one.kind().is_like(other.kind()) && one.advice() == other.advice()
}

/// The text of errors that are alike.
fn group_text(group: &[&Error], terminal: Terminal) -> String {
    let mut all: String = group.iter().take(ALIKE).map(|error| one_text(error, terminal)).collect();
    if group.len() > ALIKE {
        let _ = writeln!(all, "  … and {} more like it", group.len() - ALIKE);
    }
    if let Some(hint) = group[0].advice() {
        let _ = writeln!(all, "{} {}", terminal.hint(), clean(hint));
    }
    all
}

/// One error's text without its hint, which ends with a newline.
fn one_text(error: &Error, terminal: Terminal) -> String {
    let mut text = format!("{} {}\n", terminal.error(), clean(&error.to_string()));
    for cause in causes(error) {
        let _ = writeln!(text, "  because {}", clean(&cause));
    }
    match error.kind() {
        ErrorKind::Claim(ClaimError::DeltaShape { adapter, factors, .. }) => {
            let _ = writeln!(text, "  from adapter `{}`: {}", clean(adapter), clean(factors));
        }
        ErrorKind::Claim(error) => list(&mut text, error),
        _ => {}
    }
    text
}

/// The names that a message has only the first of.
fn list(text: &mut String, error: &ClaimError) {
    let Some((adapter, names)) = error.listed().filter(|(_, names)| names.len() > 1) else { return };
    let _ = writeln!(text, "  from adapter `{}`:", clean(adapter));
    for name in names.iter().take(LISTED) {
        let _ = writeln!(text, "    {}", clean(name));
    }
    if names.len() > LISTED {
        let _ = writeln!(text, "    … and {} more", names.len() - LISTED);
    }
}

/// Names come from files that may be hostile: control characters are shown as escapes, and no line is endless.
fn clean(text: &str) -> String {
    const MOST: usize = 2000;
    let mut cleaned = String::new();
    for c in text.chars() {
        if cleaned.len() > MOST {
            cleaned.push('…');
            break;
        }
        push_printable(&mut cleaned, c);
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::plan::PlanError;
    use crate::error::storage::StorageError;

    #[test]
    fn an_error_has_its_causes_and_its_cure() {
        let error = Error::new(StorageError::Read { path: "a\u{1b}[2J".into(), offset: 7 })
            .because(std::io::Error::from_raw_os_error(5))
            .hint("look at the disk");
        assert_eq!(
            group_text(&[&error], Terminal::default()),
            "error: cannot read `a\\u{1b}[2J` at byte 7\n  because Input/output error (os error 5)\nhint: look at the disk\n"
        );
    }

    #[test]
    fn words_are_colored_on_a_terminal() {
        let error = Error::new(ErrorKind::Stopped).hint("again");
        let text = text(&error, Terminal { colors: true, ..Terminal::default() });
        assert!(text.starts_with("\u{1b}[1m\u{1b}[31merror:\u{1b}[0m "), "{text:?}");
        assert!(text.contains("\u{1b}[32mhint:\u{1b}[0m again"), "{text:?}");
    }

    #[test]
    fn every_error_is_one_json_object() {
        let error = Error::new(StorageError::Read { path: "a".into(), offset: 7 })
            .because(std::io::Error::from_raw_os_error(5))
            .hint("look at the disk");
        let both =
            Error::all(vec![error, Error::new(StorageError::Missing { what: "shard", path: "b".into() })]);
        let expected = [
            json!({"event": "error", "exit_code": 74, "message": "cannot read `a` at byte 7",
                "causes": ["Input/output error (os error 5)"], "hint": "look at the disk"}),
            json!({"event": "error", "exit_code": 66, "message": "no shard at `b`"}),
        ];
        assert_eq!(crate::report::failure::json(&both.expect_err("two errors")), expected);
    }

    #[test]
    fn many_alike_are_counted() {
        let errors: Vec<Error> = (0..5)
            .map(|i| Error::new(PlanError::TiedBothWays { tensor: format!("t{i}") }).hint("untie"))
            .collect();
        let text = group_text(&errors.iter().collect::<Vec<_>>(), Terminal::default());
        assert_eq!(text.matches("error:").count(), 3);
        assert!(text.ends_with("  … and 2 more like it\nhint: untie\n"), "{text}");
    }
}
