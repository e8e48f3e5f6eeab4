//! What diffusers calls the tensors of the original UNet of Stable Diffusion.
//!
//! ```text
//! input_blocks.4.1.proj_in         down_blocks.1.attentions.0.proj_in          4 = 1 + 1 · (layers + 1) + 0
//! input_blocks.3.0.op              down_blocks.0.downsamplers.0.conv           the last of each block on the way down
//! middle_block.2.in_layers.2       mid_block.resnets.1.conv1
//! output_blocks.2.2.conv           up_blocks.0.upsamplers.0.conv
//! ```
//!
//! Source: diffusers `single_file_utils.py` (`convert_ldm_unet_checkpoint`); key-mapping.md 10.4.

use crate::checkpoint::one_file::unet_names::{LEAVES, OUTSIDE};

/// The convolution of a block's end on the way down.
const DOWN: &str = "0.op";

/// An original UNet, as far as its names tell.
pub(crate) struct OriginalUnet {
    /// Layers of a block, and one.
    period: u64,
}

impl OriginalUnet {
    /// From its tensors' names; none if they are not those of such a model.
    pub(crate) fn of<'n>(names: impl Iterator<Item = &'n str>) -> Option<OriginalUnet> {
        let inputs = names.filter_map(|name| name.strip_prefix("input_blocks."));
        let numbered = inputs.filter_map(|name| {
            let (number, rest) = name.split_once('.')?;
            Some((number_of(number)?, rest))
        });
        let (mut last, mut first_down) = (None, None);
        for (number, rest) in numbered {
            last = last.max(Some(number));
            if rest.starts_with(DOWN) {
                first_down = Some(first_down.map_or(number, |first: u64| first.min(number)));
            }
        }
        // Of one block none is made smaller.
        let period = first_down.or(last.map(|last| last + 1))?;
        (period > 0).then_some(OriginalUnet { period })
    }

    /// The name that diffusers has for a tensor; nothing for what has none.
    pub(crate) fn diffusers(&self, name: &str) -> Option<String> {
        let (module, leaf) = name.rsplit_once('.')?;
        if let Some((theirs, _)) = OUTSIDE.iter().find(|(_, original)| *original == module) {
            return Some(format!("{theirs}.{leaf}"));
        }
        let (stack, rest) = module.split_once('.')?;
        let (number, rest) = rest.split_once('.')?;
        let number = number_of(number)?;
        let module = match stack {
            "middle_block" => middle(number, rest)?,
            "input_blocks" => {
                let at = number.checked_sub(1)?;
                let (block, item) = (at / self.period, at % self.period);
                if rest == DOWN {
                    format!("down_blocks.{block}.downsamplers.0.conv")
                } else {
                    format!("down_blocks.{block}.{}", inside(item, rest)?)
                }
            }
            "output_blocks" => {
                let (block, item) = (number / self.period, number % self.period);
                match rest {
                    "1.conv" | "2.conv" => format!("up_blocks.{block}.upsamplers.0.conv"),
                    rest => format!("up_blocks.{block}.{}", inside(item, rest)?),
                }
            }
            _ => return None,
        };
        Some(format!("{module}.{leaf}"))
    }
}

/// What stands in the middle: a block of convolutions, attentions, and another block.
fn middle(number: u64, rest: &str) -> Option<String> {
    match number {
        0 | 2 => Some(format!("mid_block.resnets.{}.{}", number / 2, part(rest)?)),
        1 => Some(format!("mid_block.attentions.0.{rest}")),
        _ => None,
    }
}

/// A part of one layer of a block: convolutions first, attentions behind them.
fn inside(item: u64, rest: &str) -> Option<String> {
    let (which, rest) = rest.split_once('.')?;
    match which {
        "0" => Some(format!("resnets.{item}.{}", part(rest)?)),
        "1" => Some(format!("attentions.{item}.{rest}")),
        _ => None,
    }
}

fn part(rest: &str) -> Option<&'static str> {
    LEAVES.iter().find(|(_, original)| *original == rest).map(|(theirs, _)| *theirs)
}

/// A number that no sum with others is too large for.
fn number_of(text: &str) -> Option<u64> {
    text.parse::<u32>().ok().map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_of_sdxl_have_the_names_of_diffusers() {
        let names = [
            "input_blocks.1.0.in_layers.2.weight",
            "input_blocks.3.0.op.weight",
            "input_blocks.6.0.op.weight",
        ];
        let unet = OriginalUnet::of(names.into_iter()).expect("such a model");
        for (original, theirs) in [
            ("input_blocks.0.0", "conv_in"),
            ("time_embed.2", "time_embedding.linear_2"),
            ("label_emb.0.0", "add_embedding.linear_1"),
            ("input_blocks.1.0.in_layers.2", "down_blocks.0.resnets.0.conv1"),
            ("input_blocks.3.0.op", "down_blocks.0.downsamplers.0.conv"),
            (
                "input_blocks.4.1.transformer_blocks.0.attn1.to_q",
                "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
            ),
            ("input_blocks.8.1.proj_in", "down_blocks.2.attentions.1.proj_in"),
            ("middle_block.2.out_layers.3", "mid_block.resnets.1.conv2"),
            ("middle_block.1.proj_out", "mid_block.attentions.0.proj_out"),
            ("output_blocks.2.0.skip_connection", "up_blocks.0.resnets.2.conv_shortcut"),
            ("output_blocks.2.2.conv", "up_blocks.0.upsamplers.0.conv"),
            ("output_blocks.8.1.conv", "up_blocks.2.upsamplers.0.conv"),
            ("output_blocks.8.0.emb_layers.1", "up_blocks.2.resnets.2.time_emb_proj"),
            ("out.2", "conv_out"),
        ] {
            let name = unet.diffusers(&format!("{original}.weight"));
            assert_eq!(name.as_deref(), Some(format!("{theirs}.weight").as_str()), "{original}");
        }
        for other in
            ["input_blocks.x.0.op.weight", "middle_block.3.in_layers.2.weight", "output_blocks.0.weight", "x"]
        {
            assert_eq!(unet.diffusers(other), None, "{other}");
        }
        assert!(OriginalUnet::of(["double_blocks.0.img_mod.lin.weight"].into_iter()).is_none());
    }
}
