//! Rooms of the crate in their order.

/// The rooms from top to bottom: each may import from those below it.
pub struct Layers {
    /// Rooms of one level do not know each other. A room is a module, or a module inside one, as `report::note`.
    pub levels: &'static [&'static [&'static str]],
    /// Pairs of one level of which the first may import the second, with the reason.
    pub beside: &'static [(&'static str, &'static str, &'static str)],
}

/// What the crate keeps to.
pub const LAYERS: Layers = Layers {
    levels: &[
        &["cli"],
        &["merge", "verify", "diff", "extract"],
        &["publish", "report"],
        &["inspect", "pipeline"],
        &["schedule", "undo"],
        &["plan"],
        &["adapters"],
        &["model"],
        &["checkpoint"],
        &["ops"],
        &["encodings", "formats", "hub", "storage", "memory", "linear"],
        &["kernels"],
        &["cancel"],
        &["tensor", "error", "note", "threads"],
    ],
    beside: &[
        ("error", "tensor", "an error carries the shapes and dtypes that disagree"),
        ("note", "error", "an adapter without effect is refused or noted for one reason"),
        ("verify", "merge", "what a directory should be is what a merge of its inputs gives"),
        ("diff", "merge", "values of checkpoints are read as those of a merge"),
        ("extract", "merge", "values of checkpoints are read as those of a merge"),
        ("extract", "diff", "what is extracted is what differs"),
        ("diff", "verify", "what differs by rounding is one thing"),
        ("hub", "storage", "a repo id leads to a location in a store"),
    ],
};
