//! An error as the user sees it: what, the causes below it, and the cure.

#![expect(clippy::print_stderr, reason = "errors go to stderr")]

use std::error::Error as _;
use std::fmt::Write;

use crate::error::{Error, ErrorKind};

/// Keys of one error that are listed.
const LISTED: usize = 20;

/// Errors alike that are shown before the rest is counted.
const ALIKE: usize = 3;

/// Prints the error, or several: those alike together, with their hint once.
pub(super) fn show(error: &Error) {
    let mut groups: Vec<Vec<&Error>> = Vec::new();
    for one in error.each() {
        match groups.iter_mut().find(|group| is_alike(group[0], one)) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    for group in groups {
        eprint!("{}", group_text(&group));
    }
}

/// Whether two errors differ only in what they name.
fn is_alike(one: &Error, other: &Error) -> bool {
    std::mem::discriminant(one.kind()) == std::mem::discriminant(other.kind())
        && one.advice() == other.advice()
}

/// The text of errors that are alike.
fn group_text(group: &[&Error]) -> String {
    let mut all: String = group.iter().take(ALIKE).map(|error| text(error)).collect();
    if group.len() > ALIKE {
        let _ = writeln!(all, "  … and {} more like it", group.len() - ALIKE);
    }
    if let Some(hint) = group[0].advice() {
        let _ = writeln!(all, "hint: {}", clean(hint));
    }
    all
}

/// One error's text without its hint, which ends with a newline.
fn text(error: &Error) -> String {
    let mut text = format!("error: {}\n", clean(&error.to_string()));
    let mut cause = error.source();
    while let Some(below) = cause {
        let _ = writeln!(text, "  because {}", clean(&below.to_string()));
        cause = below.source();
    }
    match error.kind() {
        ErrorKind::DeltaShape { adapter, factors, .. } => {
            let _ = writeln!(text, "  from adapter `{}`: {}", clean(adapter), clean(factors));
        }
        ErrorKind::Unmatched { adapter, keys, .. } if keys.len() > 1 => {
            let _ = writeln!(text, "  from adapter `{}`:", clean(adapter));
            for key in keys.iter().take(LISTED) {
                let _ = writeln!(text, "    {}", clean(key));
            }
            if keys.len() > LISTED {
                let _ = writeln!(text, "    … and {} more", keys.len() - LISTED);
            }
        }
        _ => {}
    }
    text
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
        if c.is_control() {
            cleaned.extend(c.escape_default());
        } else {
            cleaned.push(c);
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_causes_and_its_cure() {
        let error = Error::new(ErrorKind::Read { path: "a\u{1b}[2J".into(), offset: 7 })
            .because(std::io::Error::from_raw_os_error(5))
            .hint("look at the disk");
        assert_eq!(
            group_text(&[&error]),
            "error: cannot read `a\\u{1b}[2J` at byte 7\n  because Input/output error (os error 5)\nhint: look at the disk\n"
        );
    }

    #[test]
    fn many_alike_are_counted() {
        let errors: Vec<Error> = (0..5)
            .map(|i| Error::new(ErrorKind::TiedBothWays { tensor: format!("t{i}") }).hint("untie"))
            .collect();
        let text = group_text(&errors.iter().collect::<Vec<_>>());
        assert_eq!(text.matches("error:").count(), 3);
        assert!(text.ends_with("  … and 2 more like it\nhint: untie\n"), "{text}");
    }
}
