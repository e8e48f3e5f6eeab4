//! Comparing checkpoints: `folder.rs` finds tensors, `number.rs` reads elements, `elements.rs` compares two tensors,
//! `report.rs` gathers and words what was found. Two buffers of 4 MiB hold all the data there is in memory.

mod elements;
mod folder;
mod number;
mod report;

use std::error::Error;
use std::path::Path;

pub(crate) use report::Report;

use elements::{Buffers, Side};
use folder::{Checkpoint, Located};
use number::Number;

/// Everything here fails with a message for the developer who called it.
type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What counts as equal.
#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) dtype_aware: bool,
    pub(crate) max_ulp: Option<u64>,
}

/// Compares all tensors of two checkpoints, in the order of their names.
pub(crate) fn compare(a: &Path, b: &Path, options: Options) -> Result<Report> {
    let (a, b) = (Checkpoint::open(a)?, Checkpoint::open(b)?);
    let mut report = Report::new(&a, &b, options);
    let mut buffers = Buffers::default();
    for (name, left) in &a.tensors {
        match b.tensors.get(name) {
            None => report.mismatches.push(format!("only in A: `{name}` {left}")),
            Some(right) if !is_comparable(left, right, options) => {
                report.mismatches.push(format!("`{name}` is {left} in A, {right} in B"));
            }
            Some(right) => {
                let sides = [Side::new(&a, left)?, Side::new(&b, right)?];
                let difference =
                    elements::compare(&sides, &mut buffers).map_err(|error| format!("`{name}`: {error}"))?;
                report.add(name, difference);
            }
        }
    }
    for (name, right) in b.tensors.iter().filter(|(name, _)| !a.tensors.contains_key(*name)) {
        report.mismatches.push(format!("only in B: `{name}` {right}"));
    }
    Ok(report)
}

/// Whether two tensors of one name can be held against each other.
fn is_comparable(left: &Located, right: &Located, options: Options) -> bool {
    let dtypes_fit = left.dtype == right.dtype
        || options.dtype_aware && Number::narrower(left.dtype, right.dtype).is_some();
    left.shape == right.shape && dtypes_fit
}
