//! Numbers of bytes as people type and read them: the one formatter of sizes and rates.
//!
//! `16G` is what Kubernetes reads it as, 16·10⁹ bytes, and `16Gi` is 16·2³⁰; Slurm's `--mem=16G` is the larger of the
//! two, so a limit copied from a job script is never passed. Sizes and rates are shown in powers of two, so that no line
//! mixes two kinds of unit; a [`Size`] that was typed is shown as it was typed.
//!
//! ```
//! use shardfold::Size;
//! use shardfold::testing::{parse_size, show_size};
//!
//! assert_eq!(parse_size("1.5GiB"), Ok(3 << 29));
//! assert_eq!(show_size(3 << 29), "1.5 GiB");
//! assert_eq!(Size::typed("16G").map(|size| size.to_string()), Ok("16G".to_owned()));
//! ```

use std::fmt;

use bytesize::ByteSize;
use serde::{Serialize, Serializer};

/// No size is larger than this: above it `bytesize` may have saturated, and nobody has an exbibyte.
const MOST: u64 = 1 << 60;
/// Units of sizes, each 1024 times the one before.
const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
/// From this unit on a tenth is worth showing whatever stands before it.
const GIB: usize = 3;

/// The one text about what a size looks like.
const ACCEPTED: &str = "expected a size such as `16G` (16·10⁹ bytes), `16GiB` or `16Gi` (16·2³⁰), `1.5G`, or a number of bytes; \
                        units are K, M, G, T, P";

/// A number of bytes that remembers how the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Size {
    bytes: u64,
    typed: Option<String>,
}

impl Size {
    /// Reads a size and keeps its text.
    ///
    /// # Errors
    /// As `parse_size`.
    pub fn typed(text: &str) -> Result<Size, &'static str> {
        let text = text.trim();
        Ok(Size { bytes: parse_size(text)?, typed: Some(text.to_owned()) })
    }

    /// The text it was typed as, if it was.
    pub fn as_typed(&self) -> Option<&str> {
        self.typed.as_deref()
    }

    /// The number of bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl From<u64> for Size {
    fn from(bytes: u64) -> Size {
        Size { bytes, typed: None }
    }
}

/// As it was typed, else as `show_size` has it.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.typed {
            Some(text) => f.write_str(text),
            None => f.write_str(&show_size(self.bytes)),
        }
    }
}

/// A plain number of bytes.
impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.bytes)
    }
}

/// Reads a size in bytes, from 0 to 2⁶⁰.
///
/// A number of bytes, or a number, perhaps with a fraction, and a unit in any case: `K`, `M`, `G`, `T`, `P` with or
/// without `B` are powers of 1000, with `i` (`Ki`, `KiB`) powers of 1024. A fraction of a byte is cut off.
///
/// # Errors
/// What would be accepted. The text does not repeat the input: the caller names flag and value.
pub fn parse_size(text: &str) -> Result<u64, &'static str> {
    let text = text.trim();
    // `bytesize` takes a leading `+`, and its error texts speak of its own types.
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(ACCEPTED);
    }
    let ByteSize(bytes) = text.parse().map_err(|_| ACCEPTED)?;
    if bytes > MOST { Err("expected at most 1 EiB (2^60 bytes)") } else { Ok(bytes) }
}

/// Writes `bytes` in the largest binary unit that fits: `512 B`, `94 MiB`, `1.1 GiB`.
///
/// A tenth is shown below ten of a unit and from GiB on, where it matters.
pub fn show_size(bytes: u64) -> String {
    let [number, unit] = number_and_unit(bytes);
    format!("{number} {unit}")
}

/// The same without a space, and never less than `bytes`: a value to copy behind a flag.
pub(crate) fn flag_size(bytes: u64) -> String {
    let power = (bytes.max(1).ilog2() as usize / 10).min(2);
    format!("{}{}", bytes.div_ceil(1 << (10 * power)), UNITS[power])
}

fn number_and_unit(bytes: u64) -> [String; 2] {
    let tenths_of = |power: usize| {
        let unit = 1_u128 << (10 * power);
        (u128::from(bytes) * 10 + unit / 2) / unit
    };
    // Rounding comes before the choice of unit, so that just under 1 MiB is not called 1024 KiB.
    let last = UNITS.len() - 1;
    let power = (0..last).find(|&power| tenths_of(power) < 10_235).unwrap_or(last);
    let tenths = tenths_of(power);
    let has_tenth = power > 0 && (tenths < 100 || power >= GIB) && tenths % 10 != 0;
    let number =
        if has_tenth { format!("{}.{}", tenths / 10, tenths % 10) } else { ((tenths + 5) / 10).to_string() };
    [number, UNITS[power].to_owned()]
}

