//! What trainers of image models call components and factors: rows of facts, and keys read by them.
//!
//! ```text
//! lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight      Kohya, LyCORIS: a module's path with `_` for each dot
//! unet.down_blocks.0.attentions.0.proj_in.lora_A.weight              diffusers, ai-toolkit, OneTrainer, ComfyUI
//! └prefix─┘└──────────── module ────────┘└─── tail ───┘
//! blocks.0.self_attn.q.lora_A.default.weight                         DiffSynth, XLabs: the module's path by itself
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
const XLABS: &str = "XLabs";
const DIFF_SYNTH: &str = "DiffSynth";

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
    of("text_encoders.clip_l.transformer.", COMFY_UI),
    of("text_encoders.clip_g.transformer.", COMFY_UI),
    of("text_encoders.t5xxl.transformer.", COMFY_UI),
    of("text_encoders.umt5xxl.transformer.", COMFY_UI),
    of("pipe.dit.", DIFF_SYNTH),
    of("lora_unet.", ONE_TRAINER),
    of("lora_transformer.", ONE_TRAINER),
    of("lora_prior.", ONE_TRAINER),
    of("lora_te.", ONE_TRAINER),
    of("lora_te1.", ONE_TRAINER),
    of("lora_te2.", ONE_TRAINER),
    of("lora_te3.", ONE_TRAINER),
];

/// Components whose keys begin with the module, by what such keys have in them.
static BARE: &[(&str, Component)] = &[
    (".processor.qkv_lora", of("", XLABS)),
    (".processor.proj_lora", of("", XLABS)),
    (".processor.to_", of("", DIFFUSERS)),
    (".lora_A.default.weight", of("", DIFF_SYNTH)),
    (".lora_B.default.weight", of("", DIFF_SYNTH)),
];
/// What PEFT's own keys begin with, which are no component's.
const PEFT: &str = "base_model.";

/// The end of a key, and of the path that PEFT has for it; none for a module's own alpha.
type KeyTail = (&'static str, Option<&'static str>);

const A: Option<&str> = Some(".lora_A.weight");
const B: Option<&str> = Some(".lora_B.weight");
const MAGNITUDE: Option<&str> = Some(".lora_magnitude_vector");
const DIFF: Option<&str> = Some(".diff_weight");
/// What is added to a bias, beside whatever changes the weight.
pub(crate) const DIFF_BIAS: &str = ".diff_bias";

/// All tails that are read. What of a module is called like nothing here changes it in a way that nobody reads.
const TAILS: &[KeyTail] = &[
    (".lora_down.weight", A),
    (".lora_up.weight", B),
    (".lora_A.weight", A),
    (".lora_B.weight", B),
    (".lora_A.default.weight", A),
    (".lora_B.default.weight", B),
    (".lora_mid.weight", Some(".lora_mid.weight")),
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
    (".oft_blocks", Some(".oft_blocks")),
    (".rescale", Some(".oft_rescale")),
    (".diff", DIFF),
    (".diff_b", Some(DIFF_BIAS)),
    (".w_norm", DIFF),
    (".b_norm", Some(DIFF_BIAS)),
    (".set_weight", Some(".weight")),
    (".alpha", None),
];

/// Tails of modules whose paths have no dots, and that mean something else behind other paths; LyCORIS writes them.
const JOINED_TAILS: &[KeyTail] = &[
    (".a1.weight", Some(".glora_a1")),
    (".a2.weight", Some(".glora_a2")),
    (".b1.weight", Some(".glora_b1")),
    (".b2.weight", Some(".glora_b2")),
    (".on_input", Some(ON_INPUT)),
    (".weight", Some(IA3_OUTPUTS)),
];
/// Whether LyCORIS' (IA)³ has a vector for inputs.
pub(crate) const ON_INPUT: &str = ".on_input";
/// Its vector, if it is for outputs.
pub(crate) const IA3_OUTPUTS: &str = ".ia3_outputs";

/// What old versions of diffusers and XLabs have in a module's path, and what the model has.
const RENAMED: &[(&str, &str)] = &[
    (".processor.qkv_lora1.", ".img_attn.qkv.lora."),
    (".processor.qkv_lora2.", ".txt_attn.qkv.lora."),
    (".processor.proj_lora1.", ".img_attn.proj.lora."),
    (".processor.proj_lora2.", ".txt_attn.proj.lora."),
    (".processor.qkv_lora.", ".qkv.lora."),
    (".processor.proj_lora.", ".linear2.lora."),
    (".processor.", "."),
    (".to_out_lora", ".to_out.0_lora"),
];

