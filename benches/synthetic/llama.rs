//! Llama checkpoints: the dimensions of the published models, and the tensors they come to.

use serde_json::{Value, json};

use super::request::{Request, Shape};
use super::{Model, Tensor, fp8};

/// What distinguishes one Llama from another.
struct Dims {
    hidden: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    ffn: usize,
    vocab: usize,
}

/// The dimensions of a named model.
fn dims(shape: Shape) -> Dims {
    let dims = |hidden, layers, heads, kv_heads, head_dim, ffn, vocab| Dims {
        hidden,
        layers,
        heads,
        kv_heads,
        head_dim,
        ffn,
        vocab,
    };
    match shape {
        Shape::Llama8b => dims(4096, 32, 32, 8, 128, 14336, 128256),
        Shape::Llama3b => dims(3072, 28, 24, 8, 128, 8192, 128256),
        Shape::Llama70b => dims(8192, 80, 64, 8, 128, 28672, 128256),
        Shape::Llama1b => dims(2048, 16, 32, 8, 64, 8192, 128256),
        _ => dims(64, 2, 4, 2, 16, 176, 512),
    }
}

/// The whole model: embedding, layers, norm, head.
pub(super) fn model(request: &Request) -> Model {
    let mut dims = dims(request.shape);
    dims.layers = request.layers.unwrap_or(dims.layers);
    let dtype = request.dtype.dtype();
    let mut tensors = vec![Tensor::plain("model.embed_tokens.weight", dtype, &[dims.vocab, dims.hidden])];
    for layer in 0..dims.layers {
        push_layer(&mut tensors, &format!("model.layers.{layer}"), request, &dims);
    }
    tensors.push(Tensor::norm("model.norm", dtype, dims.hidden));
    tensors.push(Tensor::linear("lm_head", dtype, dims.vocab, dims.hidden));
    let ids = if dims.vocab > 128_001 { (128_000, 128_001) } else { (1, 2) };
    let mut config = config(&dims, request.dtype.torch_name(), ids);
    if request.fp8 {
        config["quantization_config"] = fp8::config(&["lm_head"]);
    }
    Model {
        config,
        generation_config: Some(json!({
            "_from_model_config": true, "bos_token_id": ids.0, "eos_token_id": ids.1,
        })),
        task_type: Some("CAUSAL_LM"),
        tensors,
    }
}

/// One layer, its modules in the order of transformers' `LlamaDecoderLayer`.
fn push_layer(tensors: &mut Vec<Tensor>, layer: &str, request: &Request, dims: &Dims) {
    let dtype = request.dtype.dtype();
    let (hidden, ffn) = (dims.hidden, dims.ffn);
    let (queries, keys) = (dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim);
    let linears = [
        ("self_attn.q_proj", queries, hidden),
        ("self_attn.k_proj", keys, hidden),
        ("self_attn.v_proj", keys, hidden),
        ("self_attn.o_proj", hidden, queries),
        ("mlp.gate_proj", ffn, hidden),
        ("mlp.up_proj", ffn, hidden),
        ("mlp.down_proj", hidden, ffn),
    ];
    for (module, rows, cols) in linears {
        let module = format!("{layer}.{module}");
        if request.fp8 {
            tensors.extend(fp8::linear(&module, rows, cols));
        } else {
            tensors.push(Tensor::linear(&module, dtype, rows, cols));
        }
    }
    for module in ["input_layernorm", "post_attention_layernorm"] {
        tensors.push(Tensor::norm(&format!("{layer}.{module}"), dtype, hidden));
    }
}

/// `config.json` with the keys that transformers 5 writes for a Llama.
fn config(dims: &Dims, dtype: &str, (bos, eos): (u32, u32)) -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": bos,
        "dtype": dtype,
        "eos_token_id": eos,
        "head_dim": dims.head_dim,
        "hidden_act": "silu",
        "hidden_size": dims.hidden,
        "initializer_range": 0.02,
        "intermediate_size": dims.ffn,
        "max_position_embeddings": 8192,
        "mlp_bias": false,
        "model_type": "llama",
        "num_attention_heads": dims.heads,
        "num_hidden_layers": dims.layers,
        "num_key_value_heads": dims.kv_heads,
        "pad_token_id": null,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-5,
        "rope_parameters": { "rope_theta": 500_000.0, "rope_type": "default" },
        "tie_word_embeddings": false,
        "use_cache": true,
        "vocab_size": dims.vocab,
    })
}
