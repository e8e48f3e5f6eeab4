//! Names and values from files as they are shown: what a terminal would obey, and what nobody would see, are escapes.

/// `c` where it shows as itself, else its escape.
pub(crate) fn push_printable(text: &mut String, c: char) {
    if is_hidden(c) { text.extend(c.escape_default()) } else { text.push(c) }
}

/// Whether a character is a control, or changes how others are shown without being seen: the direction of a text, joints of
/// no width, separators of lines. With these a name can look like another.
pub(crate) fn is_hidden(c: char) -> bool {
    let is_formatting = matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    c.is_control() || is_formatting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_shown() {
        let mut shown = String::new();
        "a\u{1b}[2J\n\u{202e}é中\u{200b}\u{7f}\u{9b}".chars().for_each(|c| push_printable(&mut shown, c));
        assert_eq!(shown, "a\\u{1b}[2J\\n\\u{202e}é中\\u{200b}\\u{7f}\\u{9b}");
    }
}
