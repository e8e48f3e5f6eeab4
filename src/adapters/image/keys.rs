//! What trainers of image models call components and factors: rows of facts, and keys read by them.
//!
//! ```text
//! lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight      Kohya, LyCORIS: a module's path with `_` for each dot
//! unet.down_blocks.0.attentions.0.proj_in.lora_A.weight              diffusers, ai-toolkit, OneTrainer, ComfyUI
//! └prefix─┘└──────────── module ────────┘└─── tail ───┘
//! ```
//!
//! Sources: sd-scripts `networks/lora.py`; lycoris-lora 4.1 `kohya.py`, `wrapper.py` and its modules' `custom_state_dict`; diffusers 0.42
//! `loaders/lora_conversion_utils.py` and `loaders/lora_base.py`; key-mapping.md 10.4 and 10.5.

/// One component, as one trainer calls it.
#[derive(Debug)]
pub(crate) struct Component {
    /// What keys begin with.
    pub(crate) prefix: &'static str,
    /// Whose format it is.
    pub(crate) format: &'static str,
}

impl Component {
    /// Whether the dots of a module's path are underscores, as the one behind the component is.
    pub(crate) fn is_joined(&self) -> bool {
        self.prefix.ends_with('_')
    }
}

const fn of(prefix: &'static str, format: &'static str) -> Component {
    Component { prefix, format }
}

const KOHYA: &str = "Kohya";
const LYCORIS: &str = "LyCORIS";
const DIFFUSERS: &str = "diffusers";
const ONE_TRAINER: &str = "OneTrainer";
const AI_TOOLKIT: &str = "ai-toolkit";
const COMFY_UI: &str = "ComfyUI";

/// All of them. No prefix begins another.
pub(crate) static COMPONENTS: &[Component] = &[
    of("lora_unet_", KOHYA),
    of("lora_te_", KOHYA),
    of("lora_te1_", KOHYA),
    of("lora_te2_", KOHYA),
    of("lora_te3_", KOHYA),
    of("lora_transformer_", KOHYA),
    of("lora_prior_unet_", KOHYA),
    of("lycoris_", LYCORIS),
    of("unet.", DIFFUSERS),
    of("transformer.", DIFFUSERS),
    of("transformer_2.", DIFFUSERS),
    of("text_encoder.", DIFFUSERS),
    of("text_encoder_2.", DIFFUSERS),
    of("text_encoder_3.", DIFFUSERS),
    of("diffusion_model.", AI_TOOLKIT),
    of("model.diffusion_model.", COMFY_UI),
    of("lora_unet.", ONE_TRAINER),
    of("lora_transformer.", ONE_TRAINER),
    of("lora_prior.", ONE_TRAINER),
    of("lora_te.", ONE_TRAINER),
    of("lora_te1.", ONE_TRAINER),
    of("lora_te2.", ONE_TRAINER),
    of("lora_te3.", ONE_TRAINER),
];

/// The end of a key, and of the path that PEFT has for it; none for a module's own alpha.
type KeyTail = (&'static str, Option<&'static str>);

const A: Option<&str> = Some(".lora_A.weight");
const B: Option<&str> = Some(".lora_B.weight");
const MAGNITUDE: Option<&str> = Some(".lora_magnitude_vector");

/// All tails that are read. What of a module is called like nothing here changes it in a way that nobody reads.
const TAILS: &[KeyTail] = &[
    (".lora_down.weight", A),
    (".lora_up.weight", B),
    (".lora_A.weight", A),
    (".lora_B.weight", B),
    (".lora_A.default.weight", A),
    (".lora_B.default.weight", B),
    (".lora.down.weight", A),
    (".lora.up.weight", B),
    (".lora_linear_layer.down.weight", A),
    (".lora_linear_layer.up.weight", B),
    ("_lora.down.weight", A),
    ("_lora.up.weight", B),
    (".dora_scale", MAGNITUDE),
    (".lora_magnitude_vector", MAGNITUDE),
    (".lora_magnitude_vector.weight", MAGNITUDE),
    (".hada_w1_a", Some(".hada_w1_a")),
    (".hada_w1_b", Some(".hada_w1_b")),
    (".hada_w2_a", Some(".hada_w2_a")),
    (".hada_w2_b", Some(".hada_w2_b")),
    (".hada_t1", Some(".hada_t1")),
    (".hada_t2", Some(".hada_t2")),
    (".lokr_w1", Some(".lokr_w1")),
    (".lokr_w1_a", Some(".lokr_w1_a")),
    (".lokr_w1_b", Some(".lokr_w1_b")),
    (".lokr_w2", Some(".lokr_w2")),
    (".lokr_w2_a", Some(".lokr_w2_a")),
    (".lokr_w2_b", Some(".lokr_w2_b")),
    (".lokr_t2", Some(".lokr_t2")),
    (".alpha", None),
];

