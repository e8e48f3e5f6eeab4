//! Sizes as people type and read them.
//!
//! `16G` is what Kubernetes reads it as, 16·10⁹ bytes, and `16Gi` is 16·2³⁰; Slurm's `--mem=16G` is the larger of the
//! two, so a cap copied from a job script is never passed. Sizes are shown in powers of two.
//!
//! ```
//! use shardfold::memory::{parse_size, show_size};
//!
//! assert_eq!(parse_size("1.5GiB"), Ok(3 << 29));
//! assert_eq!(show_size(3 << 29), "1.5GiB");
//! ```

use bytesize::ByteSize;

/// No size is larger than this: above it `bytesize` may have saturated, and nobody has an exbibyte.
const MOST: u64 = 1 << 60;

/// Reads a size in bytes, from 0 to 2⁶⁰.
///
/// A number of bytes, or a number, perhaps with a fraction, and a unit in any case: `K`, `M`, `G`, `T`, `P` with or
/// without `B` are powers of 1000, with `i` (`Ki`, `KiB`) powers of 1024. A fraction of a byte is cut off.
///
/// # Errors
/// What would be accepted. The text does not repeat the input: the caller names flag and value.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    // `bytesize` takes a leading `+`, and its error texts speak of its own types.
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(accepted());
    }
    let ByteSize(bytes) = text.parse().map_err(|_| accepted())?;
    if bytes > MOST { Err("expected at most 1EiB (2^60 bytes)".to_owned()) } else { Ok(bytes) }
}

/// The one text about what a size looks like.
fn accepted() -> String {
    "expected a size such as `16G` (16·10⁹ bytes), `16GiB` or `16Gi` (16·2³⁰), `1.5G`, or a number of bytes; \
     units are K, M, G, T, P"
        .to_owned()
}

/// Writes `bytes` to the nearest tenth of a binary unit: `512B`, `64MiB`, `1.1GiB`.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let tenths_of = |power: usize| {
        let unit = 1_u128 << (10 * power);
        (u128::from(bytes) * 10 + unit / 2) / unit
    };
    // Rounding comes before the choice of unit, so that just under 1MiB is not called 1024KiB.
    let last = UNITS.len() - 1;
    let power = (0..last).find(|&power| tenths_of(power) < 10_240).unwrap_or(last);
    let (whole, tenth) = (tenths_of(power) / 10, tenths_of(power) % 10);
    let unit = UNITS[power];
    if tenth == 0 { format!("{whole}{unit}") } else { format!("{whole}.{tenth}{unit}") }
}

/// Writes a rate with three digits in powers of 1000, as disks are sold: `1.42 GB/s`, `980 KB/s`.
///
/// What is not a positive number (no time has passed yet) reads `0 B/s`.
pub fn show_rate(bytes_per_second: f64) -> String {
    const UNITS: [&str; 6] = ["B/s", "KB/s", "MB/s", "GB/s", "TB/s", "PB/s"];
    if !(bytes_per_second.is_finite() && bytes_per_second > 0.0) {
        return format!("0 {}", UNITS[0]);
    }
    let (mut rate, mut power) = (bytes_per_second, 0);
    while rate >= 999.5 && power + 1 < UNITS.len() {
        (rate, power) = (rate / 1000.0, power + 1);
    }
    let decimals = match rate {
        _ if power == 0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{rate:.decimals$} {}", UNITS[power])
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
            assert_eq!(parse_size(text).expect_err(text), "expected at most 1EiB (2^60 bytes)");
        }
        // Beyond u64 and without a unit it is no number of bytes to `bytesize`.
        assert!(parse_size("18446744073709551616").is_err());
    }

    #[test]
    fn shows_sizes_with_one_decimal_at_most() {
        let sizes = [
            (0, "0B"),
            (512, "512B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (64 << 20, "64MiB"),
            (1_181_116_006, "1.1GiB"),
            ((1 << 20) - 1, "1MiB"),
            ((1 << 30) - (1 << 20), "1023MiB"),
            (u64::MAX, "16EiB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(show_size(bytes), text);
        }
    }

    #[test]
    fn shows_rates_with_three_digits() {
        let rates = [
            (1.42e9, "1.42 GB/s"),
            (31.44e6, "31.4 MB/s"),
            (980e3, "980 KB/s"),
            (999.6e3, "1.00 MB/s"),
            (9.996e9, "10.0 GB/s"),
            (12.0, "12 B/s"),
            (0.0, "0 B/s"),
            (-1.0, "0 B/s"),
            (f64::NAN, "0 B/s"),
            (f64::INFINITY, "0 B/s"),
            (5e18, "5000 PB/s"),
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
        fn shown_sizes_read_back_to_within_half_a_tenth(bytes in 0..=MOST) {
            let back = parse_size(&show_size(bytes)).expect("a shown size is a size");
            prop_assert!(back.abs_diff(bytes) <= bytes / 20 + 1, "{} for {bytes}", show_size(bytes));
        }
    }
}
