//! Names that models of diffusers have in the code that they were first trained by, in which adapters are still trained: a table for each family.
//!
//! Of the UNet numbers are computed ([`UnetNames`](crate::adapters::image::unet_names::UnetNames)). Projections that are one there and several in
//! diffusers have the name of what they would be joined as (`model/names/fused_rows.txt`). A module whose rows are in another order there
//! (scale and shift of an output's norm) has no row, so that what is for it is refused.
//! Sources: diffusers 0.42 `loaders/lora_conversion_utils.py` and, for SD3, `loaders/single_file_utils.py`; black-forest-labs' `flux/model.py`.

/// A family of models.
pub(crate) struct Family {
    /// What modules of no other family begin with.
    shown_by: &'static str,
    /// Original and diffusers' names, where `#` is the number of a block.
    names: &'static [(&'static str, &'static str)],
    /// The first part of each joined projection, which shows that the model has it, and what it is joined as.
    joined: &'static [(&'static str, &'static str)],
}

/// All of them; of those that a model shows the first is meant.
static FAMILIES: &[Family] = &[
    Family {
        shown_by: "context_embedder.token_refiner.",
        names: HUNYUAN_VIDEO,
        joined: HUNYUAN_VIDEO_JOINED,
    },
    Family { shown_by: "single_transformer_blocks.", names: FLUX, joined: FLUX_JOINED },
    Family { shown_by: "condition_embedder.", names: WAN, joined: &[] },
    Family { shown_by: "pos_embed.proj", names: SD3, joined: SD3_JOINED },
    Family { shown_by: "time_embed.emb.", names: LTX, joined: &[] },
];

