//! The one table of `plan`, `inspect` and the summary: a row for each group of names, with its size and what its members
//! have in common in columns.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

use crate::report::groups::{Group, group};

/// Rows that are shown before the rest is counted: models have far fewer kinds of tensor.
const ROWS_SHOWN: usize = 120;
/// Names are padded to the longest, but not further than this.
const WIDEST_NAME: usize = 72;

/// A table of groups.
pub(crate) struct Rows(pub(crate) Vec<Row>);

/// One row: the pattern of a group, the number of its members, and what they are, in columns.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) count: String,
    pub(crate) cells: Vec<String>,
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(ROWS_SHOWN)];
        let width = |text: &str| text.chars().count();
        let names = shown.iter().map(|row| width(&row.name)).filter(|&width| width <= WIDEST_NAME);
        let name_width = names.max().unwrap_or(0);
        let count_width = shown.iter().map(|row| width(&row.count)).max().unwrap_or(0);
        let mut widths: Vec<usize> = Vec::new();
        for row in shown {
            widths.resize(widths.len().max(row.cells.len()), 0);
            for (widest, cell) in widths.iter_mut().zip(&row.cells) {
                *widest = (*widest).max(width(cell));
            }
        }
        for Row { name, count, cells } in shown {
            let cells = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            let cells = cells.collect::<Vec<_>>().join("  ");
            writeln!(f, "  {name:<name_width$}  {count:>count_width$} × {}", cells.trim_end())?;
        }
        match self.0.len() - shown.len() {
            0 => Ok(()),
            more => writeln!(f, "  … and {more} more lines (`--json` lists every name)"),
        }
    }
}

/// A table of tensors, in which those of one dtype and shape whose names differ in numbers only are one row.
pub(crate) fn tensors<'t>(tensors: impl IntoIterator<Item = (&'t str, Dtype, &'t Shape)>) -> Rows {
    let items = tensors.into_iter().map(|(name, dtype, shape)| (name, StoredTensor { dtype, shape }));
    let row = |group: &Group<StoredTensor<'_>>| Row {
        name: group.to_string(),
        count: group.count(),
        cells: vec![group.kind.to_string()],
    };
    Rows(group(items).iter().map(row).collect())
}

/// How a tensor is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
struct StoredTensor<'t> {
    dtype: Dtype,
    shape: &'t Shape,
}

impl Hash for StoredTensor<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // `Dtype` has no hash of its own; those of one size and shape are rare enough.
        self.dtype.bitsize().hash(state);
        self.shape.hash(state);
    }
}

impl fmt::Display for StoredTensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_tables_are_cut() {
        let row =
            |i| Row { name: format!("n{i}"), count: "1".into(), cells: vec!["F32".into(), String::new()] };
        let rows = Rows((0..200).map(row).collect());
        let text = rows.to_string();
        assert_eq!(text.lines().count(), ROWS_SHOWN + 1);
        assert!(text.ends_with("… and 80 more lines (`--json` lists every name)\n"), "{text}");
        assert!(text.starts_with("  n0    1 × F32\n"), "{text}");
    }
}
