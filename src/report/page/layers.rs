//! Modules by layer and kind: the first number of a path is the layer, any later one an expert, of which a kind has many.

use std::collections::BTreeMap;

use crate::pipeline::tally::ModuleRetention;

/// LayerSums over the modules of one layer and kind.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LayerSums {
    delta_squares: f64,
    weight_squares: f64,
    arrived: f64,
}

impl LayerSums {
    fn add(&mut self, module: &ModuleRetention) {
        let squares = module.norm * module.norm;
        self.delta_squares += squares;
        self.weight_squares += module.weight_norm * module.weight_norm;
        self.arrived += squares * module.retained.unwrap_or_default();
    }

    /// `‖Δ‖/‖W‖`; none where the weights are all zero.
    pub(crate) fn ratio(&self) -> Option<f64> {
        (self.weight_squares > 0.0).then(|| (self.delta_squares / self.weight_squares).sqrt())
    }

    /// The share of the delta that is left after rounding.
    pub(crate) fn retained(&self) -> Option<f64> {
        (self.delta_squares > 0.0).then(|| self.arrived / self.delta_squares)
    }
}

/// The modules of one adapter as a grid.
#[derive(Debug, Default)]
pub(crate) struct LayerGrid {
    /// What stands before the number of the layer: rows are of one stack of layers.
    pub(crate) stack: String,
    /// Kinds of modules, in the order in which they came.
    pub(crate) kinds: Vec<String>,
    /// By number of the layer, the sums of each kind.
    pub(crate) layers: BTreeMap<u64, Vec<Option<LayerSums>>>,
}

/// The grids of an adapter, one for each stack of layers, and the modules that are in none.
pub(crate) fn grids<'m>(
    modules: impl Iterator<Item = &'m ModuleRetention>,
) -> (Vec<LayerGrid>, Vec<&'m ModuleRetention>) {
    let (mut grids, mut others) = (Vec::<LayerGrid>::new(), Vec::new());
    for module in modules {
        let Some((stack, layer, kind)) = place(&module.module) else {
            others.push(module);
            continue;
        };
        let at = grids.iter().position(|grid| grid.stack == stack).unwrap_or_else(|| {
            grids.push(LayerGrid { stack: stack.clone(), ..LayerGrid::default() });
            grids.len() - 1
        });
        grids[at].add(layer, kind, module);
    }
    (grids, others)
}

impl LayerGrid {
    fn add(&mut self, layer: u64, kind: String, module: &ModuleRetention) {
        let at = self.kinds.iter().position(|known| *known == kind).unwrap_or_else(|| {
            self.kinds.push(kind);
            self.kinds.len() - 1
        });
        let row = self.layers.entry(layer).or_default();
        if row.len() <= at {
            row.resize(at + 1, None);
        }
        row[at].get_or_insert_default().add(module);
    }
}

/// `model.layers.3.mlp.experts.7.up_proj` as the stack `model.layers`, layer 3, and the kind `mlp.experts.*.up_proj`.
fn place(path: &str) -> Option<(String, u64, String)> {
    let segments: Vec<&str> = path.split('.').collect();
    let at = segments.iter().position(|segment| number(segment).is_some())?;
    let kind: Vec<&str> = segments[at + 1..]
        .iter()
        .map(|segment| if number(segment).is_some() { "*" } else { segment })
        .collect();
    Some((segments[..at].join("."), number(segments[at])?, kind.join(".")))
}

/// The number that a segment is, of as many digits as a layer may have.
fn number(segment: &str) -> Option<u64> {
    (segment.len() <= 9 && segment.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| segment.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_the_layer_and_others_are_experts() {
        let parts = |path: &str| place(path).map(|(stack, layer, kind)| format!("{stack}|{layer}|{kind}"));
        assert_eq!(
            parts("model.layers.3.mlp.experts.7.up_proj").as_deref(),
            Some("model.layers|3|mlp.experts.*.up_proj")
        );
        assert_eq!(parts("h.0").as_deref(), Some("h|0|"));
        assert_eq!(parts("0").as_deref(), Some("|0|"));
        assert_eq!(parts("lm_head"), None);
        assert_eq!(parts("conv2d.weight"), None);
    }
}