const FLUX: &[(&str, &str)] = &[
    ("double_blocks.#.img_attn.proj", "transformer_blocks.#.attn.to_out.0"),
    ("double_blocks.#.img_attn.qkv", "transformer_blocks.#.attn.to_qkv"),
    ("double_blocks.#.img_attn.norm.query_norm", "transformer_blocks.#.attn.norm_q"),
    ("double_blocks.#.img_attn.norm.key_norm", "transformer_blocks.#.attn.norm_k"),
    ("double_blocks.#.img_mlp.0", "transformer_blocks.#.ff.net.0.proj"),
    ("double_blocks.#.img_mlp.2", "transformer_blocks.#.ff.net.2"),
    ("double_blocks.#.img_mod.lin", "transformer_blocks.#.norm1.linear"),
    ("double_blocks.#.txt_attn.proj", "transformer_blocks.#.attn.to_add_out"),
    ("double_blocks.#.txt_attn.qkv", "transformer_blocks.#.attn.to_added_qkv"),
    ("double_blocks.#.txt_attn.norm.query_norm", "transformer_blocks.#.attn.norm_added_q"),
    ("double_blocks.#.txt_attn.norm.key_norm", "transformer_blocks.#.attn.norm_added_k"),
    ("double_blocks.#.txt_mlp.0", "transformer_blocks.#.ff_context.net.0.proj"),
    ("double_blocks.#.txt_mlp.2", "transformer_blocks.#.ff_context.net.2"),
    ("double_blocks.#.txt_mod.lin", "transformer_blocks.#.norm1_context.linear"),
    ("single_blocks.#.linear1", "single_transformer_blocks.#.qkv_mlp"),
    ("single_blocks.#.linear2", "single_transformer_blocks.#.proj_out"),
    // XLabs adapts the first rows of `linear1`.
    ("single_blocks.#.qkv", "single_transformer_blocks.#.attn.to_qkv"),
    ("single_blocks.#.norm.query_norm", "single_transformer_blocks.#.attn.norm_q"),
    ("single_blocks.#.norm.key_norm", "single_transformer_blocks.#.attn.norm_k"),
    ("single_blocks.#.modulation.lin", "single_transformer_blocks.#.norm.linear"),
    ("img_in", "x_embedder"),
    ("txt_in", "context_embedder"),
    ("time_in.in_layer", "time_text_embed.timestep_embedder.linear_1"),
    ("time_in.out_layer", "time_text_embed.timestep_embedder.linear_2"),
    ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    ("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    ("guidance_in.in_layer", "time_text_embed.guidance_embedder.linear_1"),
    ("guidance_in.out_layer", "time_text_embed.guidance_embedder.linear_2"),
    ("final_layer.linear", "proj_out"),
];
const FLUX_JOINED: &[(&str, &str)] = &[
    ("transformer_blocks.#.attn.to_q", "transformer_blocks.#.attn.to_qkv"),
    ("transformer_blocks.#.attn.add_q_proj", "transformer_blocks.#.attn.to_added_qkv"),
    ("single_transformer_blocks.#.proj_mlp", "single_transformer_blocks.#.qkv_mlp"),
    ("single_transformer_blocks.#.attn.to_q", "single_transformer_blocks.#.attn.to_qkv"),
];

const HUNYUAN_VIDEO: &[(&str, &str)] = &[
    ("double_blocks.#.img_attn_qkv", "transformer_blocks.#.attn.to_qkv"),
    ("double_blocks.#.img_attn_q_norm", "transformer_blocks.#.attn.norm_q"),
    ("double_blocks.#.img_attn_k_norm", "transformer_blocks.#.attn.norm_k"),
    ("double_blocks.#.img_attn_proj", "transformer_blocks.#.attn.to_out.0"),
    ("double_blocks.#.img_mlp.fc1", "transformer_blocks.#.ff.net.0.proj"),
    ("double_blocks.#.img_mlp.fc2", "transformer_blocks.#.ff.net.2"),
    ("double_blocks.#.img_mod.linear", "transformer_blocks.#.norm1.linear"),
    ("double_blocks.#.txt_attn_qkv", "transformer_blocks.#.attn.to_added_qkv"),
    ("double_blocks.#.txt_attn_q_norm", "transformer_blocks.#.attn.norm_added_q"),
    ("double_blocks.#.txt_attn_k_norm", "transformer_blocks.#.attn.norm_added_k"),
    ("double_blocks.#.txt_attn_proj", "transformer_blocks.#.attn.to_add_out"),
    ("double_blocks.#.txt_mlp.fc1", "transformer_blocks.#.ff_context.net.0.proj"),
    ("double_blocks.#.txt_mlp.fc2", "transformer_blocks.#.ff_context.net.2"),
    ("double_blocks.#.txt_mod.linear", "transformer_blocks.#.norm1_context.linear"),
    ("single_blocks.#.linear1", "single_transformer_blocks.#.qkv_mlp"),
    ("single_blocks.#.linear2", "single_transformer_blocks.#.proj_out"),
    ("single_blocks.#.q_norm", "single_transformer_blocks.#.attn.norm_q"),
    ("single_blocks.#.k_norm", "single_transformer_blocks.#.attn.norm_k"),
    ("single_blocks.#.modulation.linear", "single_transformer_blocks.#.norm.linear"),
    ("img_in.proj", "x_embedder.proj"),
    ("time_in.mlp.0", "time_text_embed.timestep_embedder.linear_1"),
    ("time_in.mlp.2", "time_text_embed.timestep_embedder.linear_2"),
    ("vector_in.in_layer", "time_text_embed.text_embedder.linear_1"),
    ("vector_in.out_layer", "time_text_embed.text_embedder.linear_2"),
    ("guidance_in.mlp.0", "time_text_embed.guidance_embedder.linear_1"),
    ("guidance_in.mlp.2", "time_text_embed.guidance_embedder.linear_2"),
    ("txt_in.input_embedder", "context_embedder.proj_in"),
    ("txt_in.t_embedder.mlp.0", "context_embedder.time_text_embed.timestep_embedder.linear_1"),
    ("txt_in.t_embedder.mlp.2", "context_embedder.time_text_embed.timestep_embedder.linear_2"),
    ("txt_in.c_embedder.linear_1", "context_embedder.time_text_embed.text_embedder.linear_1"),
    ("txt_in.c_embedder.linear_2", "context_embedder.time_text_embed.text_embedder.linear_2"),
    (
        "txt_in.individual_token_refiner.blocks.#.self_attn_qkv",
        "context_embedder.token_refiner.refiner_blocks.#.attn.to_qkv",
    ),
    (
        "txt_in.individual_token_refiner.blocks.#.self_attn_proj",
        "context_embedder.token_refiner.refiner_blocks.#.attn.to_out.0",
    ),
    (
        "txt_in.individual_token_refiner.blocks.#.mlp.fc1",
        "context_embedder.token_refiner.refiner_blocks.#.ff.net.0.proj",
    ),
    (
        "txt_in.individual_token_refiner.blocks.#.mlp.fc2",
        "context_embedder.token_refiner.refiner_blocks.#.ff.net.2",
    ),
    (
        "txt_in.individual_token_refiner.blocks.#.adaLN_modulation.1",
        "context_embedder.token_refiner.refiner_blocks.#.norm_out.linear",
    ),
    ("final_layer.linear", "proj_out"),
];
const HUNYUAN_VIDEO_JOINED: &[(&str, &str)] = &[
    ("transformer_blocks.#.attn.to_q", "transformer_blocks.#.attn.to_qkv"),
    ("transformer_blocks.#.attn.add_q_proj", "transformer_blocks.#.attn.to_added_qkv"),
    ("single_transformer_blocks.#.proj_mlp", "single_transformer_blocks.#.qkv_mlp"),
    (
        "context_embedder.token_refiner.refiner_blocks.#.attn.to_q",
        "context_embedder.token_refiner.refiner_blocks.#.attn.to_qkv",
    ),
];

const WAN: &[(&str, &str)] = &[
    ("blocks.#.self_attn.q", "blocks.#.attn1.to_q"),
    ("blocks.#.self_attn.k", "blocks.#.attn1.to_k"),
    ("blocks.#.self_attn.v", "blocks.#.attn1.to_v"),
    ("blocks.#.self_attn.o", "blocks.#.attn1.to_out.0"),
    ("blocks.#.self_attn.norm_q", "blocks.#.attn1.norm_q"),
    ("blocks.#.self_attn.norm_k", "blocks.#.attn1.norm_k"),
    ("blocks.#.cross_attn.q", "blocks.#.attn2.to_q"),
    ("blocks.#.cross_attn.k", "blocks.#.attn2.to_k"),
    ("blocks.#.cross_attn.v", "blocks.#.attn2.to_v"),
    ("blocks.#.cross_attn.o", "blocks.#.attn2.to_out.0"),
    ("blocks.#.cross_attn.norm_q", "blocks.#.attn2.norm_q"),
    ("blocks.#.cross_attn.norm_k", "blocks.#.attn2.norm_k"),
    ("blocks.#.cross_attn.k_img", "blocks.#.attn2.add_k_proj"),
    ("blocks.#.cross_attn.v_img", "blocks.#.attn2.add_v_proj"),
    ("blocks.#.cross_attn.norm_k_img", "blocks.#.attn2.norm_added_k"),
    ("blocks.#.norm3", "blocks.#.norm2"),
    ("blocks.#.ffn.0", "blocks.#.ffn.net.0.proj"),
    ("blocks.#.ffn.2", "blocks.#.ffn.net.2"),
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("img_emb.proj.0", "condition_embedder.image_embedder.norm1"),
    ("img_emb.proj.1", "condition_embedder.image_embedder.ff.net.0.proj"),
    ("img_emb.proj.3", "condition_embedder.image_embedder.ff.net.2"),
    ("img_emb.proj.4", "condition_embedder.image_embedder.norm2"),
    ("head.head", "proj_out"),
];

const SD3: &[(&str, &str)] = &[
    ("joint_blocks.#.x_block.attn.qkv", "transformer_blocks.#.attn.to_qkv"),
    ("joint_blocks.#.x_block.attn.proj", "transformer_blocks.#.attn.to_out.0"),
    ("joint_blocks.#.x_block.attn.ln_q", "transformer_blocks.#.attn.norm_q"),
    ("joint_blocks.#.x_block.attn.ln_k", "transformer_blocks.#.attn.norm_k"),
    ("joint_blocks.#.x_block.attn2.qkv", "transformer_blocks.#.attn2.to_qkv"),
    ("joint_blocks.#.x_block.attn2.proj", "transformer_blocks.#.attn2.to_out.0"),
    ("joint_blocks.#.x_block.attn2.ln_q", "transformer_blocks.#.attn2.norm_q"),
    ("joint_blocks.#.x_block.attn2.ln_k", "transformer_blocks.#.attn2.norm_k"),
    ("joint_blocks.#.x_block.mlp.fc1", "transformer_blocks.#.ff.net.0.proj"),
    ("joint_blocks.#.x_block.mlp.fc2", "transformer_blocks.#.ff.net.2"),
    ("joint_blocks.#.x_block.adaLN_modulation.1", "transformer_blocks.#.norm1.linear"),
    ("joint_blocks.#.context_block.attn.qkv", "transformer_blocks.#.attn.to_added_qkv"),
    ("joint_blocks.#.context_block.attn.proj", "transformer_blocks.#.attn.to_add_out"),
    ("joint_blocks.#.context_block.attn.ln_q", "transformer_blocks.#.attn.norm_added_q"),
    ("joint_blocks.#.context_block.attn.ln_k", "transformer_blocks.#.attn.norm_added_k"),
    ("joint_blocks.#.context_block.mlp.fc1", "transformer_blocks.#.ff_context.net.0.proj"),
    ("joint_blocks.#.context_block.mlp.fc2", "transformer_blocks.#.ff_context.net.2"),
    ("x_embedder.proj", "pos_embed.proj"),
    ("t_embedder.mlp.0", "time_text_embed.timestep_embedder.linear_1"),
    ("t_embedder.mlp.2", "time_text_embed.timestep_embedder.linear_2"),
    ("y_embedder.mlp.0", "time_text_embed.text_embedder.linear_1"),
    ("y_embedder.mlp.2", "time_text_embed.text_embedder.linear_2"),
    ("final_layer.linear", "proj_out"),
];
const SD3_JOINED: &[(&str, &str)] = &[
    ("transformer_blocks.#.attn.to_q", "transformer_blocks.#.attn.to_qkv"),
    ("transformer_blocks.#.attn2.to_q", "transformer_blocks.#.attn2.to_qkv"),
    ("transformer_blocks.#.attn.add_q_proj", "transformer_blocks.#.attn.to_added_qkv"),
];

const LTX: &[(&str, &str)] = &[
    ("patchify_proj", "proj_in"),
    ("audio_patchify_proj", "audio_proj_in"),
    ("adaln_single.emb.timestep_embedder.linear_1", "time_embed.emb.timestep_embedder.linear_1"),
    ("adaln_single.emb.timestep_embedder.linear_2", "time_embed.emb.timestep_embedder.linear_2"),
    ("adaln_single.linear", "time_embed.linear"),
    ("audio_adaln_single.emb.timestep_embedder.linear_1", "audio_time_embed.emb.timestep_embedder.linear_1"),
    ("audio_adaln_single.emb.timestep_embedder.linear_2", "audio_time_embed.emb.timestep_embedder.linear_2"),
    ("audio_adaln_single.linear", "audio_time_embed.linear"),
    ("av_ca_video_scale_shift_adaln_single.linear", "av_cross_attn_video_scale_shift.linear"),
    ("av_ca_audio_scale_shift_adaln_single.linear", "av_cross_attn_audio_scale_shift.linear"),
    ("av_ca_a2v_gate_adaln_single.linear", "av_cross_attn_video_a2v_gate.linear"),
    ("av_ca_v2a_gate_adaln_single.linear", "av_cross_attn_audio_v2a_gate.linear"),
];

impl Family {
    /// The family of a model with such modules, if it has original names.
    pub(crate) fn of<'n>(modules: impl Iterator<Item = &'n str> + Clone) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| modules.clone().any(|module| module.starts_with(family.shown_by)))
    }

    /// The original names of a module, each with the path that it has in diffusers: its own, and that of what it is the first part of.
    pub(crate) fn originals(&self, module: &str) -> impl Iterator<Item = (String, String)> {
        let joined = self.joined.iter().filter_map(|(first, whole)| Some((*whole, number(first, module)?)));
        let own = self.names.iter().filter_map(|(_, ours)| Some((*ours, number(ours, module)?)));
        joined.chain(own).filter_map(|(ours, number)| {
            let (original, _) = self.names.iter().find(|(_, path)| *path == ours)?;
            Some((original.replacen('#', number, 1), ours.replacen('#', number, 1)))
        })
    }
}