/// Ends of keys that no rule reads, and why.
const REFUSED: &[(&str, &str)] =
    &[(".bias_indices", SPARSE), (".bias_values", SPARSE), (".bias_size", SPARSE)];
/// What OneTrainer calls the embeddings of new tokens.
const NEW_TOKENS: &str = "bundle_emb.";
const SPARSE: &str =
    "the sparse rest of a difference is not merged: extract the adapter again without a sparse bias";

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
        let joined = JOINED_TAILS.iter().filter(|_| component.is_joined());
        let mut tails = TAILS.iter().chain(joined);
        let (module, tail) = tails.find_map(|(end, tail)| Some((inner.strip_suffix(end)?, *tail)))?;
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
    let bare = || BARE.iter().find(|(text, _)| key.contains(text) && !key.starts_with(PEFT));
    let named = COMPONENTS.iter().find(|component| key.starts_with(component.prefix));
    named.or_else(|| bare().map(|(_, component)| component))
}

/// Why a key that is not read is not.
pub(crate) fn unread(key: &str) -> &'static str {
    if key.starts_with(NEW_TOKENS) {
        return "it is an embedding of new tokens, which is no weight of a component: load it as a textual inversion, and take it out of the file";
    }
    if component_of(key).is_none() {
        return "its name begins as that of no component of a pipeline";
    }
    let known = REFUSED.iter().find(|(end, _)| key.ends_with(end));
    known.map_or("no method that is read has it", |(_, why)| why)
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
            ("lora_unet_mid.weight", "unet_mid.ia3_outputs"),
            ("lora_unet_mid.a1.weight", "unet_mid.glora_a1"),
            ("unet.mid.attn1.to_q.lora_A.weight", "unet.mid.attn1.to_q.lora_A.weight"),
            ("unet.mid.attn1.to_q.lora.down.weight", "unet.mid.attn1.to_q.lora_A.weight"),
            ("unet.mid.attn1.processor.to_q_lora.down.weight", "unet.mid.attn1.to_q.lora_A.weight"),
            ("unet.mid.attn1.processor.to_out_lora.up.weight", "unet.mid.attn1.to_out.0.lora_B.weight"),
            ("mid.attn1.processor.to_v_lora.up.weight", "mid.attn1.to_v.lora_B.weight"),
            ("text_encoder.q_proj.lora_linear_layer.up.weight", "text_encoder.q_proj.lora_B.weight"),
            ("transformer.a.lora_A.default.weight", "transformer.a.lora_A.weight"),
            ("diffusion_model.a.lokr_w2", "diffusion_model.a.lokr_w2"),
            ("diffusion_model.a.diff", "diffusion_model.a.diff_weight"),
            ("lora_unet_norm.b_norm", "unet_norm.diff_bias"),
            ("diffusion_model.norm.set_weight", "diffusion_model.norm.weight"),
            ("blocks.0.ffn.0.lora_A.default.weight", "blocks.0.ffn.0.lora_A.weight"),
            ("pipe.dit.blocks.0.ffn.0.lora_B.default.weight", "pipe.dit.blocks.0.ffn.0.lora_B.weight"),
            ("double_blocks.3.processor.qkv_lora1.down.weight", "double_blocks.3.img_attn.qkv.lora_A.weight"),
            ("double_blocks.3.processor.proj_lora2.up.weight", "double_blocks.3.txt_attn.proj.lora_B.weight"),
            ("single_blocks.3.processor.qkv_lora.up.weight", "single_blocks.3.qkv.lora_B.weight"),
            (
                "text_encoders.t5xxl.transformer.encoder.q.lora_A.weight",
                "text_encoders.t5xxl.transformer.encoder.q.lora_A.weight",
            ),
        ] {
            assert_eq!(Key::read(key).map(|key| key.path()).as_deref(), Some(path), "{key}");
        }
        for key in [
            "unet.conv_in.weight",
            "lora_unet_a.b.lora_down.weight",
            "lora_unet_.alpha",
            "lora_unet_a.bias_size",
            "base_model.model.a.lora_A.default.weight",
            "a.lora_A.weight",
        ] {
            assert_eq!(Key::read(key), None, "{key}");
        }
    }

    #[test]
    fn no_prefix_begins_another() {
        for one in COMPONENTS {
            let others = COMPONENTS.iter().filter(|other| other.prefix.starts_with(one.prefix));
            assert_eq!(others.count(), 1, "{}", one.prefix);
        }
        let tails = [TAILS, JOINED_TAILS].concat();
        for (i, (end, _)) in tails.iter().enumerate() {
            let hidden = tails[i + 1..].iter().find(|(other, _)| other.ends_with(end));
            assert_eq!(hidden, None, "{end}");
        }
    }
}
