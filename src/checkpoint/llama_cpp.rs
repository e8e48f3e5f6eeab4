//! Checkpoints of llama.cpp: what it calls the tensors of a model, how it stores them, and which model a file is of.
//!
//! A GGUF file has no `config.json`. Its header names an architecture and its sizes, and the tensors have names of llama.cpp's own
//! (`blk.0.attn_q.weight`). Adapters are trained in transformers, so that each tensor gets the name that it has there; the result
//! keeps the file's names. Some things are stored otherwise than transformers has them:
//!
//! * Where rotary positions turn neighboring values, the rows of queries and keys are reordered: row 2·j + i of a head is row
//!   i·(d/2) + j in transformers, for a head of d rows.
//! * Norms of Gemma have 1 added.
//! * Each projection of all experts is one stack, which keeps its name: its matrices have those of single experts.
//! * The gate of a shared expert may be a vector, and is a matrix of one row.
//!
//! Sources: llama.cpp's `gguf-py/gguf/constants.py` and `tensor_mapping.py` for names, `convert_hf_to_gguf.py` (`modify_tensors`) for
//! the rest; key-mapping.md 10.6.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::checkpoint::catalogue::{BaseTensor, StackedExperts, StoredAs, StoredForm};
use crate::checkpoint::config::Config;
use crate::error::checkpoint::CheckpointError;
use crate::error::{Error, Result};
use crate::tensor::name::Name;

/// An architecture of llama.cpp, as far as its tensors are read.
pub(crate) struct Architecture {
    /// `general.architecture`.
    name: &'static str,
    /// What transformers calls it, and the class that predicts tokens.
    model_type: &'static str,
    class: &'static str,
    /// Whether models of other types are converted to it too.
    is_of_many: bool,
    /// Whether rows of queries and keys are reordered.
    is_rotated: bool,
    /// Whether norms have 1 added.
    is_shifted: bool,
    /// Names of a layer that are others than [`LAYER`] has.
    own: &'static [(&'static str, &'static str)],
    /// Where its experts are, if it has some.
    mixture: Option<Mixture>,
}

