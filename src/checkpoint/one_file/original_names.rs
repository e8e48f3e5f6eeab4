//! Names that models of diffusers have in the code that they were first trained by, in which adapters are still trained: a table for each family.
//!
//! Of the UNet numbers are computed ([`UnetNames`](crate::checkpoint::one_file::unet_names::UnetNames)). Projections that are one there and several in
//! diffusers have the name of what they would be joined as (`model/names/fused_rows.txt`). A module whose rows are in another order there
//! (scale and shift of an output's norm) has no row, so that what is for it is refused.
//! Sources: diffusers 0.42 `loaders/lora_conversion_utils.py` and, for SD3, `loaders/single_file_utils.py`; black-forest-labs' `flux/model.py`.

static TABLE: &str = include_str!("original_names.txt");
/// What a row begins with of a projection that is joined.
const JOINED: &str = "+ ";

/// Original and diffusers' names, or a part and what it is joined as.
type NamePair = (&'static str, &'static str);

/// A family of models.
pub(crate) struct Family {
    /// What modules of no other family begin with.
    shown_by: &'static str,
    /// Original names that all of its files have in which its tensors' rows are known to be diffusers'; none for a family of no such files.
    files_have: &'static [&'static str],
    /// Its section of the table.
    table: &'static str,
}

/// All of them; of those that a model shows the first is meant.
static FAMILIES: &[Family] = &[
    Family { shown_by: "context_embedder.token_refiner.", files_have: &[], table: "hunyuan_video" },
    Family { shown_by: "time_guidance_embed.", files_have: &[], table: "flux2" },
    Family {
        shown_by: "single_transformer_blocks.",
        files_have: &["double_blocks.0.img_attn.qkv.weight", "vector_in.in_layer.weight"],
        table: "flux",
    },
    Family {
        shown_by: "condition_embedder.",
        files_have: &["blocks.0.self_attn.q.weight", "text_embedding.0.weight"],
        table: "wan",
    },
    Family {
        shown_by: "pos_embed.proj",
        files_have: &["joint_blocks.0.x_block.attn.qkv.weight"],
        table: "sd3",
    },
    Family { shown_by: "time_caption_embed.", files_have: &[], table: "lumina2" },
    Family { shown_by: "all_x_embedder.", files_have: &[], table: "z_image" },
    Family { shown_by: "time_embed.emb.", files_have: &[], table: "ltx" },
];

impl Family {
    /// The rows of its section, of joined projections or all others.
    fn rows(&self, are_joined: bool) -> impl Iterator<Item = NamePair> {
        let own = |section: &'static str| section.strip_prefix(self.table)?.strip_prefix("]\n");
        let section = TABLE.split("\n[").find_map(own).unwrap_or_default();
        let rows = section.lines().filter(|line| !line.starts_with("# "));
        let row = move |line: &'static str| match line.strip_prefix(JOINED) {
            Some(row) => are_joined.then_some(row),
            None => (!are_joined).then_some(line),
        };
        rows.filter_map(row).filter_map(|row| row.split_once(' '))
    }

    /// The family of a model with such modules, if it has original names.
    pub(crate) fn of<'n>(modules: impl Iterator<Item = &'n str> + Clone) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| modules.clone().any(|module| module.starts_with(family.shown_by)))
    }

    /// The family of a file with tensors of such original names, if its files are read.
    pub(crate) fn of_file<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Option<&'static Family> {
        let has = |wanted: &str| names.clone().any(|name| name == wanted);
        let is_one = |family: &&Family| {
            !family.files_have.is_empty() && family.files_have.iter().all(|wanted| has(wanted))
        };
        FAMILIES.iter().find(is_one)
    }

    /// What diffusers calls a module by its original name, perhaps one that is joined of several there.
    pub(crate) fn diffusers(&self, original: &str) -> Option<String> {
        let found = self.rows(false).find_map(|(own, ours)| Some((ours, number(own, original)?)));
        found.map(|(ours, number)| ours.replacen('#', number, 1))
    }

    /// The original names of a module, each with the path that it has in diffusers: its own, and that of what it is the first part of.
    pub(crate) fn originals(&self, module: &str) -> impl Iterator<Item = (String, String)> {
        let joined = self.rows(true).filter_map(|(first, whole)| Some((whole, number(first, module)?)));
        let own = self.rows(false).filter_map(|(_, ours)| Some((ours, number(ours, module)?)));
        joined.chain(own).filter_map(|(ours, number)| {
            let (original, _) = self.rows(false).find(|(_, path)| *path == ours)?;
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
            assert!(family.rows(false).count() > 10, "{}", family.table);
            for (_, whole) in family.rows(true) {
                assert!(family.rows(false).any(|(_, path)| path == whole), "{whole}");
            }
            for (original, ours) in family.rows(false) {
                assert_eq!(original.contains('#'), ours.contains('#'), "{original}");
            }
        }
    }
}
