//! Instruments for tests of stores: one that fails on demand, and the checks that every store passes.

#[cfg(feature = "cloud")]
pub(crate) mod bucket;
pub(crate) mod conformance;
pub(crate) mod faulty;
mod faulty_file;
pub(crate) mod script;
