//! GPT-2 checkpoints: linear layers as transformers' `Conv1D`, stored as `[in, out]`, and a head tied to the embedding.

use safetensors::Dtype;
use serde_json::{Value, json};

use super::request::{Request, Shape};
use super::{Model, Tensor};

/// What distinguishes one GPT-2 from another.
struct Dims {
    hidden: usize,
    layers: usize,
    heads: usize,
    positions: usize,
    vocab: usize,
}

/// The dimensions of GPT-2 XL with 30 of its 48 layers, or small ones.
fn dims(request: &Request) -> Dims {
    let mut dims = if request.shape == Shape::Gpt2 {
        Dims { hidden: 1600, layers: 30, heads: 25, positions: 1024, vocab: 50257 }
    } else {
        Dims { hidden: 64, layers: 2, heads: 4, positions: 32, vocab: 512 }
    };
    dims.layers = request.layers.unwrap_or(dims.layers);
    dims
}

/// The whole model: two embeddings, layers, norm; no head, for that is the first embedding.
pub(super) fn model(request: &Request) -> Model {
    let dims = dims(request);
    let dtype = request.dtype.dtype();
    let mut tensors = vec![
        Tensor::plain("transformer.wte.weight", dtype, &[dims.vocab, dims.hidden]),
        Tensor::plain("transformer.wpe.weight", dtype, &[dims.positions, dims.hidden]),
    ];
    for layer in 0..dims.layers {
        push_layer(&mut tensors, &format!("transformer.h.{layer}"), dtype, dims.hidden);
    }
    push_norm(&mut tensors, "transformer.ln_f", dtype, dims.hidden);
    let ids = if dims.vocab > 50_256 { (50_256, 50_256) } else { (1, 2) };
    Model {
        config: config(&dims, request.dtype.torch_name(), ids),
        generation_config: Some(json!({
            "_from_model_config": true, "bos_token_id": ids.0, "eos_token_id": ids.1,
        })),
        task_type: Some("CAUSAL_LM"),
        tensors,
    }
}

/// One layer, its modules in the order of transformers' `GPT2Block`.
fn push_layer(tensors: &mut Vec<Tensor>, layer: &str, dtype: Dtype, hidden: usize) {
    push_norm(tensors, &format!("{layer}.ln_1"), dtype, hidden);
    push_conv1d(tensors, &format!("{layer}.attn.c_attn"), dtype, [hidden, 3 * hidden]);
    push_conv1d(tensors, &format!("{layer}.attn.c_proj"), dtype, [hidden, hidden]);
    push_norm(tensors, &format!("{layer}.ln_2"), dtype, hidden);
    push_conv1d(tensors, &format!("{layer}.mlp.c_fc"), dtype, [hidden, 4 * hidden]);
    push_conv1d(tensors, &format!("{layer}.mlp.c_proj"), dtype, [4 * hidden, hidden]);
}

/// A linear layer `[in, out]` and its bias.
fn push_conv1d(tensors: &mut Vec<Tensor>, module: &str, dtype: Dtype, [inner, out]: [usize; 2]) {
    tensors.push(Tensor::conv1d(module, dtype, inner, out));
    tensors.push(Tensor::plain(&format!("{module}.bias"), dtype, &[out]));
}

/// A norm with its bias.
fn push_norm(tensors: &mut Vec<Tensor>, module: &str, dtype: Dtype, channels: usize) {
    tensors.push(Tensor::norm(module, dtype, channels));
    tensors.push(Tensor::plain(&format!("{module}.bias"), dtype, &[channels]));
}

/// `config.json` with the keys that transformers 5 writes for a GPT-2.
fn config(dims: &Dims, dtype: &str, (bos, eos): (u32, u32)) -> Value {
    json!({
        "activation_function": "gelu_new",
        "add_cross_attention": false,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": bos,
        "dtype": dtype,
        "embd_pdrop": 0.1,
        "eos_token_id": eos,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-5,
        "model_type": "gpt2",
        "n_embd": dims.hidden,
        "n_head": dims.heads,
        "n_inner": null,
        "n_layer": dims.layers,
        "n_positions": dims.positions,
        "pad_token_id": null,
        "reorder_and_upcast_attn": false,
        "resid_pdrop": 0.1,
        "scale_attn_by_inverse_layer_idx": false,
        "scale_attn_weights": true,
        "summary_activation": null,
        "summary_first_dropout": 0.1,
        "summary_proj_to_labels": true,
        "summary_type": "cls_index",
        "summary_use_proj": true,
        "tie_word_embeddings": true,
        "use_cache": true,
        "vocab_size": dims.vocab,
    })
}
