//! Which parameter the factors at a module's path are for, where it is not the module's `weight`.

use crate::adapters::claim::context::ClaimContext;
use crate::adapters::claim::findings::Findings;
use crate::adapters::options::wrapped_attention;
use crate::note::claim::ClaimNote;

/// A parameter that factors are for.
pub(crate) struct Layer {
    /// Path of the module that owns it.
    pub(crate) module: String,
    /// Its name in the module.
    pub(crate) parameter: String,
}

/// The parameter of the factors at `path`.
///
/// `nn.MultiheadAttention` keeps its three input projections in `in_proj_weight`, and its `out_proj` stands inside the
/// wrapper of the attention, with a scale of its own ([`crate::adapters::options::Options::scale`]).
pub(crate) fn layer_of(context: &mut ClaimContext<'_>, findings: &mut Findings<'_>, path: &str) -> Layer {
    let is_attention = |module: &str| context.lookup(module, "in_proj_weight").is_some();
    if let Some(attention) = wrapped_attention(path).filter(|module| is_attention(module)) {
        let module = format!("{attention}.out_proj");
        findings.note(ClaimNote::AttentionAddsTwice { module: module.clone() });
        return Layer { module, parameter: "weight".to_owned() };
    }
    let is_projection = context.lookup(path, "weight").is_none() && is_attention(path);
    let parameter = if is_projection { "in_proj_weight" } else { "weight" };
    Layer { module: path.to_owned(), parameter: parameter.to_owned() }
}
