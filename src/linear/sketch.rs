//! The random matrix of a sketch, made by a counter: an entry depends on its place alone, so that it is the same in any piece.
//!
//! Entries are sums of four uniform numbers, which are exact and near enough to a normal distribution for a sketch
//! (Halko, Martinsson, Tropp 2011, section 4.6); a normal one would take logarithms, which differ by platform.

use crate::linear::panel::Panel;

/// The random matrix of so many rows and columns. Its rows are those of any taller one.
pub(crate) fn random_panel(rows: usize, cols: usize) -> Panel {
    let mut panel = Panel::zeros(rows, cols);
    for row in 0..rows {
        for (col, value) in panel.row_mut(row).iter_mut().enumerate() {
            *value = entry(row as u64, col as u64);
        }
    }
    panel
}

/// One entry: of mean zero, between -2 and 2.
fn entry(row: u64, col: u64) -> f64 {
    let bits = mixed(mixed(row) ^ col);
    let parts = [0, 16, 32, 48].map(|shift| bits >> shift & 0xffff);
    // A sum of whole numbers below 2¹⁸, and a power of two: nothing is rounded.
    (parts.iter().sum::<u64>() as f64 - 2.0 * 65535.0) / 65536.0
}

/// SplitMix64 of a counter (Steele, Lea, Flood 2014).
fn mixed(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_pinned_and_look_random() {
        let panel = random_panel(300, 40);
        let all: Vec<f64> = (0..300).flat_map(|row| panel.row(row).to_vec()).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let square = all.iter().map(|value| value * value).sum::<f64>() / all.len() as f64;
        assert!(mean.abs() < 0.02 && (square - 1.0 / 3.0).abs() < 0.02, "{mean} {square}");
        assert!(all.iter().all(|value| value.abs() <= 2.0));
        assert_eq!(random_panel(7, 40).row(6), panel.row(6));
        // Adapters that were extracted before depend on them.
        assert_eq!([entry(0, 0), entry(0, 1), entry(1, 0)].map(f64::to_bits), PINNED);
    }

    const PINNED: [u64; 3] = [0x3fd9_c200_0000_0000, 0xbfc8_1e00_0000_0000, 0xbfd0_5a40_0000_0000];
}
