//! Modules that a checkpoint may hold and its running model need not have: what nobody trains there is not missing.
//!
//! Checkpoints of models that predict several tokens hold the layers for that behind the last one (`model.layers.61` of
//! DeepSeek-V3, `46` and `92` of GLM-4.5), and transformers leaves them out. Gemma 3n and 4 hold keys and values of layers that
//! share those of layers before them, and newer versions of transformers do not build these.

use serde_json::{Map, Value};

use crate::checkpoint::config::Config;

/// Names of the number of layers, of decoders and encoders alike.
const LAYERS: &[&str] = &[
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "encoder_layers",
    "decoder_layers",
    "num_decoder_layers",
];
/// The number of layers at the end that have no keys and values of their own.
const SHARING: &str = "num_kv_shared_layers";

/// What a config says of the layers of its text part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnusedLayers {
    /// How many run; the larger number, where encoder and decoder have one each.
    running: Option<u64>,
    /// The first of those that share keys and values.
    first_sharing: Option<u64>,
}

impl UnusedLayers {
    /// As `config` says.
    pub(crate) fn of(config: &Config) -> UnusedLayers {
        let texts = config.main_text_config();
        let number = |fields: &Map<String, Value>, key: &str| fields.get(key).and_then(Value::as_u64);
        let most = |fields| LAYERS.iter().filter_map(|key| number(fields, key)).max();
        let running = texts.iter().find_map(|text| most(text.fields));
        let sharing = texts.iter().find_map(|text| number(text.fields, SHARING)).filter(|&count| count > 0);
        UnusedLayers {
            running,
            first_sharing: running.zip(sharing).map(|(all, some)| all.saturating_sub(some)),
        }
    }

    /// Whether the running model need not have a module, by its path and the number of its layer.
    pub(crate) fn may_lack(self, module: &str, layer: u64) -> bool {
        let leaf = module.rsplit('.').next().unwrap_or(module);
        let is_shared = || leaf.starts_with("k_") || leaf.starts_with("v_");
        self.running.is_some_and(|running| layer >= running)
            || self.first_sharing.is_some_and(|first| layer >= first) && is_shared()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn layers_behind_the_last_and_shared_keys_need_not_run() {
        let of = |config: Value| UnusedLayers::of(&Config::from(config));
        let plain = of(json!({"num_hidden_layers": 61, "num_nextn_predict_layers": 1}));
        assert!(plain.may_lack("model.layers.61.self_attn.o_proj", 61));
        assert!(!plain.may_lack("model.layers.60.self_attn.k_proj", 60));
        let shared = of(json!({"text_config": {"num_hidden_layers": 35, "num_kv_shared_layers": 15}}));
        assert!(shared.may_lack("model.language_model.layers.20.self_attn.k_proj", 20));
        assert!(!shared.may_lack("model.language_model.layers.20.self_attn.q_proj", 20));
        assert!(!shared.may_lack("model.language_model.layers.19.self_attn.v_proj", 19));
        let both = of(json!({"encoder_layers": 2, "decoder_layers": 4, "num_hidden_layers": 2}));
        assert!(!both.may_lack("model.decoder.layers.3.fc1", 3));
        assert!(!of(json!({})).may_lack("layers.9.k_proj", 9), "nobody says how many there are");
    }
}
