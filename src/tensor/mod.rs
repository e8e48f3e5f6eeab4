//! Words that everything shares: element types, shapes, where a tensor's bytes lie, rectangles of a matrix, and sizes.
//!
//! Nothing here reads a file or knows what a tensor is for.

pub(crate) mod dtype;
pub(crate) mod label;
pub(crate) mod name;
pub(crate) mod name_index;
pub(crate) mod numbers;
pub(crate) mod rect;
pub(crate) mod reference;
pub(crate) mod shape;
pub(crate) mod size;
