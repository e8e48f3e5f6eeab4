//! (to be written)
/// (to be written)
pub trait Method {}
