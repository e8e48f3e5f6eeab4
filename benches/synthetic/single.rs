//! A checkpoint of one matrix, to show that a tensor may be larger than the budget.

use serde_json::json;

use super::request::Request;
use super::{Model, Tensor};

/// One linear module `proj` with a weight of nearly `--bytes`.
pub(super) fn model(request: &Request) -> Model {
    let dtype = request.dtype.dtype();
    let (rows, cols) = near_square(request.bytes.as_u64() * 8 / dtype.bitsize() as u64);
    Model {
        config: json!({
            "architectures": ["SingleProjection"],
            "dtype": request.dtype.torch_name(),
            "model_type": "single_projection",
            "in_features": cols,
            "out_features": rows,
        }),
        generation_config: None,
        task_type: None,
        tensors: vec![Tensor::linear("proj", dtype, rows, cols)],
    }
}

/// Rows and columns for about `elements`: rows are a multiple of a prime, so that no tile height divides them evenly.
fn near_square(elements: u64) -> (usize, usize) {
    let side = (elements as f64).sqrt() as usize;
    let prime = if side >= 1009 { 1009 } else { 13 };
    let rows = (side / prime).max(1) * prime;
    (rows, (elements as usize / rows).max(1))
}
