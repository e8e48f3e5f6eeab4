//! A mixture of experts with the names of DeepSeek-V3: the largest number of tensors we expect to meet.
//!
//! The published checkpoint has 91,991 tensors in 163 shards: 61 layers (three dense, 58 with 256 experts), one more for
//! multi-token prediction, FP8 codes with a scale per 128 × 128 block. These are all of them.

use safetensors::Dtype;
use serde_json::{Value, json};

use super::request::{Request, Shape};
use super::{Model, Tensor, fp8};

/// Layers before the first one with experts.
const DENSE_LAYERS: usize = 3;
/// Experts of a layer.
const EXPERTS: usize = 256;

/// What distinguishes the real shapes from the small ones.
struct Dims {
    hidden: usize,
    layers: usize,
    heads: usize,
    q_rank: usize,
    kv_rank: usize,
    /// Per head: query and key without position, query and key with rotary position, value.
    head: (usize, usize, usize),
    ffn: usize,
    expert_ffn: usize,
    vocab: usize,
}

/// Adds tensors under a common name.
struct Layer<'a> {
    tensors: &'a mut Vec<Tensor>,
    name: String,
    plain: Dtype,
    /// Whether PEFT would see this layer: transformers does not load the prediction layer.
    loaded: bool,
}

impl Layer<'_> {
    /// A linear module in the plain type.
    fn linear(&mut self, module: &str, rows: usize, cols: usize) {
        let tensor = Tensor::linear(&format!("{}.{module}", self.name), self.plain, rows, cols);
        self.tensors.push(Tensor { linear: tensor.linear.filter(|_| self.loaded), ..tensor });
    }

    /// A linear module as FP8 codes and their scales.
    fn coded(&mut self, module: &str, rows: usize, cols: usize) {
        let [codes, scales] = fp8::linear(&format!("{}.{module}", self.name), rows, cols);
        self.tensors.extend([Tensor { linear: codes.linear.filter(|_| self.loaded), ..codes }, scales]);
    }

    /// A norm over `channels`.
    fn norm(&mut self, module: &str, channels: usize) {
        self.tensors.push(Tensor::norm(&format!("{}.{module}", self.name), self.plain, channels));
    }

    /// The gate, up and down projections of a dense block, of the shared expert, or of one expert.
    fn feed_forward(&mut self, module: &str, hidden: usize, ffn: usize) {
        self.coded(&format!("{module}.gate_proj"), ffn, hidden);
        self.coded(&format!("{module}.up_proj"), ffn, hidden);
        self.coded(&format!("{module}.down_proj"), hidden, ffn);
    }

    /// Low-rank attention and the two norms around it.
    fn attention(&mut self, dims: &Dims) {
        let (nope, rope, value) = dims.head;
        self.coded("self_attn.q_a_proj", dims.q_rank, dims.hidden);
        self.norm("self_attn.q_a_layernorm", dims.q_rank);
        self.coded("self_attn.q_b_proj", dims.heads * (nope + rope), dims.q_rank);
        self.coded("self_attn.kv_a_proj_with_mqa", dims.kv_rank + rope, dims.hidden);
        self.norm("self_attn.kv_a_layernorm", dims.kv_rank);
        self.coded("self_attn.kv_b_proj", dims.heads * (nope + value), dims.kv_rank);
        self.coded("self_attn.o_proj", dims.hidden, dims.heads * value);
        self.norm("input_layernorm", dims.hidden);
        self.norm("post_attention_layernorm", dims.hidden);
    }

    /// The router, 256 experts and the shared one.
    fn experts(&mut self, dims: &Dims) {
        let gate = format!("{}.mlp.gate", self.name);
        self.tensors.push(Tensor::plain(&format!("{gate}.weight"), self.plain, &[EXPERTS, dims.hidden]));
        let bias = format!("{gate}.e_score_correction_bias");
        self.tensors.push(Tensor::plain(&bias, Dtype::F32, &[EXPERTS]));
        for expert in 0..EXPERTS {
            self.feed_forward(&format!("mlp.experts.{expert}"), dims.hidden, dims.expert_ffn);
        }
        self.feed_forward("mlp.shared_experts", dims.hidden, dims.expert_ffn);
    }

    /// What only the prediction layer has: its own embedding, head and the projection that joins two streams.
    fn prediction(&mut self, dims: &Dims) {
        let embedding = format!("{}.embed_tokens.weight", self.name);
        self.tensors.push(Tensor::plain(&embedding, self.plain, &[dims.vocab, dims.hidden]));
        self.norm("enorm", dims.hidden);
        self.norm("hnorm", dims.hidden);
        self.linear("eh_proj", dims.hidden, 2 * dims.hidden);
        self.norm("shared_head.norm", dims.hidden);
        self.linear("shared_head.head", dims.vocab, dims.hidden);
    }
}

