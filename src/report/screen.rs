//! Stderr as indicatif draws on it, a little narrower than it is.

use std::io::{self, Write};

use indicatif::TermLike;

use crate::report::terminal::Terminal;

/// Columns at the end that stay empty. indicatif fills a line to its end, where the `^C` that a terminal echoes would begin
/// a line of its own, which nothing clears: two of them have room here.
const SPARE: usize = 5;

/// Stderr.
#[derive(Debug)]
pub(crate) struct Screen;

impl Screen {
    /// Columns to draw on.
    pub(crate) fn columns() -> usize {
        Terminal::columns().saturating_sub(SPARE).max(1)
    }
}

/// Moves the cursor so far in a direction, by the final letter of the control sequence.
fn go(n: usize, direction: char) -> io::Result<()> {
    if n == 0 { Ok(()) } else { write!(io::stderr(), "\u{1b}[{n}{direction}") }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        Screen::columns().try_into().unwrap_or(u16::MAX)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        go(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        writeln!(io::stderr(), "{text}")
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        write!(io::stderr(), "{text}")
    }

    fn clear_line(&self) -> io::Result<()> {
        write!(io::stderr(), "\r\u{1b}[2K")
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}
