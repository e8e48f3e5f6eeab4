//! The body that adds a delta to a tile, compiled per CPU by `dispatch.rs`.

/// Multiplies, rounds, adds, rounds. Rust never fuses the two, and the pinned arithmetic forbids it: the result would
/// depend on whether the CPU has the instruction.
#[inline(always)]
pub(super) fn add_scaled(acc: &mut [f32], delta: &[f32], scale: f32) {
    for (acc, delta) in acc.iter_mut().zip(delta) {
        let scaled = *delta * scale;
        *acc += scaled;
    }
}
