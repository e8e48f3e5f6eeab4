//! (IA)³: every output, or every input, times a learned number.

use super::super::entry::Entry;
use super::super::running::Running;

/// Along the logical axis `axis`: of a stored matrix the first is `out`, or `in` when `transposed`; of a convolution the
/// first is `out`, the second `in`. In a convolution of `groups`, each output has its group's part of the inputs.
pub fn apply(entry: &Entry, running: &mut Running, shape: &[usize]) {
    let factors = entry.grid("l").value;
    let (first, second) = (shape[0], shape.get(1).copied().unwrap_or(1));
    let rest: usize = shape.iter().skip(2).product();
    let groups = entry.json["groups"].as_u64().unwrap_or(1) as usize;
    let by_first = (entry.word("axis") == "out") != entry.flag("transposed");
    assert!(matches!(entry.word("axis"), "out" | "in"), "no axis {}", entry.word("axis"));
    assert_eq!(factors.len(), if by_first { first } else { groups * second }, "factors of another length");
    for i in 0..running.exact.len() {
        let (row, column) = (i / rest / second, i / rest % second);
        let at = if by_first { row } else { row / (first / groups) * second + column };
        running.multiply(i, factors[at], 0.0, 2);
    }
}