/// The dimensions of DeepSeek-V3, or small ones with the same names.
fn dims(request: &Request) -> Dims {
    let mut dims = if request.shape == Shape::Moe {
        Dims {
            hidden: 7168,
            layers: 61,
            heads: 128,
            q_rank: 1536,
            kv_rank: 512,
            head: (128, 64, 128),
            ffn: 18432,
            expert_ffn: 2048,
            vocab: 129_280,
        }
    } else {
        Dims {
            hidden: 96,
            layers: 61,
            heads: 4,
            q_rank: 48,
            kv_rank: 16,
            head: (16, 8, 16),
            ffn: 192,
            expert_ffn: 32,
            vocab: 1024,
        }
    };
    dims.layers = request.layers.unwrap_or(dims.layers);
    dims
}

/// The whole model, the prediction layer last but for norm and head, as in the published index.
pub(super) fn model(request: &Request) -> Model {
    let dims = dims(request);
    let plain = request.dtype.dtype();
    let mut tensors = vec![Tensor::plain("model.embed_tokens.weight", plain, &[dims.vocab, dims.hidden])];
    for number in 0..=dims.layers {
        let loaded = number < dims.layers;
        let mut layer =
            Layer { tensors: &mut tensors, name: format!("model.layers.{number}"), plain, loaded };
        layer.attention(&dims);
        if number < DENSE_LAYERS {
            layer.feed_forward("mlp", dims.hidden, dims.ffn);
        } else {
            layer.experts(&dims);
        }
        if !loaded {
            layer.prediction(&dims);
        }
    }
    tensors.push(Tensor::norm("model.norm", plain, dims.hidden));
    tensors.push(Tensor::linear("lm_head", plain, dims.vocab, dims.hidden));
    Model {
        config: config(&dims, request.dtype.torch_name()),
        generation_config: None,
        task_type: Some("CAUSAL_LM"),
        tensors,
    }
}

/// `config.json` with the keys of the published one that say something about the weights.
fn config(dims: &Dims, dtype: &str) -> Value {
    let (nope, rope, value) = dims.head;
    json!({
        "architectures": ["DeepseekV3ForCausalLM"],
        "attention_bias": false,
        "first_k_dense_replace": DENSE_LAYERS,
        "hidden_act": "silu",
        "hidden_size": dims.hidden,
        "intermediate_size": dims.ffn,
        "kv_lora_rank": dims.kv_rank,
        "model_type": "deepseek_v3",
        "moe_intermediate_size": dims.expert_ffn,
        "moe_layer_freq": 1,
        "n_group": 8,
        "n_routed_experts": EXPERTS,
        "n_shared_experts": 1,
        "num_attention_heads": dims.heads,
        "num_experts_per_tok": 8,
        "num_hidden_layers": dims.layers,
        "num_key_value_heads": dims.heads,
        "num_nextn_predict_layers": 1,
        "q_lora_rank": dims.q_rank,
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope,
        "quantization_config": fp8::config(&["mlp.gate", "eh_proj", "shared_head", "lm_head"]),
        "tie_word_embeddings": false,
        "torch_dtype": dtype,
        "topk_group": 4,
        "v_head_dim": value,
        "vocab_size": dims.vocab,
    })
}
