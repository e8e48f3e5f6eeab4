//! What a delta must see of its tensor at once.

/// What an op must see at once, which the schedule turns into the shape of tiles and into passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Any elements, in tiles of any shape.
    Elements,
    /// Whole stored rows.
    Rows,
    /// So many stored rows that follow each other, from the first on, and any columns.
    RowGroups(u64),
    /// The whole tensor.
    Whole,
    /// Any elements, once a reduction over one axis of the delta, of what the tensor starts from, is known. Where a tile
    /// holds all that a position needs it is made inside the tile, else in a pass of its own before the tensor is written.
    Reduction {
        /// The axis whose positions have a result each.
        axis: usize,
        /// How many f64 values are kept for each position.
        values: usize,
    },
}

impl Access {
    /// What it is called; nothing for what any tile has.
    pub(crate) fn needs(self) -> Option<&'static str> {
        match self {
            Access::Elements => None,
            Access::Rows => Some("whole rows"),
            Access::RowGroups(_) => Some("groups of rows"),
            Access::Whole => Some("the whole tensor"),
            Access::Reduction { .. } => Some("norms first"),
        }
    }
}
