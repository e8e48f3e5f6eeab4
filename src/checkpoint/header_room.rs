//! Room for headers: the share of a memory budget that those of a base and of all adapters may take together, with what is
//! read of them.

use std::cell::Cell;
use std::path::Path;

use crate::error::Error;
use crate::error::budget::BudgetNeed;
use crate::error::request::RequestError;
use crate::formats::container::{FileHeader, Room};
use crate::tensor::size::Size;

/// Headers may take so much of the budget.
const SHARE: u64 = 2;
/// Headers of this size are read under any budget: one that is too small for them is too small for much else, and only
/// the split can name the minimum.
const LEAST: u64 = 1 << 20;

/// Whose headers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderOf {
    /// A checkpoint's.
    Base,
    /// An adapter's, whose tensors are looked at module by module.
    Adapter,
}

impl HeaderOf {
    /// Memory for each tensor from its header to the plan, beside its name: what it is kept as, what it is found by, and what
    /// reading and planning take for a while.
    fn tensor_bytes(self) -> u64 {
        match self {
            HeaderOf::Base => 136,
            HeaderOf::Adapter => 320,
        }
    }
}

/// The room that is left.
#[derive(Debug)]
pub(crate) struct HeaderRoom<'b> {
    budget: Option<&'b Size>,
    all: u64,
    taken: Cell<u64>,
}

impl<'b> HeaderRoom<'b> {
    /// That of a budget; without one there is room for everything.
    pub(crate) fn of(budget: Option<&'b Size>) -> HeaderRoom<'b> {
        let all = budget.map_or(u64::MAX, |budget| (budget.bytes() / SHARE).max(LEAST));
        HeaderRoom { budget, all, taken: Cell::new(0) }
    }

    /// So many bytes, for a file whose header need not be read.
    pub(crate) fn at_most(bytes: u64) -> HeaderRoom<'b> {
        HeaderRoom { budget: None, all: bytes, taken: Cell::new(0) }
    }

    /// Bytes that are left.
    pub(crate) fn left(&self) -> u64 {
        self.all.saturating_sub(self.taken.get())
    }

    /// The same for a header.
    pub(crate) fn for_header(&self, of: HeaderOf) -> Room {
        Room { bytes: self.left(), tensor_bytes: of.tensor_bytes() }
    }

    /// Takes the room of what is kept of a header: all but its own bytes.
    pub(crate) fn keep(&self, header: &FileHeader, of: HeaderOf) {
        let tensors = header.tensors.iter().map(|tensor| tensor.name.len() as u64 + of.tensor_bytes());
        self.take(tensors.sum::<u64>() + header.like.len() as u64);
    }

    /// Takes so many bytes.
    pub(crate) fn take(&self, bytes: u64) {
        self.taken.set(self.taken.get().saturating_add(bytes));
    }

    /// The refusal of the header of `path`, which takes more than what is left.
    pub(crate) fn refused(&self, path: &Path, bytes: u64) -> Error {
        let all = self.taken.get().saturating_add(bytes).saturating_mul(SHARE);
        let needed = all.checked_next_multiple_of(LEAST).unwrap_or(all);
        let budget = self.budget.cloned().unwrap_or_else(|| self.all.into());
        let what = BudgetNeed::Headers { path: path.to_owned() };
        Error::new(RequestError::Budget { budget, needed, what })
            .hint("headers, and what is read of them, may take half of the budget")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_is_too_small_is_named_as_it_was_typed() -> Result<(), &'static str> {
        let budget = Size::typed("40M")?;
        let room = HeaderRoom::of(Some(&budget));
        assert_eq!(room.left(), 20_000_000);
        room.take(19_999_000);
        assert_eq!(room.left(), 1000);
        assert_eq!(
            room.refused(Path::new("b.safetensors"), 71_000).to_string(),
            "`--max-ram 40M` is too small: 39 MiB is needed for the headers up to that of `b.safetensors`"
        );
        assert_eq!(HeaderRoom::of(None).left(), u64::MAX);
        assert_eq!(HeaderRoom::of(Some(&0.into())).left(), LEAST);
        Ok(())
    }
}
