//! Where a tensor's bytes lie.

use serde::{Deserialize, Serialize};

use crate::tensor::dtype::{Dtype, bytes_of};
use crate::tensor::shape::Shape;

/// Index of a file in a plan's list of inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileId(pub u32);

/// A tensor's place in one file. Its elements are row-major; a format with other strides adds them here, and
/// [`crate::ops::placement::Placement`] is the one place that turns an element's index into an offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorRef {
    /// Which of the plan's inputs holds it.
    pub file: FileId,
    /// First byte, counted from the start of the file (not of the data section).
    pub offset: u64,
    /// Element type.
    pub dtype: Dtype,
    /// Shape, slowest axis first.
    pub shape: Shape,
}

impl TensorRef {
    /// Its shape in values, of which an element of some types stands for several.
    pub(crate) fn value_shape(&self) -> Shape {
        if self.dtype.values() == 1 {
            return self.shape.clone();
        }
        let mut axes = self.shape.axes().to_vec();
        if let Some(last) = axes.last_mut() {
            *last = last.saturating_mul(self.dtype.values());
        }
        Shape::new(&axes).unwrap_or_else(|| self.shape.clone())
    }

    /// Length in bytes. Readers of headers have checked that it is whole and lies inside the file.
    pub fn bytes(&self) -> u64 {
        bytes_of(self.dtype, self.shape.elements()).expect("the header reader refuses sizes that overflow")
    }
}
