//! What reductions are for.

/// What must know something of all of a tensor before it is written. The start of a tensor comes first: ops see what it decodes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reduces {
    /// The encoding of what it starts from.
    Start,
    /// The op at this place.
    Op(usize),
}
