//! A shape whose number of elements is known to fit 64 bits.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Sizes of the axes, slowest first. Rank 0 is a scalar with one element.
///
/// Clones share the sizes, and so do the equal shapes of a file ([`SharedShapes`]): planning for 92,000 tensors holds 300,000
/// shapes at once, and few of them differ.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(Arc<SmallVec<[u64; 3]>>);

impl Shape {
    /// A shape, or `None` if its number of elements does not fit 64 bits, or that of some of its axes: beside an axis of 0 the
    /// others may be anything in a file of no bytes, and products of them are taken.
    pub fn new(axes: &[u64]) -> Option<Shape> {
        axes.iter().filter(|&&axis| axis > 0).try_fold(1u64, |n, &axis| n.checked_mul(axis))?;
        Some(Shape(Arc::new(SmallVec::from_slice(axes))))
    }

    /// Number of elements; cannot overflow, as `new` checked it.
    pub fn elements(&self) -> u64 {
        self.0.iter().product()
    }

    /// The axes, slowest first.
    pub fn axes(&self) -> &[u64] {
        &self.0
    }
}

/// Shapes that were seen, each held once.
#[derive(Debug, Default)]
pub(crate) struct SharedShapes(HashSet<Shape>);

impl SharedShapes {
    /// The first that was seen of those that equal `shape`.
    pub(crate) fn first(&mut self, shape: Shape) -> Shape {
        if let Some(first) = self.0.get(&shape) {
            return first.clone();
        }
        self.0.insert(shape.clone());
        shape
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, axis) in self.0.iter().enumerate() {
            write!(f, "{}{axis}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_prints() {
        let shape = Shape::new(&[4096, 11008]).expect("fits");
        assert_eq!((shape.elements(), shape.to_string().as_str()), (45_088_768, "[4096, 11008]"));
        assert_eq!(Shape::new(&[]).expect("a scalar").elements(), 1);
        assert_eq!(Shape::new(&[7, 0]).expect("empty").elements(), 0);
        assert!(Shape::new(&[u64::MAX, 2]).is_none());
        assert!(Shape::new(&[0, u64::MAX, 2]).is_none() && Shape::new(&[0, u64::MAX]).is_some());
    }
}
