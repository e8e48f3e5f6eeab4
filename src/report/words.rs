//! Labels, names and numbers as every text of shardfold writes them.

use std::fmt;

use crate::note::printable::push_printable;
use crate::tensor::size::show_size;

/// One line: a label in a column of its own, and text, in which control characters are shown as escapes.
pub(crate) fn line(f: &mut dyn fmt::Write, label: &str, text: &str) -> fmt::Result {
    writeln!(f, "{label:<11}{}", printable(text))
}

/// A text with names from files, with control characters as escapes: it goes to a terminal.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|c| push_printable(&mut shown, c));
    shown
}

/// The peak of a process's memory, which only Linux tells, and only where `/proc` is mounted; else it is 0.
pub(crate) fn peak_rss(bytes: u64) -> String {
    if bytes == 0 { "peak RSS unknown".to_owned() } else { format!("peak RSS {}", show_size(bytes)) }
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
    let has_fraction = text.contains('.') && !text.contains('e');
    if has_fraction { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
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
    fn a_peak_that_nobody_tells_is_no_number() {
        assert_eq!(peak_rss(0), "peak RSS unknown");
        assert_eq!(peak_rss(12 << 20), "peak RSS 12 MiB");
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
}
