//! Words that everything shares: element types, shapes, where a tensor's bytes lie, rectangles of a matrix, and sizes.
//!
//! Nothing here reads a file or knows what a tensor is for.

mod dtype;
mod rect;
mod reference;
mod shape;
pub mod size;

pub use dtype::{Dtype, bytes_of, is_mergeable};
pub use rect::{Rect, View};
pub use reference::{FileId, TensorRef};
pub use shape::Shape;
