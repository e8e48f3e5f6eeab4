//! The names that modules of diffusers' UNet have in the original UNet of Stable Diffusion, in which adapters of SDXL are trained.
//!
//! ```text
//! down_blocks.1.attentions.0.proj_in     input_blocks.4.1.proj_in         4 = 1 + 1 · (layers + 1) + 0
//! down_blocks.0.downsamplers.0.conv      input_blocks.3.0.op
//! mid_block.resnets.1.conv1              middle_block.2.in_layers.2
//! up_blocks.0.upsamplers.0.conv          output_blocks.2.2.conv           behind a resnet and an attention, 1 without that
//! ```
//!
//! Source: key-mapping.md 10.4; diffusers `_maybe_map_sgm_blocks_to_diffusers`.

use std::collections::BTreeSet;

/// What stands for a leaf of a block of convolutions, and for modules outside of all blocks.
pub(super) const LEAVES: &[(&str, &str)] = &[
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("time_emb_proj", "emb_layers.1"),
    ("conv_shortcut", "skip_connection"),
];
pub(super) const OUTSIDE: &[(&str, &str)] = &[
    ("conv_in", "input_blocks.0.0"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
];

/// A UNet of diffusers, as far as its names tell.
pub(crate) struct UnetNames {
    /// Layers of a block on the way down; on the way up there is one more.
    layers: u64,
    /// Blocks on the way up that have attentions.
    attentive: BTreeSet<u64>,
}

impl UnetNames {
    /// From the names of a base's modules; none if they are not those of such a model.
    pub(crate) fn of<'n>(modules: impl Iterator<Item = &'n str>) -> Option<UnetNames> {
        let (mut layers, mut attentive) = (0, BTreeSet::new());
        for module in modules {
            let segments: Vec<&str> = module.split('.').collect();
            match segments.as_slice() {
                ["down_blocks", "0", "resnets", number, ..] => layers = layers.max(number_of(number)? + 1),
                ["up_blocks", number, "attentions", ..] => {
                    attentive.insert(number_of(number)?);
                }
                _ => {}
            }
        }
        (layers > 0).then_some(UnetNames { layers, attentive })
    }

    /// The original name of a module.
    pub(crate) fn original(&self, module: &str) -> Option<String> {
        if let Some((_, original)) = OUTSIDE.iter().find(|(ours, _)| *ours == module) {
            return Some((*original).to_owned());
        }
        let (stack, rest) = module.split_once('.')?;
        if stack == "mid_block" {
            let (kind, number, rest) = inner(rest)?;
            return match (kind, number) {
                ("resnets", number) => Some(format!("middle_block.{}.{}", 2 * number, leaf(rest))),
                ("attentions", 0) => Some(format!("middle_block.1.{rest}")),
                _ => None,
            };
        }
        let (block, rest) = rest.split_once('.')?;
        let block = number_of(block)?;
        let (kind, number, rest) = inner(rest)?;
        let of_block = block * (self.layers + 1);
        let part = match kind {
            "resnets" => 0,
            "attentions" => 1,
            "downsamplers" if rest == "conv" => {
                return Some(format!("input_blocks.{}.0.op", of_block + self.layers + 1));
            }
            "upsamplers" => {
                let place = 1 + u64::from(self.attentive.contains(&block));
                return Some(format!("output_blocks.{}.{place}.{rest}", of_block + self.layers));
            }
            _ => return None,
        };
        let rest = if part == 0 { leaf(rest) } else { rest };
        match stack {
            "down_blocks" => Some(format!("input_blocks.{}.{part}.{rest}", 1 + of_block + number)),
            "up_blocks" => Some(format!("output_blocks.{}.{part}.{rest}", of_block + number)),
            _ => None,
        }
    }
}

/// `resnets.1.conv1` in its parts.
fn inner(path: &str) -> Option<(&str, u64, &str)> {
    let (kind, rest) = path.split_once('.')?;
    let (number, rest) = rest.split_once('.')?;
    Some((kind, number_of(number)?, rest))
}

/// A number that no sum with others is too large for.
fn number_of(text: &str) -> Option<u64> {
    text.parse::<u32>().ok().map(u64::from)
}

fn leaf(path: &str) -> &str {
    LEAVES.iter().find(|(ours, _)| *ours == path).map_or(path, |(_, original)| original)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_sdxl_have_their_original_names() {
        let modules = [
            "down_blocks.0.resnets.1.conv1",
            "up_blocks.0.attentions.0.proj_in",
            "up_blocks.1.attentions.2.proj_in",
        ];
        let names = UnetNames::of(modules.into_iter()).expect("such a model");
        for (module, original) in [
            ("conv_in", "input_blocks.0.0"),
            ("time_embedding.linear_2", "time_embed.2"),
            ("add_embedding.linear_1", "label_emb.0.0"),
            ("down_blocks.0.resnets.0.conv1", "input_blocks.1.0.in_layers.2"),
            ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
            (
                "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
                "input_blocks.4.1.transformer_blocks.0.attn1.to_q",
            ),
            ("down_blocks.2.attentions.1.proj_in", "input_blocks.8.1.proj_in"),
            ("mid_block.resnets.1.conv2", "middle_block.2.out_layers.3"),
            ("mid_block.attentions.0.proj_out", "middle_block.1.proj_out"),
            ("up_blocks.0.resnets.2.conv_shortcut", "output_blocks.2.0.skip_connection"),
            ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
            ("up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv"),
            ("up_blocks.2.resnets.2.time_emb_proj", "output_blocks.8.0.emb_layers.1"),
            ("up_blocks.2.upsamplers.0.conv", "output_blocks.8.1.conv"),
        ] {
            assert_eq!(names.original(module).as_deref(), Some(original), "{module}");
        }
        assert_eq!(names.original("down_blocks.x.resnets.0.conv1"), None);
        assert!(UnetNames::of(["model.layers.0.mlp.up_proj"].into_iter()).is_none());
    }
}
