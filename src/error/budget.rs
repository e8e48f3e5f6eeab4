//! What a memory budget is too small for.

use std::fmt;
use std::path::PathBuf;

use crate::tensor::size::show_size;

/// What a memory budget is too small for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(
    missing_docs,
    reason = "the message above each variant says what it is, and its fields are the message's values"
)]
pub enum BudgetNeed {
    #[error("the headers up to that of `{}`", path.display())]
    Headers { path: PathBuf },
    #[error("tile buffers of `{tensor}`")]
    Tile { tensor: String },
    #[error("factors that are made of several tensors before the merge")]
    Factors,
    #[error("tile buffers that the system would not map")]
    Unmapped,
    #[error("baseline RSS ({}), {largest} and the rest ({})", show_size(*baseline), show_size(*rest))]
    Merge { baseline: u64, largest: BudgetPart, rest: u64 },
}

/// A part of a memory budget: what it is of, how large, and the tensor that it is so large for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetPart {
    /// What it is of.
    pub what: &'static str,
    /// How many of them, where they are counted.
    pub count: Option<u64>,
    /// Bytes of all.
    pub bytes: u64,
    /// The tensor, where one decides.
    pub tensor: Option<String>,
}

impl fmt::Display for BudgetPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(count) = self.count {
            write!(f, "{count} ")?;
        }
        write!(f, "{}", self.what)?;
        match &self.tensor {
            Some(tensor) => write!(f, " ({}, for `{tensor}`)", show_size(self.bytes)),
            None => write!(f, " ({})", show_size(self.bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_part_is_named_with_its_tensor() {
        let merge = |count, tensor: Option<&str>| {
            let tensor = tensor.map(str::to_owned);
            let largest = BudgetPart { what: "tile buffers", count, bytes: 4 << 20, tensor };
            BudgetNeed::Merge { baseline: 20 << 20, largest, rest: 1 << 20 }.to_string()
        };
        assert_eq!(
            merge(Some(3), Some("a.weight")),
            "baseline RSS (20 MiB), 3 tile buffers (4 MiB, for `a.weight`) and the rest (1 MiB)"
        );
        assert_eq!(merge(None, None), "baseline RSS (20 MiB), tile buffers (4 MiB) and the rest (1 MiB)");
    }
}