/// What old versions of diffusers have in a module's path, and what the model has.
const RENAMED: &[(&str, &str)] = &[(".processor.", "."), (".to_out_lora", ".to_out.0_lora")];

/// A key, read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// What its component's keys begin with.
    pub(crate) prefix: &'static str,
    /// The module, as the trainer spells it.
    pub(crate) module: String,
    /// What PEFT's path ends with; none for alpha.
    pub(crate) tail: Option<&'static str>,
}

impl Key {
    /// Reads a key; none if it is of no component, or of nothing that is read.
    pub(crate) fn read(key: &str) -> Option<Key> {
        let component = component_of(key)?;
        let inner = RENAMED
            .iter()
            .fold(key[component.prefix.len()..].to_owned(), |key, (old, new)| key.replacen(old, new, 1));
        let (module, tail) = TAILS.iter().find_map(|(end, tail)| Some((inner.strip_suffix(end)?, *tail)))?;
        let is_one = !module.is_empty() && (!component.is_joined() || !module.contains('.'));
        is_one.then(|| Key { prefix: component.prefix, module: module.to_owned(), tail })
    }

    /// Whether the dots of the module's path are underscores.
    pub(crate) fn is_joined(&self) -> bool {
        self.prefix.ends_with('_')
    }

    /// Whether its component is a text encoder.
    pub(crate) fn is_text(&self) -> bool {
        self.prefix.starts_with("text_encoder") || self.prefix.starts_with("lora_te")
    }

    /// The module under the name of its component, without what PEFT's tails begin with.
    pub(crate) fn whole_module(&self) -> String {
        format!("{}{}", self.prefix.trim_start_matches("lora_"), self.module)
    }

    /// The path by PEFT's grammar; of an alpha the module's own.
    pub(crate) fn path(&self) -> String {
        format!("{}{}", self.whole_module(), self.tail.unwrap_or(".alpha"))
    }
}

/// The component that a key is of.
pub(crate) fn component_of(key: &str) -> Option<&'static Component> {
    COMPONENTS.iter().find(|component| key.starts_with(component.prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_by_their_ends() {
        for (key, path) in [
            ("lora_unet_down_blocks_0_to_q.lora_down.weight", "unet_down_blocks_0_to_q.lora_A.weight"),
            ("lora_te1_text_model_x.lora_up.weight", "te1_text_model_x.lora_B.weight"),
            ("lycoris_blocks_0_to_q.hada_w1_a", "lycoris_blocks_0_to_q.hada_w1_a"),
            ("lycoris_blocks_0_to_q.dora_scale", "lycoris_blocks_0_to_q.lora_magnitude_vector"),
            ("lora_unet_mid.alpha", "unet_mid.alpha"),
            ("unet.mid.attn1.to_q.lora_A.weight", "unet.mid.attn1.to_q.lora_A.weight"),
            ("unet.mid.attn1.to_q.lora.down.weight", "unet.mid.attn1.to_q.lora_A.weight"),
            ("unet.mid.attn1.processor.to_q_lora.down.weight", "unet.mid.attn1.to_q.lora_A.weight"),
            ("unet.mid.attn1.processor.to_out_lora.up.weight", "unet.mid.attn1.to_out.0.lora_B.weight"),
            ("text_encoder.q_proj.lora_linear_layer.up.weight", "text_encoder.q_proj.lora_B.weight"),
            ("transformer.a.lora_A.default.weight", "transformer.a.lora_A.weight"),
            ("diffusion_model.a.lokr_w2", "diffusion_model.a.lokr_w2"),
        ] {
            assert_eq!(Key::read(key).map(|key| key.path()).as_deref(), Some(path), "{key}");
        }
        for key in
            ["unet.conv_in.weight", "lora_unet_a.b.lora_down.weight", "lora_unet_.alpha", "lora_unet_a.diff"]
        {
            assert_eq!(Key::read(key), None, "{key}");
        }
    }

    #[test]
    fn no_prefix_begins_another() {
        for one in COMPONENTS {
            let others = COMPONENTS.iter().filter(|other| other.prefix.starts_with(one.prefix));
            assert_eq!(others.count(), 1, "{}", one.prefix);
        }
        for (i, (end, _)) in TAILS.iter().enumerate() {
            let hidden = TAILS[i + 1..].iter().find(|(other, _)| other.ends_with(end));
            assert_eq!(hidden, None, "{end}");
        }
    }
}
