//! [`Allowance`]: the memory that what is read of one file may take.
//!
//! Text of 55 bytes can become a tensor of 200, so that the length of a file says little of what it takes. A reader asks
//! before it keeps something; once that is refused it keeps nothing more and only counts, so that the refusal can say how much
//! would have been needed.

use std::cell::Cell;

/// Memory that what is read may take, and what it takes or would take.
#[derive(Debug)]
pub(crate) struct Allowance {
    all: u64,
    needed: Cell<u64>,
}

impl Allowance {
    /// So many bytes.
    pub(crate) fn new(all: u64) -> Allowance {
        Allowance { all, needed: Cell::new(0) }
    }

    /// Takes so many bytes; whether they and all before them may be kept.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        self.needed.set(self.needed.get().saturating_add(bytes));
        self.suffices()
    }

    /// Whether nothing was refused.
    pub(crate) fn suffices(&self) -> bool {
        self.needed.get() <= self.all
    }

    /// What was asked for in all.
    pub(crate) fn needed(&self) -> u64 {
        self.needed.get()
    }
}
