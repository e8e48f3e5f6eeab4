//! Numbers for sets of tensors, by which two interpretations that mean the same are seen to be one.

/// A number for a set of tensors, whatever their order, and never 0; none if there are none.
pub(crate) fn place_sum(places: impl Iterator<Item = usize>) -> Option<u64> {
    // Sums of plain places would be the same for too many sets. (This is the last step of SplitMix64.)
    let spread = |place: usize| {
        let mixed = (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) | 1
    };
    places.map(spread).reduce(u64::wrapping_add)
}