/// The experts of a layer.
struct Mixture {
    /// What `config.json` calls their number.
    count: &'static str,
    /// Their module in a layer.
    module: &'static str,
    /// What transformers has for the stacks of [`STACKS`].
    parameters: [&'static str; 3],
}

const PLAIN: Architecture = Architecture {
    name: "",
    model_type: "",
    class: "",
    is_of_many: false,
    is_rotated: false,
    is_shifted: false,
    own: &[],
    mixture: None,
};

/// Stacks of one projection of all experts: gates, what they are multiplied by, and the way back.
const STACKS: [&str; 3] = ["ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"];
/// What trainers call these that stack factors as well.
const SHORT: [&str; 3] = ["w1", "w3", "w2"];
/// The gate of a shared expert.
const SHARED_GATE: &str = ".ffn_gate_inp_shexp.weight";
/// llama.cpp reads no more experts (`LLAMA_MAX_EXPERTS`). Each is a weight of its own here, of which a file may have many more than it
/// has bytes.
const MOST_EXPERTS: u64 = 512;

const QWEN: Mixture = Mixture {
    count: "num_experts",
    module: "mlp.experts",
    parameters: ["gate_proj.weight", "up_proj.weight", "down_proj.weight"],
};
/// As in checkpoints of the hub, which transformers renames too.
const MIXTRAL: Mixture = Mixture {
    count: "num_local_experts",
    module: "block_sparse_moe.experts",
    parameters: ["w1.weight", "w3.weight", "w2.weight"],
};

/// The norms of a layer of Gemma 2 and 3.
const FOUR_NORMS: &[(&str, &str)] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// All that are read.
const ARCHITECTURES: &[Architecture] = &[
    // Mistral's models too, and those of many others.
    Architecture {
        name: "llama",
        model_type: "llama",
        class: "LlamaForCausalLM",
        is_of_many: true,
        is_rotated: true,
        ..PLAIN
    },
    // The same to llama.cpp, and with experts.
    Architecture {
        name: "llama",
        model_type: "mixtral",
        class: "MixtralForCausalLM",
        is_rotated: true,
        own: &[("ffn_gate_inp", "block_sparse_moe.gate")],
        mixture: Some(MIXTRAL),
        ..PLAIN
    },
    Architecture { name: "qwen2", model_type: "qwen2", class: "Qwen2ForCausalLM", ..PLAIN },
    Architecture { name: "qwen3", model_type: "qwen3", class: "Qwen3ForCausalLM", ..PLAIN },
    Architecture { name: "gemma", model_type: "gemma", class: "GemmaForCausalLM", is_shifted: true, ..PLAIN },
    Architecture {
        name: "gemma2",
        model_type: "gemma2",
        class: "Gemma2ForCausalLM",
        is_shifted: true,
        own: FOUR_NORMS,
        ..PLAIN
    },
    Architecture {
        name: "gemma3",
        model_type: "gemma3_text",
        class: "Gemma3ForCausalLM",
        is_shifted: true,
        own: FOUR_NORMS,
        ..PLAIN
    },
    Architecture {
        name: "phi3",
        model_type: "phi3",
        class: "Phi3ForCausalLM",
        own: &[("attn_qkv", "self_attn.qkv_proj"), ("ffn_up", "mlp.gate_up_proj")],
        ..PLAIN
    },
    Architecture {
        name: "starcoder2",
        model_type: "starcoder2",
        class: "Starcoder2ForCausalLM",
        own: &[("ffn_up", "mlp.c_fc"), ("ffn_down", "mlp.c_proj")],
        ..PLAIN
    },
    Architecture {
        name: "qwen2moe",
        model_type: "qwen2_moe",
        class: "Qwen2MoeForCausalLM",
        own: &[
            ("ffn_gate_inp", "mlp.gate"),
            ("ffn_gate_inp_shexp", "mlp.shared_expert_gate"),
            ("ffn_gate_shexp", "mlp.shared_expert.gate_proj"),
            ("ffn_up_shexp", "mlp.shared_expert.up_proj"),
            ("ffn_down_shexp", "mlp.shared_expert.down_proj"),
        ],
        mixture: Some(QWEN),
        ..PLAIN
    },
    Architecture {
        name: "qwen3moe",
        model_type: "qwen3_moe",
        class: "Qwen3MoeForCausalLM",
        own: &[("ffn_gate_inp", "mlp.gate")],
        mixture: Some(QWEN),
        ..PLAIN
    },
];

/// The head of a model that has one beside its embedding.
const HEAD: &str = "output.weight";
/// Names outside of layers.
const TOP: &[(&str, &str)] =
    &[("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

/// The key of a header that says what a file holds, and what it says of models, if it is there.
const TYPE: &str = "general.type";
const MODEL: &str = "model";
/// What names of a layer begin with.
const BLOCK: &str = "blk.";
/// The key of a header, behind the architecture, for the number of experts.
const EXPERT_COUNT: &str = "expert_count";

/// Names inside `blk.N` and inside `model.layers.N`.
const LAYER: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

impl Architecture {
    /// The one that a header names; none if it is no header of llama.cpp.
    ///
    /// # Errors
    /// [`CheckpointError::Architecture`] for one whose tensors are not read.
    pub(crate) fn of(said: &HashMap<String, String>) -> Result<Option<&'static Architecture>> {
        let Some(name) = said.get("general.architecture") else { return Ok(None) };
        let mut named = ARCHITECTURES.iter().filter(|known| known.name == name);
        let has_experts = said.get(&format!("{name}.{EXPERT_COUNT}")).is_some_and(|count| count != "0");
        let fitting = named.clone().find(|known| known.mixture.is_some() == has_experts);
        fitting.or_else(|| named.next()).map(Some).ok_or_else(|| {
            let mut known: Vec<&str> = ARCHITECTURES.iter().map(|known| known.name).collect();
            known.dedup();
            let hint = format!(
                "read are {}: merge into the checkpoint that it was converted from",
                known.join(", ")
            );
            Error::new(CheckpointError::Architecture { found: name.clone() }).hint(hint)
        })
    }

    /// What transformers calls the type of most of its models.
    pub(crate) fn model_type(&self) -> &'static str {
        self.model_type
    }

    /// What transformers calls the models that llama.cpp calls so, if these are all.
    pub(crate) fn model_types(&self) -> impl Iterator<Item = &'static str> {
        let is_open = self.namesakes().any(|known| known.is_of_many);
        self.namesakes().filter(move |_| !is_open).map(|known| known.model_type)
    }

