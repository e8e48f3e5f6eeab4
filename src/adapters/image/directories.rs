//! The directories that components have in a pipeline of diffusers, by what their keys begin with.

/// What all keys begin with that are for the model that makes images, whatever trainers call it.
const DENOISERS: &[&str] = &["unet", "transformer", "prior"];

/// Components of other directories.
const OTHERS: &[(&str, &str)] = &[
    ("lora_te_", "text_encoder"),
    ("lora_te.", "text_encoder"),
    ("lora_te1", "text_encoder"),
    ("lora_te2", "text_encoder_2"),
    ("lora_te3", "text_encoder_3"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder_3.", "text_encoder_3"),
    ("transformer_2.", "transformer_2"),
];

/// Whether the component whose keys begin so has that directory.
pub(crate) fn is_in(prefix: &str, directory: &str) -> bool {
    match OTHERS.iter().find(|(start, _)| prefix.starts_with(start)) {
        Some((_, own)) => *own == directory,
        None => DENOISERS.contains(&directory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::image::keys::COMPONENTS;

    #[test]
    fn a_component_has_its_directory() {
        for (prefix, directory) in [
            ("lora_unet_", "unet"),
            ("lora_unet_", "transformer"),
            ("lora_prior_unet_", "prior"),
            ("lora_te_", "text_encoder"),
            ("lora_te1_", "text_encoder"),
            ("lora_te2.", "text_encoder_2"),
            ("transformer.", "transformer"),
            ("transformer_2.", "transformer_2"),
            ("text_encoder_3.", "text_encoder_3"),
            ("diffusion_model.", "transformer"),
        ] {
            assert!(is_in(prefix, directory), "{prefix} {directory}");
            assert!(COMPONENTS.iter().any(|known| known.prefix == prefix), "{prefix}");
        }
        assert!(!is_in("text_encoder.", "text_encoder_2") && !is_in("transformer.", "transformer_2"));
        assert!(!is_in("lora_unet_", "vae") && !is_in("lora_te_", "unet"));
    }
}
