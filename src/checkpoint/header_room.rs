//! Room for headers: the share of a memory budget that those of a checkpoint, or of an adapter, may take together.

use std::path::Path;

use crate::error::Error;
use crate::error::budget::BudgetNeed;
use crate::error::request::RequestError;
use crate::tensor::size::Size;

/// Headers may take so much of the budget.
const SHARE: u64 = 4;
/// Headers of this size are read under any budget: one that is too small for them is too small for much else, and only
/// the split can name the minimum.
const LEAST: u64 = 1 << 20;

/// The room that is left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderRoom<'b> {
    budget: Option<&'b Size>,
    all: u64,
    taken: u64,
}

impl<'b> HeaderRoom<'b> {
    /// That of a budget; without one there is room for everything.
    pub(crate) fn of(budget: Option<&'b Size>) -> HeaderRoom<'b> {
        let all = budget.map_or(u64::MAX, |budget| (budget.bytes() / SHARE).max(LEAST));
        HeaderRoom { budget, all, taken: 0 }
    }

    /// So many bytes, for a file whose header need not be read.
    pub(crate) fn at_most(bytes: u64) -> HeaderRoom<'b> {
        HeaderRoom { budget: None, all: bytes, taken: 0 }
    }

    /// Bytes that are left.
    pub(crate) fn left(&self) -> u64 {
        self.all.saturating_sub(self.taken)
    }

    /// Takes the room of a header.
    pub(crate) fn take(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
    }

    /// The refusal of the header of `path`, which is longer than what is left.
    pub(crate) fn refused(&self, path: &Path, bytes: u64) -> Error {
        let all = self.taken.saturating_add(bytes).saturating_mul(SHARE);
        let needed = all.checked_next_multiple_of(LEAST).unwrap_or(all);
        let budget = self.budget.cloned().unwrap_or_else(|| self.all.into());
        let what = BudgetNeed::Headers { path: path.to_owned() };
        Error::new(RequestError::Budget { budget, needed, what })
            .hint("headers may take a quarter of the budget")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_is_too_small_is_named_as_it_was_typed() -> Result<(), &'static str> {
        let budget = Size::typed("40M")?;
        let mut room = HeaderRoom::of(Some(&budget));
        assert_eq!(room.left(), 10_000_000);
        room.take(9_999_000);
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