    /// All that llama.cpp calls so, of which an adapter's header does not say which is meant.
    fn namesakes(&self) -> impl Iterator<Item = &'static Architecture> {
        let name = self.name;
        ARCHITECTURES.iter().filter(move |known| known.name == name)
    }

    /// The module whose weight a tensor is, as adapters have it; of a stack of experts by the name that trainers have for it.
    pub(crate) fn module(&self, stored: &str) -> Option<String> {
        let stack = |known: &Architecture| {
            let short = STACKS.iter().position(|stack| stored.ends_with(stack)).map(|which| SHORT[which]);
            Some(format!("{}.{}", known.stacked(stored)?.module, short?))
        };
        let own = |known: &Architecture| Some(known.model_name(stored)?.strip_suffix(".weight")?.to_owned());
        self.namesakes().find_map(own).or_else(|| self.namesakes().find_map(stack))
    }

    /// What transformers calls a tensor; nothing for what has no name there.
    pub(crate) fn model_name(&self, stored: &str) -> Option<String> {
        let (path, leaf) = stored.rsplit_once('.')?;
        let found = |rows: &[(&str, &'static str)], stem: &str| {
            rows.iter().find(|(known, _)| *known == stem).map(|(_, name)| *name)
        };
        if !path.starts_with(BLOCK) {
            return Some(format!("{}.{leaf}", found(TOP, path)?));
        }
        let (number, stem) = in_layer(path)?;
        let name = found(self.own, stem).or_else(|| found(LAYER, stem))?;
        Some(format!("model.layers.{number}.{name}.{leaf}"))
    }

    /// What the model has for the matrices of a stack of experts, if a tensor is one.
    fn stacked(&self, stored: &str) -> Option<StackedExperts> {
        let mixture = self.mixture.as_ref()?;
        let (number, leaf) = in_layer(stored)?;
        let which = STACKS.iter().position(|stack| *stack == leaf)?;
        let module = format!("model.layers.{number}.{}", mixture.module).into();
        Some(StackedExperts { module, parameter: mixture.parameters[which] })
    }

    /// The heads whose rows are reordered in the tensor that transformers calls so, of these many of queries and of keys; 0 if its
    /// rows are as transformers has them.
    pub(crate) fn reordered_heads(&self, name: &str, [queries, keys]: [u64; 2]) -> u64 {
        let ends = [(".q_proj.", queries), (".k_proj.", keys)];
        let found = ends.iter().find(|(end, _)| self.is_rotated && name.contains(end));
        found.map_or(0, |(_, heads)| *heads)
    }
}

/// The number of a layer, and what stands behind it in the name of one of its tensors.
fn in_layer(stored: &str) -> Option<(u32, &str)> {
    let (number, rest) = stored.strip_prefix(BLOCK)?.split_once('.')?;
    Some((number.parse().ok().filter(|parsed: &u32| parsed.to_string() == number)?, rest))
}

