//! The libraries whose checkpoints are known, and how their directories differ: what weights are called, and what names the class.

/// A library that saves checkpoints.
#[derive(Debug, PartialEq, Eq)]
pub struct Library {
    /// Its name, as model cards have it.
    pub name: &'static str,
    /// What the names of its files of weights begin with.
    pub stem: &'static str,
    /// What they began with before there were safetensors.
    pub older_stem: &'static str,
    /// The key of `config.json` that names the model's class: a text, or a list of them.
    pub class_key: &'static str,
    /// Its versions that name parameters otherwise than files do: by rules for whole names, and by all rules.
    renames: [&'static str; 2],
    /// Whether its indices say how many parameters a model has.
    pub(crate) counts_parameters: bool,
    /// Whether its models predict tokens, so that embeddings and a head may share a tensor.
    pub predicts_tokens: bool,
}

/// All that are known. The first is meant where a config names no class.
pub(crate) const LIBRARIES: &[Library] = &[
    Library {
        name: "transformers",
        stem: "model",
        older_stem: "pytorch_model",
        class_key: "architectures",
        renames: ["transformers 4.52", "transformers 5"],
        counts_parameters: true,
        predicts_tokens: true,
    },
    Library {
        name: "diffusers",
        stem: "diffusion_pytorch_model",
        older_stem: "diffusion_pytorch_model",
        class_key: "_class_name",
        renames: ["diffusers"; 2],
        counts_parameters: false,
        predicts_tokens: false,
    },
];

/// What loads GGUF files.
pub(crate) const GGUF: Library = Library {
    name: "gguf",
    stem: "",
    older_stem: "",
    class_key: "architectures",
    renames: ["transformers 4.52", "transformers 5"],
    counts_parameters: false,
    predicts_tokens: true,
};

impl Library {
    /// The one whose pipelines are directories of checkpoints: the second in the table.
    pub(crate) fn of_pipelines() -> &'static Library {
        &LIBRARIES[1]
    }

    /// The version that names parameters by all rules, or by those for whole names alone.
    pub fn version(&self, has_all_rules: bool) -> &'static str {
        self.renames[usize::from(has_all_rules)]
    }

    /// The library whose key for a model's class a config has.
    pub(crate) fn with_key(has_key: impl Fn(&str) -> bool) -> &'static Library {
        LIBRARIES.iter().find(|library| has_key(library.class_key)).unwrap_or(&LIBRARIES[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::config::Config;
    use serde_json::json;

    #[test]
    fn a_config_tells_its_library_and_its_class() {
        for (config, library, class) in [
            (json!({"architectures": ["LlamaForCausalLM"]}), "transformers", Some("LlamaForCausalLM")),
            (json!({"_class_name": "FluxTransformer2DModel"}), "diffusers", Some("FluxTransformer2DModel")),
            (json!({"model_type": "llama"}), "transformers", None),
            (json!(null), "transformers", None),
        ] {
            let config = Config::from(config);
            assert_eq!((config.library().name, config.class()), (library, class), "{config:?}");
        }
        assert_eq!(Library::of_pipelines().name, "diffusers");
    }
}
