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
    ("text_encoders.clip_l.", "text_encoder"),
    ("text_encoders.clip_g.", "text_encoder_2"),
];
/// Text encoders that are the last of a pipeline, however many it has.
const LAST: &[&str] = &["text_encoders.t5xxl.", "text_encoders.umt5xxl."];
/// What directories of text encoders begin with, which are numbered from the second on.
pub(crate) const TEXT: &str = "text_encoder";

/// Whether the component whose keys begin so has that directory in a pipeline of all these.
pub(crate) fn is_in<'d>(prefix: &str, directory: &str, all: impl Iterator<Item = &'d str>) -> bool {
    if LAST.iter().any(|last| prefix.starts_with(last)) {
        return all.filter(|one| one.starts_with(TEXT)).max() == Some(directory);
    }
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
            ("text_encoders.clip_g.transformer.", "text_encoder_2"),
            ("text_encoders.t5xxl.transformer.", "text_encoder_3"),
        ] {
            assert!(is_in(prefix, directory, [directory].into_iter()), "{prefix} {directory}");
            assert!(COMPONENTS.iter().any(|known| known.prefix == prefix), "{prefix}");
        }
        for (prefix, directory) in [
            ("text_encoder.", "text_encoder_2"),
            ("transformer.", "transformer_2"),
            ("lora_unet_", "vae"),
            ("lora_te_", "unet"),
            ("text_encoders.t5xxl.transformer.", "text_encoder"),
        ] {
            let all = ["text_encoder", "text_encoder_2", "transformer"];
            assert!(!is_in(prefix, directory, all.into_iter()), "{prefix} {directory}");
        }
    }
}
