//! What kernels report beside the values they write.

/// What narrowing a run of values met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// Every encoded value is finite. A finite f32 too large for the dtype rounds to infinity, or to NaN where there is none,
    /// and makes this false.
    pub finite: bool,
    /// Number of elements whose bytes differ from those that were there before.
    pub changed: u64,
}

/// What is left of a delta after rounding, as sums over its elements.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RetentionSums {
    /// `⟨Δ, after − before⟩`.
    pub arrived: f64,
    /// `‖Δ‖²`.
    pub squares: f64,
    /// `‖W‖²`, over what would have become of the elements without the delta.
    pub still_squares: f64,
    /// Elements of the delta that are not zero.
    pub nonzero: u64,
    /// Of those, elements that changed nothing.
    pub unchanged: u64,
}
