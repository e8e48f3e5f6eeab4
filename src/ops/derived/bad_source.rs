//! What a recipe says of a source.

/// A source whose values cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadSource {
    /// Which, by its place among the sources.
    pub(crate) source: usize,
    /// What is wrong with them.
    pub(crate) why: &'static str,
}
