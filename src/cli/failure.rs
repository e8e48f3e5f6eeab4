//! An error as the user sees it: what, the causes below it, and the cure.

#![expect(clippy::print_stderr, reason = "errors go to stderr")]

use std::error::Error as _;
use std::fmt::Write;

use crate::error::{Error, ErrorKind};

/// Keys of one error that are listed.
const LISTED: usize = 20;

/// Prints the error, or each of several, with causes and hints.
pub(super) fn show(error: &Error) {
    for one in error.each() {
        eprint!("{}", text(one));
    }
}

/// One error's text, which ends with a newline.
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
    if let Some(hint) = error.advice() {
        let _ = writeln!(text, "hint: {}", clean(hint));
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
            text(&error),
            "error: cannot read `a\\u{1b}[2J` at byte 7\n  because Input/output error (os error 5)\nhint: look at the disk\n"
        );
    }
}