/// The number that a path has where the pattern has `#`, or nothing where it has none; `None` if they differ elsewhere.
fn number<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, after)) = pattern.split_once('#') else { return (pattern == path).then_some("") };
    let number = path.strip_prefix(before)?.strip_suffix(after)?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &[&str], module: &str) -> Vec<String> {
        let family = Family::of(of.iter().copied()).expect("a family");
        family.originals(module).map(|(original, _)| original).collect()
    }

    #[test]
    fn modules_have_their_original_names() {
        let flux = &["single_transformer_blocks.0.proj_out"];
        assert_eq!(names(flux, "transformer_blocks.7.ff.net.0.proj"), ["double_blocks.7.img_mlp.0"]);
        assert_eq!(names(flux, "transformer_blocks.7.attn.to_q"), ["double_blocks.7.img_attn.qkv"]);
        assert_eq!(names(flux, "single_transformer_blocks.12.proj_mlp"), ["single_blocks.12.linear1"]);
        assert_eq!(names(flux, "single_transformer_blocks.12.attn.to_q"), ["single_blocks.12.qkv"]);
        assert_eq!(names(flux, "x_embedder"), ["img_in"]);
        assert!(names(flux, "transformer_blocks.7.attn.to_k").is_empty());
        let wan = &["condition_embedder.time_proj"];
        assert_eq!(names(wan, "blocks.31.attn1.to_out.0"), ["blocks.31.self_attn.o"]);
        assert!(names(wan, "blocks.x.attn1.to_out.0").is_empty());
        assert!(Family::of(["down_blocks.0.resnets.0.conv1"].into_iter()).is_none());
    }

    #[test]
    fn joined_projections_have_names() {
        for family in FAMILIES {
            for (_, whole) in family.joined {
                assert!(family.names.iter().any(|(_, path)| path == whole), "{whole}");
            }
            for (original, ours) in family.names {
                assert_eq!(original.contains('#'), ours.contains('#'), "{original}");
            }
        }
    }
}
