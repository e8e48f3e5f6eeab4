//! The parts of the page that are lists: facts, decisions and notes, files.

use crate::adapters::adapter_weight::AdapterWeight;
use crate::tensor::size::show_size;

use crate::report::page::html::{Cell, Html};

/// Files that are listed.
const FILES: usize = 1000;

/// What was merged into what.
pub(crate) fn facts(
    html: &mut Html,
    output: &str,
    adapters: &[(String, AdapterWeight)],
    facts: &[(&str, String)],
) {
    html.raw("<dl>\n");
    html.element("dt", "output").element("dd", output);
    for (name, weight) in adapters {
        html.element("dt", "adapter").element("dd", &format!("{name} × {weight}"));
    }
    for (name, value) in facts {
        html.element("dt", name).element("dd", value);
    }
    html.raw("</dl>\n");
}

/// A list under a heading, if there is anything.
pub(crate) fn remarks(html: &mut Html, heading: &str, remarks: &[String]) {
    if remarks.is_empty() {
        return;
    }
    html.element("h2", heading).raw("<ul>\n");
    for remark in remarks {
        html.element("li", remark);
    }
    html.raw("</ul>\n");
}

/// The files of the result with their hashes.
pub(crate) fn files(html: &mut Html, files: &[(String, u64, String)]) {
    if files.is_empty() {
        return;
    }
    html.element("h2", "Files");
    let rows = files
        .iter()
        .take(FILES)
        .map(|(name, bytes, hash)| [name.clone(), show_size(*bytes), hash.clone()].map(Cell::plain).to_vec());
    html.table("Files of the result", &["file", "size", "BLAKE3"], &rows.collect::<Vec<_>>());
    if files.len() > FILES {
        html.element("p", &format!("and {} more", files.len() - FILES));
    }
}