/// The model that a file of llama.cpp is of.
pub(crate) struct LlamaCpp {
    architecture: &'static Architecture,
    config: Map<String, Value>,
    /// Heads of queries and of keys.
    heads: [u64; 2],
    /// How many experts a layer has.
    experts: u64,
}

impl LlamaCpp {
    /// The model that pairs of a header describe; none if they are no header of llama.cpp.
    ///
    /// # Errors
    /// As [`Architecture::of`]; [`CheckpointError::NoSuchKey`] for sizes that are missing; [`CheckpointError::ManyExperts`].
    pub(crate) fn of(said: Vec<(String, String)>) -> Result<Option<LlamaCpp>> {
        let said: HashMap<String, String> = said.into_iter().collect();
        let Some(architecture) = Architecture::of(&said)? else { return Ok(None) };
        if let Some(found) = said.get(TYPE).filter(|found| *found != MODEL) {
            return Err(CheckpointError::NoModel { found: found.clone() }.into());
        }
        let name = architecture.name;
        let number = |key: &str| said.get(&format!("{name}.{key}"))?.parse::<u64>().ok();
        let needed = |key: &str| {
            let problem = || CheckpointError::NoSuchKey { key: format!("{name}.{key}") };
            number(key).filter(|number| *number > 0 && *number < 1 << 32).ok_or_else(problem)
        };
        let heads = needed("attention.head_count")?;
        // Where layers differ it is a list, which is not read.
        let has_own = said.contains_key(&format!("{name}.attention.head_count_kv"));
        let kv_heads = if has_own { needed("attention.head_count_kv")? } else { heads };
        let hidden = needed("embedding_length")?;
        let experts = if architecture.mixture.is_some() { needed(EXPERT_COUNT)? } else { 0 };
        if experts > MOST_EXPERTS {
            return Err(CheckpointError::ManyExperts { found: experts, most: MOST_EXPERTS }.into());
        }
        let mut config = Map::new();
        let mut put = |key: &str, value: Value| config.insert(key.to_owned(), value);
        put("architectures", json!([architecture.class]));
        put("model_type", architecture.model_type.into());
        put("hidden_size", hidden.into());
        put("num_hidden_layers", needed("block_count")?.into());
        put("num_attention_heads", heads.into());
        put("num_key_value_heads", kv_heads.into());
        put("head_dim", number("attention.key_length").or(hidden.checked_div(heads)).into());
        for (key, own) in
            [("attention.layer_norm_rms_epsilon", "rms_norm_eps"), ("rope.freq_base", "rope_theta")]
        {
            let number = said.get(&format!("{name}.{key}")).and_then(|text| text.parse::<f64>().ok());
            number.into_iter().for_each(|number| drop(put(own, number.into())));
        }
        if let Some(mixture) = &architecture.mixture {
            put(mixture.count, experts.into());
        }
        Ok(Some(LlamaCpp { architecture, config, heads: [heads, kv_heads], experts }))
    }

    /// What a tensor is called in transformers, and how it is stored; nothing for what has no name there.
    ///
    /// # Errors
    /// [`CheckpointError::Heads`] and [`CheckpointError::Experts`] for one that the header's sizes do not fit.
    pub(crate) fn read(&self, tensor: &BaseTensor) -> Result<(Option<Name>, StoredAs)> {
        let stored = &tensor.name;
        let name = self.architecture.model_name(stored);
        let form = self.form(tensor, name.as_deref())?;
        let is_norm = name.as_deref().is_some_and(|name| name.ends_with("norm.weight"));
        let is_shifted = self.architecture.is_shifted && is_norm;
        Ok((name.map(Name::from), StoredAs { name: stored.clone(), form, is_shifted }))
    }

