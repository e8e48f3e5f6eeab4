//! Which parameter the factors at a module's path are for, where it is not the module's `weight`.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;

/// A parameter that factors are for.
pub(crate) struct Layer {
    /// Path of the module that owns it.
    pub(crate) module: String,
    /// Its name in the module.
    pub(crate) parameter: String,
    /// How often the delta is added.
    pub(crate) times: f64,
}

/// The parameter of the factors at `path`.
///
/// `nn.MultiheadAttention` keeps its three input projections in `in_proj_weight`. PEFT wraps it and its `out_proj` inside
/// the wrapper (`….base_layer.out_proj`), and applies the delta of `out_proj` twice, in training as in its merge
/// (peft-methods.md 3.5; measured with PEFT 0.21.2).
pub(crate) fn layer_of(context: &mut ClaimContext<'_>, findings: &mut Findings<'_>, path: &str) -> Layer {
    let is_attention = |module: &str| context.lookup(module, "in_proj_weight").is_some();
    if let Some(attention) = path.strip_suffix(".base_layer.out_proj").filter(|module| is_attention(module)) {
        let module = format!("{attention}.out_proj");
        findings.notice(format!(
            "the delta of `{module}` is added twice, as PEFT's multi-head attention does in training"
        ));
        return Layer { module, parameter: "weight".to_owned(), times: 2.0 };
    }
    let is_projection = context.lookup(path, "weight").is_none() && is_attention(path);
    let parameter = if is_projection { "in_proj_weight" } else { "weight" };
    Layer { module: path.to_owned(), parameter: parameter.to_owned(), times: 1.0 }
}
