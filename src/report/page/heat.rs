//! Heat maps of an adapter: how large each module's delta is beside its weights, and how much of it rounding left.

use crate::pipeline::tally::{Applied, ModuleRetention};

use crate::report::page::html::{Cell, Heat, Html};
use crate::report::page::layers::{LayerGrid, LayerSums, grids};

/// Layers that a map shows at most: a page of ten thousand rows is no picture.
const LAYERS: usize = 1000;
/// Kinds of modules that it shows at most, likewise.
const KINDS: usize = 200;

/// Two maps for each adapter and stack of layers.
pub(crate) fn maps(html: &mut Html, applied: &Applied) {
    html.element("h2", "Changes by layer");
    html.element(
        "p",
        "‖Δ‖/‖W‖ is the norm of a module’s delta over the norm of its weights. The retained share is what is left of the delta \
         after rounding to the output’s dtype. Large deltas are measured on a fixed sample of their rows. Experts of one layer are \
         one cell.",
    );
    for (i, adapter) in applied.adapters.iter().enumerate() {
        let modules = applied.modules.iter().filter(|module| module.adapter as usize == i);
        let (grids, others) = grids(modules);
        let name =
            if applied.adapters.len() > 1 { format!(" of {}", adapter.adapter) } else { String::new() };
        for grid in &grids {
            map(html, &format!("‖Δ‖/‖W‖{name}, {}", grid.stack), grid, &size_cell(grid));
            map(html, &format!("Retained share{name}, {}", grid.stack), grid, &retained_cell);
        }
        single(html, &name, &others);
    }
}

/// One map: a row for each layer.
fn map(html: &mut Html, caption: &str, grid: &LayerGrid, cell: &dyn Fn(&LayerSums) -> Cell) {
    let kinds = &grid.kinds[..grid.kinds.len().min(KINDS)];
    let heads: Vec<&str> = std::iter::once("layer").chain(kinds.iter().map(String::as_str)).collect();
    let rows = grid.layers.iter().take(LAYERS).map(|(layer, sums)| {
        let of_kind = |at: usize| sums.get(at).copied().flatten();
        let cells =
            (0..kinds.len()).map(|at| of_kind(at).map_or_else(|| Cell::plain("–"), |sums| cell(&sums)));
        std::iter::once(Cell::plain(layer.to_string())).chain(cells).collect()
    });
    html.table(caption, &heads, &rows.collect::<Vec<Vec<Cell>>>());
}

/// Modules outside the layers.
fn single(html: &mut Html, name: &str, modules: &[&ModuleRetention]) {
    if modules.is_empty() {
        return;
    }
    let rows = modules.iter().take(LAYERS).map(|module| {
        let ratio = ratio(module).map_or_else(|| "–".to_owned(), percent);
        let retained = module.retained.map_or_else(|| "–".to_owned(), whole_percent);
        vec![Cell::plain(&*module.module), Cell::plain(ratio), Cell::plain(retained)]
    });
    html.table(
        &format!("Other modules{name}"),
        &["module", "‖Δ‖/‖W‖", "retained"],
        &rows.collect::<Vec<_>>(),
    );
}

/// `‖Δ‖/‖W‖` of one module.
pub(crate) fn ratio(module: &ModuleRetention) -> Option<f64> {
    (module.weight_norm > 0.0).then(|| module.norm / module.weight_norm)
}

/// Colored by the place between the smallest and the largest of the grid, on a scale of factors.
fn size_cell(grid: &LayerGrid) -> impl Fn(&LayerSums) -> Cell + use<> {
    let all =
        grid.layers.values().flatten().flatten().filter_map(LayerSums::ratio).filter(|ratio| *ratio > 0.0);
    let (low, high) = all
        .map(f64::ln)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
    move |sums| {
        let Some(ratio) = sums.ratio() else { return Cell::plain("–") };
        let place = if high > low { (ratio.ln() - low) / (high - low) } else { 0.5 };
        let share = if place.is_finite() { place.clamp(0.0, 1.0) } else { 0.0 };
        Cell { text: percent(ratio), heat: Some(Heat { class: "size", share }) }
    }
}

/// Colored by what is lost.
fn retained_cell(sums: &LayerSums) -> Cell {
    let Some(retained) = sums.retained() else { return Cell::plain("–") };
    let share = (1.0 - retained).clamp(0.0, 1.0);
    Cell { text: whole_percent(retained), heat: Some(Heat { class: "lost", share }) }
}

/// Three digits that count.
pub(crate) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        p if p == 0.0 || (0.01..10.0).contains(&p) => format!("{p:.2} %"),
        p if (10.0..1000.0).contains(&p) => format!("{p:.1} %"),
        p => format!("{p:.1e} %"),
    }
}

/// Whole percents, but never all or nothing where it is not.
pub(crate) fn whole_percent(share: f64) -> String {
    match 100.0 * share {
        p if p > 99.5 && p < 99.95 => format!("{p:.1} %"),
        p if p > 0.05 && p < 0.5 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_have_digits_that_count() {
        let shown = [0.0, 0.00001, 0.000123, 0.0354, 0.5, 1.0, 20.0].map(percent);
        assert_eq!(shown, ["0.00 %", "1.0e-3 %", "0.01 %", "3.54 %", "50.0 %", "100.0 %", "2.0e3 %"]);
        assert_eq!(
            [0.0, 0.001, 0.34, 0.998, 1.0].map(whole_percent),
            ["0 %", "0.1 %", "34 %", "99.8 %", "100 %"]
        );
    }
}
