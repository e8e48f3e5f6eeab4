//! A mixture of experts in BF16 with the names of Qwen3-MoE: as large, and with as many modules to adapt, as the largest open
//! checkpoints, 1.37 TiB and 58,224 pairs of factors.

use safetensors::Dtype;
use serde_json::{Value, json};

use super::request::Request;
use super::{Model, Tensor};

const HIDDEN: usize = 7168;
const LAYERS: usize = 48;
/// Experts of a layer, and the channels in each.
const EXPERTS: usize = 403;
const EXPERT_FFN: usize = 1792;
const HEADS: usize = 64;
const KV_HEADS: usize = 8;
const HEAD_DIM: usize = 128;
const VOCAB: usize = 163_840;

/// The whole model: embedding, layers, norm, head.
pub(super) fn model(request: &Request) -> Model {
    let layers = request.layers.unwrap_or(LAYERS);
    let dtype = request.dtype.dtype();
    let mut tensors = vec![Tensor::plain("model.embed_tokens.weight", dtype, &[VOCAB, HIDDEN])];
    for layer in 0..layers {
        push_layer(&mut tensors, &format!("model.layers.{layer}"), dtype);
    }
    tensors.push(Tensor::norm("model.norm", dtype, HIDDEN));
    tensors.push(Tensor::linear("lm_head", dtype, VOCAB, HIDDEN));
    let config = config(layers, request.dtype.torch_name());
    Model { config, generation_config: None, task_type: Some("CAUSAL_LM"), tensors }
}

fn push_layer(tensors: &mut Vec<Tensor>, layer: &str, dtype: Dtype) {
    let attention = [
        ("q_proj", HEADS * HEAD_DIM, HIDDEN),
        ("k_proj", KV_HEADS * HEAD_DIM, HIDDEN),
        ("v_proj", KV_HEADS * HEAD_DIM, HIDDEN),
        ("o_proj", HIDDEN, HEADS * HEAD_DIM),
    ];
    for (module, rows, cols) in attention {
        tensors.push(Tensor::linear(&format!("{layer}.self_attn.{module}"), dtype, rows, cols));
    }
    for (norm, channels) in [
        ("self_attn.q_norm", HEAD_DIM),
        ("self_attn.k_norm", HEAD_DIM),
        ("input_layernorm", HIDDEN),
        ("post_attention_layernorm", HIDDEN),
    ] {
        tensors.push(Tensor::norm(&format!("{layer}.{norm}"), dtype, channels));
    }
    tensors.push(Tensor::plain(&format!("{layer}.mlp.gate.weight"), dtype, &[EXPERTS, HIDDEN]));
    for expert in 0..EXPERTS {
        let expert = format!("{layer}.mlp.experts.{expert}");
        for (module, rows, cols) in [
            ("gate_proj", EXPERT_FFN, HIDDEN),
            ("up_proj", EXPERT_FFN, HIDDEN),
            ("down_proj", HIDDEN, EXPERT_FFN),
        ] {
            tensors.push(Tensor::linear(&format!("{expert}.{module}"), dtype, rows, cols));
        }
    }
}

/// `config.json` with the keys that say something about the weights.
fn config(layers: usize, dtype: &str) -> Value {
    json!({
        "architectures": ["Qwen3MoeForCausalLM"],
        "attention_bias": false,
        "decoder_sparse_step": 1,
        "dtype": dtype,
        "head_dim": HEAD_DIM,
        "hidden_act": "silu",
        "hidden_size": HIDDEN,
        "mlp_only_layers": [],
        "model_type": "qwen3_moe",
        "moe_intermediate_size": EXPERT_FFN,
        "num_attention_heads": HEADS,
        "num_experts": EXPERTS,
        "num_experts_per_tok": 8,
        "num_hidden_layers": layers,
        "num_key_value_heads": KV_HEADS,
        "tie_word_embeddings": false,
        "vocab_size": VOCAB,
    })
}
