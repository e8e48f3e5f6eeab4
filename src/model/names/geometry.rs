//! The few sizes of a config that tell one part of a fused tensor from another.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::checkpoint::config::Config;

/// Model types whose experts are held as `[experts, in, out]`, for where the sizes do not tell.
const IN_OUT: &[&str] = &["llama4", "llama4_text", "qwen3_vl_moe", "qwen3_vl_moe_text", "gpt_oss"];
/// Model types whose gate and up columns alternate.
const ALTERNATING: &[&str] = &["gpt_oss"];

/// What configs call the number of experts.
const EXPERT_COUNTS: &[&str] = &["num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"];

/// What configs call the number of heads of attention; the second is that of Kimi's own code.
const HEAD_COUNTS: &[&str] = &["num_attention_heads", "vt_num_attention_heads"];

/// What the config of a model's language part says about sizes.
#[derive(Clone, Debug, Default)]
pub struct Geometry {
    /// Model types: of the whole, and of its language part.
    pub model_types: Vec<String>,
    /// Width of the hidden states.
    pub hidden: Option<u64>,
    /// Number of heads of queries.
    pub heads: Option<u64>,
    /// Number of heads of keys and values.
    pub kv_heads: Option<u64>,
    /// Width of a head.
    pub head_dim: Option<u64>,
    /// Number of experts of a layer.
    pub experts: Option<u64>,
    /// Every whole number, by its field.
    numbers: BTreeMap<String, u64>,
    /// Heads of attention of parts of the model, by the field that their config is.
    heads_of_parts: BTreeMap<String, u64>,
}

impl Geometry {
    /// Reads a config, that of its text part first.
    pub fn of(config: &Config) -> Geometry {
        let texts = config.main_text_config();
        let field = |key: &str| texts.iter().find_map(|text| text.fields.get(key));
        let number = |key: &str| field(key).and_then(Value::as_u64);
        let types = texts.iter().rev().map(|text| text.fields.get("model_type")?.as_str());
        let (hidden, heads) = (number("hidden_size"), number("num_attention_heads"));
        let quotient = hidden.zip(heads).and_then(|(hidden, heads)| hidden.checked_div(heads));
        let all = texts.iter().rev().flat_map(|text| text.fields);
        let part = |(field, value): (&String, &Value)| {
            let heads = HEAD_COUNTS.iter().find_map(|name| value.get(name)?.as_u64())?;
            Some((field.clone(), heads))
        };
        Geometry {
            heads_of_parts: config.value().as_object().into_iter().flatten().filter_map(part).collect(),
            numbers: all.filter_map(|(field, value)| Some((field.clone(), value.as_u64()?))).collect(),
            model_types: types.flatten().map(str::to_owned).collect(),
            hidden,
            heads,
            kv_heads: number("num_key_value_heads").or(heads),
            head_dim: number("head_dim").or(quotient),
            experts: EXPERT_COUNTS.iter().find_map(|field| number(field)),
        }
    }

    /// How many heads of attention a part of the config says, or all of it.
    pub(crate) fn heads_of(&self, part: Option<&str>) -> Option<u64> {
        part.map_or(self.heads, |part| self.heads_of_parts.get(part).copied())
    }

    /// The number that a field of the config has; what transformers takes for those of attention, if it has none.
    pub fn number(&self, field: &str) -> Option<u64> {
        self.numbers.get(field).copied().or(match field {
            "head_dim" => self.head_dim,
            "num_key_value_heads" => self.kv_heads,
            _ => None,
        })
    }

    /// Whether it is of one of those model types.
    pub fn is_one_of(&self, model_types: &[&str]) -> bool {
        self.model_types.iter().any(|model_type| model_types.contains(&model_type.as_str()))
    }

    /// Whether gate and up columns of fused experts alternate.
    pub fn alternates(&self) -> bool {
        self.is_one_of(ALTERNATING)
    }

    /// Rows of queries, keys and values.
    pub fn attention(&self) -> Option<[u64; 3]> {
        let (d, kv) = (self.head_dim?, self.kv_heads?);
        Some([self.heads?.checked_mul(d)?, kv.checked_mul(d)?, kv.checked_mul(d)?])
    }

    /// Whether the parameters of an experts module are `[experts, in, out]`, by the shapes of what makes and what takes
    /// the hidden width: `gate_up_proj` (or `up_proj`) has it as "in", `down_proj` as "out".
    pub fn is_in_out(&self, up: Option<&[u64]>, down: Option<&[u64]>) -> bool {
        let by_hidden = |shape: Option<&[u64]>, axis: usize| {
            let (&[_, a, b], hidden) = (shape?, self.hidden?) else { return None };
            let is_hidden = [a == hidden, b == hidden];
            (is_hidden[0] != is_hidden[1]).then_some(is_hidden[axis])
        };
        let known = by_hidden(up, 0).or_else(|| by_hidden(down, 1));
        known.unwrap_or_else(|| self.is_one_of(IN_OUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hidden_width_tells_in_from_out() {
        let config = |hidden: u64, model_type: &str| {
            Geometry::of(&Config::from(
                serde_json::json!({"model_type": model_type, "text_config": {"hidden_size": hidden}}),
            ))
        };
        let model = config(8, "x");
        assert!(model.is_in_out(Some(&[2, 8, 6]), None) && !model.is_in_out(Some(&[2, 6, 8]), None));
        assert!(model.is_in_out(Some(&[2, 8, 8]), Some(&[2, 4, 8])), "the other tells");
        assert!(!model.is_in_out(Some(&[2, 8, 8]), Some(&[2, 8, 4])));
        assert!(config(9, "llama4").is_in_out(Some(&[2, 8, 8]), None), "the model type tells");
    }

    #[test]
    fn rows_of_attention() {
        let config =
            serde_json::json!({"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2});
        assert_eq!(Geometry::of(&Config::from(config)).attention(), Some([32, 16, 16]));
    }
}