    fn form(
        &self,
        BaseTensor { name: stored, tensor }: &BaseTensor,
        name: Option<&str>,
    ) -> Result<StoredForm> {
        let (shape, axes) = (&tensor.shape, tensor.shape.axes());
        if let Some(stacked) = self.architecture.stacked(stored) {
            // Of matrices of nothing there may be any number in no bytes.
            if axes.len() != 3 || axes[0] != self.experts || axes.contains(&0) {
                let (tensor, found, experts) = (stored.to_string(), shape.clone(), self.experts);
                return Err(CheckpointError::Experts { tensor, found, experts }.into());
            }
            return Ok(StoredForm::Experts(stacked));
        }
        let heads = name.map_or(0, |name| self.architecture.reordered_heads(name, self.heads));
        if heads == 0 {
            let is_row = name.is_some() && axes.len() == 1 && stored.ends_with(SHARED_GATE);
            return Ok(if is_row { StoredForm::Row } else { StoredForm::Same });
        }
        let rows = axes.first().copied().unwrap_or(1);
        if !rows.is_multiple_of(2 * heads) {
            return Err(CheckpointError::Heads { tensor: stored.to_string(), rows, heads }.into());
        }
        Ok(StoredForm::ReorderedHeads(heads))
    }

    /// What the model's `config.json` would say of it, which is stored so.
    pub(crate) fn config(mut self, stored: &[StoredAs], has_bf16: bool) -> Config {
        let has_head = stored.iter().any(|stored| *stored.name == *HEAD);
        let dtype = if has_bf16 { "bfloat16" } else { "float16" };
        self.config.insert("tie_word_embeddings".to_owned(), (!has_head).into());
        self.config.insert("dtype".to_owned(), dtype.into());
        Config::made(self.config.into(), self.architecture.is_of_many)
    }
}

/// Whether a tensor is made of a config alone: factors of rotary positions.
pub(crate) fn is_of_config(stored: &str) -> bool {
    let stem = stored.strip_suffix(".weight");
    stem.is_some_and(|stem| ["rope_freqs", "rope_factors_long", "rope_factors_short"].contains(&stem))
}

/// Whether models of these types are surely of different architectures; `llama` stands for many other types.
pub(crate) fn are_apart(one: &str, other: &str) -> bool {
    let name = |model_type: &str| {
        ARCHITECTURES.iter().find(|known| known.model_type == model_type).map(|known| known.name)
    };
    name(one).zip(name(other)).is_some_and(|(one, other)| one != other)
}

