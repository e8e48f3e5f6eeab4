//! How much the user wants to see, and in which form.
//!
//! ```
//! use shardfold::{Cancel, Style, Terminal, choose};
//!
//! let quiet = choose(Style::Quiet, Terminal::default(), &Cancel::default());
//! drop(quiet);
//! ```

/// What the user wants to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A bar on a terminal, else a line now and then.
    Human,
    /// The same, and how the budget is spent.
    Verbose,
    /// JSON objects.
    Json,
    /// Errors only.
    Quiet,
}
