//! What models of diffusers are called in the code that they were first trained by, in which adapters are still trained.
//!
//! Of the UNet numbers are computed ([`UnetNames`](crate::adapters::image::unet_names::UnetNames)); of Flux each name has its own. Projections
//! that are one there and several in diffusers have the name of what they would be joined as (`model/names/fused_rows.txt`).
//! Source: diffusers `_convert_kohya_flux_lora_to_diffusers`; black-forest-labs' `flux/model.py`.

/// Original and diffusers' names of Flux, where `#` is the number of a block.
const FLUX: &[(&str, &str)] = &[
    ("double_blocks.#.img_attn.proj", "transformer_blocks.#.attn.to_out.0"),
    ("double_blocks.#.img_attn.qkv", "transformer_blocks.#.attn.to_qkv"),
    ("double_blocks.#.img_mlp.0", "transformer_blocks.#.ff.net.0.proj"),
    ("double_blocks.#.img_mlp.2", "transformer_blocks.#.ff.net.2"),
    ("double_blocks.#.img_mod.lin", "transformer_blocks.#.norm1.linear"),
    ("double_blocks.#.txt_attn.proj", "transformer_blocks.#.attn.to_add_out"),
    ("double_blocks.#.txt_attn.qkv", "transformer_blocks.#.attn.to_added_qkv"),
    ("double_blocks.#.txt_mlp.0", "transformer_blocks.#.ff_context.net.0.proj"),
    ("double_blocks.#.txt_mlp.2", "transformer_blocks.#.ff_context.net.2"),
    ("double_blocks.#.txt_mod.lin", "transformer_blocks.#.norm1_context.linear"),
    ("single_blocks.#.linear1", "single_transformer_blocks.#.qkv_mlp"),
    ("single_blocks.#.linear2", "single_transformer_blocks.#.proj_out"),
    ("single_blocks.#.modulation.lin", "single_transformer_blocks.#.norm.linear"),
    ("img_in", "x_embedder"),
    ("txt_in", "context_embedder"),
    ("time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"),
    ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    ("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    ("guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"),
    ("guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"),
];
/// The first part of each joined projection, which shows that the model has them.
const JOINED: &[(&str, &str)] = &[
    ("transformer_blocks.#.attn.to_q", "transformer_blocks.#.attn.to_qkv"),
    ("transformer_blocks.#.attn.add_q_proj", "transformer_blocks.#.attn.to_added_qkv"),
    ("single_transformer_blocks.#.proj_mlp", "single_transformer_blocks.#.qkv_mlp"),
];

/// Whether a model with such a module is one of Flux.
pub(crate) fn is_flux(module: &str) -> bool {
    module.starts_with("single_transformer_blocks.")
}

/// The original names of a module of Flux, each with the path that it has in diffusers: its own, and that of what it is the first part of.
pub(crate) fn of_flux(module: &str) -> impl Iterator<Item = (String, String)> {
    let (pattern, number) = pattern(module);
    let of_block = move |text: &str| text.replacen('#', &number, 1);
    let joined = JOINED.iter().filter(|(first, _)| *first == pattern).map(|(_, whole)| *whole);
    let own: Vec<String> = joined.map(str::to_owned).chain([pattern.clone()]).collect();
    own.into_iter().filter_map(move |ours| {
        let (original, _) = FLUX.iter().find(|(_, path)| *path == ours)?;
        Some((of_block(original), of_block(&ours)))
    })
}

/// A path with `#` for its first number, and that.
fn pattern(path: &str) -> (String, String) {
    let mut segments: Vec<&str> = path.split('.').collect();
    let is_number = |segment: &&str| !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit());
    let number = segments.get(1).copied().filter(is_number).unwrap_or_default();
    if !number.is_empty() {
        segments[1] = "#";
    }
    (segments.join("."), number.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_flux_have_their_original_names() {
        let names = |module: &str| of_flux(module).map(|(original, _)| original).collect::<Vec<_>>();
        assert_eq!(names("transformer_blocks.7.ff.net.0.proj"), ["double_blocks.7.img_mlp.0"]);
        assert_eq!(names("transformer_blocks.7.attn.to_q"), ["double_blocks.7.img_attn.qkv"]);
        assert_eq!(names("single_transformer_blocks.12.proj_mlp"), ["single_blocks.12.linear1"]);
        assert_eq!(names("x_embedder"), ["img_in"]);
        assert!(names("transformer_blocks.7.attn.to_k").is_empty());
        let whole = of_flux("transformer_blocks.7.attn.add_q_proj").next().expect("it has one");
        assert_eq!(whole.1, "transformer_blocks.7.attn.to_added_qkv");
        for (_, whole) in JOINED {
            assert!(FLUX.iter().any(|(_, path)| path == whole), "{whole}");
        }
    }
}
