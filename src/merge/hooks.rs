//! What only tests ask of a merge: tile buffers of a given size, the reference kernels.

/// Settings that a user never has, each off by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestHooks {
    /// Bytes of a tile buffer and number of tile buffers.
    pub forced: Option<(usize, usize)>,
    /// Bytes from one milestone to the next.
    pub stride: Option<u64>,
    /// Whether to run the reference arithmetic.
    pub scalar: bool,
    /// Whether to go about as if the output could share whole blocks with the base.
    pub shares: bool,
}
