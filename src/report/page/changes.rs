//! The modules that changed most, and those that lost most of their delta to rounding.

use crate::pipeline::tally::{Applied, ModuleRetention};

use crate::report::page::heat::{percent, ratio, whole_percent};
use crate::report::page::html::{Cell, Html};

/// Rows of a table.
const ROWS: usize = 20;

/// Both tables.
pub(crate) fn tables(html: &mut Html, applied: &Applied) {
    html.element("h2", "Largest changes");
    let mut modules: Vec<&ModuleRetention> = applied.modules.iter().collect();
    sort(&mut modules, |module| -ratio(module).unwrap_or_default());
    show(html, "Modules with the largest ‖Δ‖/‖W‖", applied, &modules);
    let mut lost: Vec<&ModuleRetention> = applied.modules.iter().filter(|module| module.is_lost()).collect();
    sort(&mut lost, |module| module.retained.unwrap_or_default());
    if !lost.is_empty() {
        show(html, "Modules that lost more than half of their delta to rounding", applied, &lost);
    }
    if !applied.unchanged.is_empty() {
        let rows: Vec<Vec<Cell>> =
            applied.unchanged.iter().take(ROWS).map(|name| vec![Cell::plain(&**name)]).collect();
        let more = applied.unchanged.len().saturating_sub(ROWS);
        html.table("Merged tensors in which nothing changed", &["tensor"], &rows);
        rest(html, more);
    }
}

fn sort(modules: &mut [&ModuleRetention], by: fn(&ModuleRetention) -> f64) {
    modules.sort_by(|a, b| by(a).total_cmp(&by(b)));
}

fn show(html: &mut Html, caption: &str, applied: &Applied, modules: &[&ModuleRetention]) {
    let shown = |value: Option<f64>, show: fn(f64) -> String| value.map_or_else(|| "–".to_owned(), show);
    let rows = modules.iter().take(ROWS).map(|module| {
        let adapter = applied.adapters.get(module.adapter as usize).map_or("", |adapter| &adapter.adapter);
        [
            module.module.clone(),
            adapter.to_owned(),
            format!("{:.3e}", module.norm),
            shown(ratio(module), percent),
            shown(module.retained, whole_percent),
            shown(module.unchanged, whole_percent),
        ]
        .map(Cell::plain)
        .to_vec()
    });
    let heads = ["module", "adapter", "‖Δ‖", "‖Δ‖/‖W‖", "retained", "weights unchanged"];
    html.table(caption, &heads, &rows.collect::<Vec<_>>());
    rest(html, modules.len().saturating_sub(ROWS));
}

fn rest(html: &mut Html, more: usize) {
    if more > 0 {
        html.element("p", &format!("and {more} more"));
    }
}
