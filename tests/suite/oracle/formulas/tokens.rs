//! Trained tokens: rows of an embedding stand in place of the base's.

use super::super::entry::Entry;
use super::super::running::Running;

pub fn apply(entry: &Entry, running: &mut Running, shape: &[usize]) {
    let rows = entry.grid("rows");
    let width: usize = shape[1..].iter().product();
    let indices = entry.json["indices"].as_array().expect("a list");
    assert_eq!(rows.value.len(), indices.len() * width, "rows of another size");
    for (row, index) in rows.value.chunks(width).zip(indices) {
        let at = index.as_u64().expect("an index") as usize * width;
        running.exact[at..at + width].copy_from_slice(row);
        running.bound[at..at + width].fill(0.0);
        running.slack[at..at + width].fill(0.0);
    }
}
