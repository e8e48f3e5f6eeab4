//! The shape of the text: a label and what it labels, tables of groups, and numbers.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::tensor::dtype::Dtype;
use crate::tensor::shape::Shape;

use crate::inspect::group::{Group, group, printable};

/// One line: a label in a column of its own, and text, in which control characters are shown as escapes.
pub(crate) fn line(f: &mut fmt::Formatter<'_>, label: &str, text: &str) -> fmt::Result {
    writeln!(f, "{label:<11}{}", printable(text))
}

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
    let items = tensors.into_iter().map(|(name, dtype, shape)| (name, Stored { dtype, shape }));
    let row = |group: &Group<Stored<'_>>| Row {
        name: group.to_string(),
        count: group.count(),
        cells: vec![group.kind.to_string()],
    };
    Rows(group(items).iter().map(row).collect())
}

/// How a tensor is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stored<'t> {
    dtype: Dtype,
    shape: &'t Shape,
}

impl Hash for Stored<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // `Dtype` has no hash of its own; those of one size and shape are rare enough.
        self.dtype.bitsize().hash(state);
        self.shape.hash(state);
    }
}

impl fmt::Display for Stored<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.dtype, self.shape)
    }
}

/// Digits in groups of three: `8,030,261,248`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of things, and the word for one or for several.
pub(crate) fn counted(n: impl TryInto<u64>, [one, several]: [&str; 2]) -> String {
    let n = n.try_into().unwrap_or(u64::MAX);
    format!("{} {}", grouped(n), if n == 1 { one } else { several })
}

/// Four significant digits: `0.01234`, `12.30`, `1234`, `1.234e-7`; zero is `0`.
pub(crate) fn short(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e6).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = (3 - size.log10().floor() as i32).max(0) as usize;
    format!("{value:.decimals$}")
}

/// The same without zeros at the end: `0.5`, `2`.
pub(crate) fn shorter(value: f64) -> String {
    let text = short(value);
    let has_zeros = text.contains('.') && !text.contains('e');
    if has_zeros { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_threes() {
        for (n, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (8_030_261_248, "8,030,261,248")] {
            assert_eq!(grouped(n), text);
        }
    }

    #[test]
    fn numbers_have_four_digits() {
        for (value, text, cut) in [
            (0.0, "0", "0"),
            (2.0, "2.000", "2"),
            (-0.5, "-0.5000", "-0.5"),
            (0.012_346, "0.01235", "0.01235"),
            (12.301, "12.30", "12.3"),
            (120_000.0, "120000", "120000"),
            (1.230_1e-7, "1.230e-7", "1.230e-7"),
            (1e6, "1.000e6", "1.000e6"),
        ] {
            assert_eq!((short(value).as_str(), shorter(value).as_str()), (text, cut));
        }
    }

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