/// What a tensor that the model has by this name is stored as.
pub(crate) fn stored_name(name: &str) -> Option<String> {
    let (path, leaf) = name.rsplit_once('.')?;
    let (stem, _) = TOP.iter().find(|(_, known)| *known == path)?;
    Some(format!("{stem}.{leaf}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    fn said(architecture: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let sizes = [("embedding_length", "64"), ("block_count", "2"), ("attention.head_count", "8")];
        let sizes = sizes
            .iter()
            .chain(more)
            .map(|(key, value)| (format!("{architecture}.{key}"), (*value).to_owned()));
        std::iter::once(("general.architecture".to_owned(), architecture.to_owned())).chain(sizes).collect()
    }

    fn model(architecture: &str, more: &[(&str, &str)]) -> LlamaCpp {
        LlamaCpp::of(said(architecture, more)).expect("known").expect("an architecture")
    }

    /// What becomes of a tensor of 64 rows.
    fn read(architecture: &str, more: &[(&str, &str)], stored: &str) -> (Option<Name>, StoredAs) {
        let shape = Shape::new(&[64, 64]).expect("small");
        let tensor = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F16, shape };
        model(architecture, more).read(&BaseTensor { name: stored.into(), tensor }).expect("it fits")
    }

    #[test]
    fn tensors_have_the_names_of_transformers() {
        let name =
            |architecture: &str, stored: &str| read(architecture, &[], stored).0.map(|name| name.to_string());
        for (architecture, stored, expected) in [
            ("llama", "blk.31.attn_q.weight", Some("model.layers.31.self_attn.q_proj.weight")),
            ("llama", "blk.0.ffn_norm.weight", Some("model.layers.0.post_attention_layernorm.weight")),
            ("gemma2", "blk.0.ffn_norm.weight", Some("model.layers.0.pre_feedforward_layernorm.weight")),
            ("phi3", "blk.7.ffn_up.weight", Some("model.layers.7.mlp.gate_up_proj.weight")),
            ("starcoder2", "blk.7.ffn_up.bias", Some("model.layers.7.mlp.c_fc.bias")),
            ("qwen3", "token_embd.weight", Some("model.embed_tokens.weight")),
            ("qwen3", "output.weight", Some("lm_head.weight")),
            ("llama", "rope_freqs.weight", None),
            ("llama", "blk.0.ffn_gate_other.weight", None),
            ("llama", "blk.00.attn_q.weight", None),
            ("llama", "blk.-1.attn_q.weight", None),
            ("llama", "blk.attn_q.weight", None),
            ("llama", "attn_q", None),
        ] {
            assert_eq!(name(architecture, stored).as_deref(), expected, "{architecture} {stored}");
        }
        assert_eq!(stored_name("lm_head.weight").as_deref(), Some("output.weight"));
        assert_eq!(stored_name("score.weight"), None);
    }

    #[test]
    fn what_is_stored_otherwise_is_known() {
        let stored = |architecture: &str, name: &str| {
            let (_, stored) = read(architecture, &[("attention.head_count_kv", "2")], name);
            let heads = match stored.form {
                StoredForm::ReorderedHeads(heads) => heads,
                _ => 0,
            };
            (heads, stored.is_shifted)
        };
        for (architecture, name, expected) in [
            ("llama", "blk.0.attn_q.weight", (8, false)),
            ("llama", "blk.0.attn_k.weight", (2, false)),
            ("llama", "blk.0.attn_v.weight", (0, false)),
            ("qwen2", "blk.0.attn_q.weight", (0, false)),
            ("gemma3", "blk.0.attn_q_norm.weight", (0, true)),
            ("gemma3", "output_norm.weight", (0, true)),
            ("gemma3", "blk.0.attn_q.weight", (0, false)),
            ("llama", "output_norm.weight", (0, false)),
        ] {
            assert_eq!(stored(architecture, name), expected, "{architecture} {name}");
        }
    }

    #[test]
    fn a_header_is_a_config() {
        let own = [StoredAs { name: "output.weight".into(), form: StoredForm::Same, is_shifted: false }];
        let config = model("gemma3", &[("attention.key_length", "16")]).config(&own, true);
        assert!(config.is_made() && !config.is_of_many());
        assert_eq!((config.class(), config.model_type()), (Some("Gemma3ForCausalLM"), Some("gemma3_text")));
        assert_eq!((config.ties_embeddings(), config.dtype()), (Some(false), Some(Dtype::BF16)));
        assert_eq!(config.get("head_dim"), Some(&json!(16)));
        let config = model("llama", &[]).config(&[], false);
        assert!(config.is_of_many());
        assert_eq!((config.ties_embeddings(), config.dtype()), (Some(true), Some(Dtype::F16)));
        assert_eq!(
            (config.get("head_dim"), config.get("num_key_value_heads")),
            (Some(&json!(8)), Some(&json!(8)))
        );
        assert!(LlamaCpp::of(vec![("format".to_owned(), "pt".to_owned())]).expect("no error").is_none());
        for (architecture, more, key) in [
            ("mamba", &[][..], "`mamba`"),
            ("llama", &[("attention.head_count_kv", "0")], "llama.attention.head_count_kv"),
            ("llama", &[("attention.head_count_kv", "[…]")], "llama.attention.head_count_kv"),
        ] {
            let refused = LlamaCpp::of(said(architecture, more)).err().expect("refused").to_string();
            assert!(refused.contains(key), "{refused}");
        }
    }
}
