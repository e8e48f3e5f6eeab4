//! What is known of factors' values before a run.

/// What is known of a factor's values without the weights: enough to see that a delta has no effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FactorValues {
    /// Whether all are zero.
    pub all_zero: bool,
    /// Whether all are one.
    pub all_one: bool,
}
