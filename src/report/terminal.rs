//! What stderr can show: colors, characters beyond ASCII, lines that are drawn again.

use std::io::IsTerminal;

use clap::builder::styling::{AnsiColor, Style as Ansi};

/// Columns of a terminal that does not tell.
const USUAL_COLUMNS: usize = 80;

/// The abilities of the place where notes, progress and errors go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Whether words may be colored.
    pub colors: bool,
    /// Whether characters beyond ASCII come out right.
    pub unicode: bool,
    /// Whether a line can be drawn again.
    pub redraws: bool,
}

impl Terminal {
    /// What this process's stderr can show.
    pub fn of_stderr() -> Terminal {
        let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Terminal::new(std::io::stderr().is_terminal(), &variable)
    }

    /// The same by environment variables: `NO_COLOR` and `TERM` for colors, `LC_ALL`, `LC_CTYPE` and `LANG`, of which the
    /// first that is set counts, for characters.
    fn new(is_terminal: bool, variable: &dyn Fn(&str) -> Option<String>) -> Terminal {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let is_able = is_terminal && set("TERM").is_some_and(|term| term != "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        Terminal {
            colors: is_able && set("NO_COLOR").is_none(),
            unicode: is_able && (locale.contains("utf-8") || locale.contains("utf8")),
            redraws: is_able,
        }
    }

    /// Columns of the terminal now.
    pub(crate) fn columns() -> usize {
        columns().filter(|&columns| columns > 0).unwrap_or(USUAL_COLUMNS)
    }

    /// `error:` as clap has it.
    pub(crate) fn error(self) -> String {
        self.styled("error:", Ansi::new().fg_color(Some(AnsiColor::Red.into())).bold())
    }

    /// `hint:` as clap has its `tip:`.
    pub(crate) fn hint(self) -> String {
        self.styled("hint:", Ansi::new().fg_color(Some(AnsiColor::Green.into())))
    }

    /// `note:` in bold.
    pub(crate) fn note(self) -> String {
        self.styled("note:", Ansi::new().bold())
    }

    fn styled(self, word: &str, style: Ansi) -> String {
        if self.colors { format!("{style}{word}{style:#}") } else { word.to_owned() }
    }
}

#[cfg(unix)]
fn columns() -> Option<usize> {
    rustix::termios::tcgetwinsize(std::io::stderr()).ok().map(|size| size.ws_col.into())
}

#[cfg(not(unix))]
fn columns() -> Option<usize> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(is_terminal: bool, variables: &[(&str, &str)]) -> Terminal {
        let value = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Terminal::new(is_terminal, &value)
    }

    #[test]
    fn abilities_follow_the_environment() {
        let able = ("TERM", "xterm-256color");
        let utf8 = ("LANG", "de_DE.UTF-8");
        let all = Terminal { colors: true, unicode: true, redraws: true };
        for (is_terminal, variables, expected) in [
            (true, &[able, utf8][..], all),
            (true, &[able, utf8, ("NO_COLOR", "")], all),
            (true, &[able, utf8, ("NO_COLOR", "1")], Terminal { colors: false, ..all }),
            (true, &[able, utf8, ("LC_ALL", "C")], Terminal { unicode: false, ..all }),
            (true, &[able, ("LC_CTYPE", "C.utf8")], all),
            (true, &[able], Terminal { unicode: false, ..all }),
            (true, &[("TERM", "dumb"), utf8], Terminal::default()),
            (true, &[utf8], Terminal::default()),
            (false, &[able, utf8], Terminal::default()),
        ] {
            assert_eq!(with(is_terminal, variables), expected, "{is_terminal} {variables:?}");
        }
    }

    #[test]
    fn words_are_plain_where_colors_are_off() {
        let terminal = Terminal::default();
        assert_eq!([terminal.error(), terminal.hint(), terminal.note()], ["error:", "hint:", "note:"]);
        let terminal = Terminal { colors: true, ..terminal };
        assert_eq!(terminal.error(), "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m");
    }
}
