//! Linear layers of a model, by the names and shapes of their weights: what libraries quantize in memory.

use crate::checkpoint::catalogue::BaseTensor;
use crate::checkpoint::config::Config;
use crate::model::heads::{is_head, is_lookup, is_task_head};
use crate::model::names::table::conv1d;
use crate::tensor::dtype::is_mergeable;

/// The path of the linear layer whose weight a tensor is, if it is that and no head: libraries leave heads as they are.
pub(crate) fn linear_layer(tensor: &BaseTensor) -> Option<&str> {
    let module = tensor.name.strip_suffix(".weight")?;
    let is_matrix = tensor.tensor.shape.axes().len() == 2 && is_mergeable(tensor.tensor.dtype);
    let is_other = is_head(&tensor.name) || is_task_head(module) || is_lookup(&tensor.name);
    (is_matrix && !is_other).then_some(module)
}

/// Whether the linear layers of a model are stored the other way round than libraries quantize them.
pub(crate) fn is_stored_turned(config: &Config) -> bool {
    config.model_type().is_some_and(conv1d)
}