/// Writes a rate as `show_size` writes sizes: `1.3 GiB/s`, `30 MiB/s`.
///
/// What is not a positive number (no time has passed yet) reads `0 B/s`.
pub(crate) fn show_rate(bytes_per_second: f64) -> String {
    let rate = if bytes_per_second.is_finite() { bytes_per_second.max(0.0) } else { 0.0 };
    format!("{}/s", show_size(rate.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_type() {
        let sizes = [
            ("0", 0),
            ("4096", 4096),
            ("16B", 16),
            ("16G", 16_000_000_000),
            ("16GB", 16_000_000_000),
            ("16g", 16_000_000_000),
            ("16GiB", 16 << 30),
            ("16Gi", 16 << 30),
            ("16gib", 16 << 30),
            ("  64 MiB ", 64 << 20),
            ("1.5G", 1_500_000_000),
            (".5Ki", 512),
            ("3k", 3000),
            ("2T", 2_000_000_000_000),
            ("2Ti", 2 << 40),
            ("1P", 1_000_000_000_000_000),
            ("1PiB", 1 << 50),
            ("1EiB", 1 << 60),
            ("9007199254740993B", 9_007_199_254_740_993),
        ];
        for (text, bytes) in sizes {
            assert_eq!(parse_size(text), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn refuses_the_rest_and_says_what_is_accepted() {
        let texts = [
            "", "  ", "-1", "-5G", "+5G", "NaN", "inf", "G", ".", "1.2.3G", "1.5", "1e9", "16X", "16GG",
            "0x10", "1_000", "1,5G", "１６G", "16G🦀", "16 G B",
        ];
        for text in texts {
            let error = parse_size(text).expect_err(text);
            assert!(error.contains("`16GiB`") && error.contains("K, M, G, T, P"), "{text:?}: {error}");
        }
    }

    #[test]
    fn refuses_what_bytesize_would_saturate() {
        for text in
            ["1152921504606846977", "18446744073709551615", "17EiB", "99999P", "99999999999999999999999G"]
        {
            assert_eq!(parse_size(text).expect_err(text), "expected at most 1 EiB (2^60 bytes)");
        }
        // Beyond u64 and without a unit it is no number of bytes to `bytesize`.
        assert!(parse_size("18446744073709551616").is_err());
    }

    #[test]
    fn shows_sizes_with_one_decimal_at_most() {
        let sizes = [
            (0, "0 B"),
            (512, "512 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (64 << 20, "64 MiB"),
            (98_880_000, "94 MiB"),
            (7_235_174, "6.9 MiB"),
            (1_181_116_006, "1.1 GiB"),
            (25_340_000_000, "23.6 GiB"),
            ((1 << 20) - 1, "1 MiB"),
            ((1 << 30) - (1 << 20), "1023 MiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(show_size(bytes), text);
        }
    }

    #[test]
    fn a_size_to_copy_is_enough() {
        for (bytes, text) in
            [(0, "0B"), (1, "1B"), (1025, "2KiB"), (15 << 20, "15MiB"), ((3 << 30) + 1, "3073MiB")]
        {
            assert_eq!(flag_size(bytes), text);
            assert!(parse_size(text).expect("a size") >= bytes);
        }
    }

    #[test]
    fn a_typed_size_is_shown_as_typed() {
        let typed = Size::typed(" 16G ").expect("a size");
        assert_eq!((typed.bytes(), typed.to_string()), (16_000_000_000, "16G".to_owned()));
        assert_eq!(Size::from(16_000_000_000).to_string(), "14.9 GiB");
        assert_eq!(serde_json::to_string(&typed).expect("a number"), "16000000000");
        assert!(Size::typed("16X").is_err());
    }

    #[test]
    fn shows_rates_in_the_units_of_sizes() {
        let rates = [
            (1.42e9, "1.3 GiB/s"),
            (31.44e6, "30 MiB/s"),
            (980e3, "957 KiB/s"),
            (12.0, "12 B/s"),
            (0.0, "0 B/s"),
            (-1.0, "0 B/s"),
            (f64::NAN, "0 B/s"),
            (f64::INFINITY, "0 B/s"),
        ];
        for (rate, text) in rates {
            assert_eq!(show_rate(rate), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_a_size_in_range_or_an_error(text in "\\PC{0,12}|[0-9.]{1,25} ?[kmgtpeb]?i?b?") {
            prop_assert!(parse_size(&text).is_ok_and(|bytes| bytes <= MOST) || parse_size(&text).is_err());
        }

        #[test]
        fn shown_sizes_read_back_to_within_a_twentieth(bytes in 0..=MOST) {
            let back = parse_size(&show_size(bytes)).expect("a shown size is a size");
            prop_assert!(back.abs_diff(bytes) <= bytes / 20 + 1, "{} for {bytes}", show_size(bytes));
        }
    }
}
