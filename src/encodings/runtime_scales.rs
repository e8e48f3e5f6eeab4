//! Scales that a runtime needs and no value of a weight depends on, whatever the scheme: of what goes into and out of layers,
//! and of caches of keys and values.
//!
//! They stand beside weights, or in modules that have none (`self_attn.k_scale`). Only the description of a quantization
//! explains them, so that they go where that goes.

use crate::encodings::scheme::has_ending;
use crate::tensor::dtype::is_mergeable;
use crate::tensor::reference::TensorRef;

/// What their names end with.
const ENDINGS: &[&str] = &[
    ".k_scale",
    ".v_scale",
    ".q_scale",
    ".kv_scale",
    ".k_zero_point",
    ".v_zero_point",
    ".kv_cache_scale",
    ".kv_scaling_factor",
    ".prob_scale",
    ".prob_output_scale",
    ".k_global_scale",
    ".v_global_scale",
    ".input_scale",
    ".input_scale_inv",
    ".input_zero_point",
    ".input_global_scale",
    ".input_scale_ub",
    ".input_amax",
    ".activation_scale",
    ".output_scale",
    ".output_zero_point",
    ".qscale_act",
    ".scale_input",
];

/// Whether a tensor of that name may be one.
pub(crate) fn is_named(name: &str) -> bool {
    ENDINGS.iter().any(|ending| has_ending(name, ending))
}

/// Whether a tensor of that name is one beyond doubt: one number. A vector might be a parameter of the model.
pub(crate) fn is_scale(name: &str, tensor: &TensorRef) -> bool {
    let is_zero_point = name.ends_with("_zero_point");
    is_named(name) && tensor.shape.elements() == 1 && (is_zero_point || is_mergeable(tensor.dtype))
}
