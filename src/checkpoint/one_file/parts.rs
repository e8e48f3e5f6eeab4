//! The components of a file, and the names of their tensors.
//!
//! ```text
//! model.diffusion_model.input_blocks.1.1.proj_in.weight          unet.down_blocks.0.attentions.0.proj_in.weight
//! conditioner.embedders.0.transformer.text_model.…               text_encoder.text_model.…
//! conditioner.embedders.1.model.transformer.resblocks.0.…        text_encoder_2.text_model.encoder.layers.0.…
//! first_stage_model.…                                            as it is: no adapter is for it
//! ```
//!
//! Source: diffusers `loaders/single_file_utils.py`.

use serde_json::json;

use crate::checkpoint::catalogue::{BaseTensor, RowPart, StoredAs, StoredForm};
use crate::checkpoint::config::Config;
use crate::checkpoint::one_file::joined;
use crate::checkpoint::one_file::open_clip;
use crate::checkpoint::one_file::original_names::Family;
use crate::checkpoint::one_file::unet::OriginalUnet;
use crate::tensor::name::Name;
use crate::tensor::shape::Shape;

/// A component of such files.
struct FilePart {
    /// What its tensors' names begin with.
    prefix: &'static str,
    /// Its directory in a pipeline.
    directory: &'static str,
    /// By whose names it goes.
    named_by: NamedBy,
}

/// By whose names a component goes inside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NamedBy {
    /// transformers'.
    Transformers,
    /// OpenCLIP's.
    OpenClip,
    /// Those of the code that first trained the model that makes images.
    Denoiser,
}

const fn part(prefix: &'static str, directory: &'static str, named_by: NamedBy) -> FilePart {
    FilePart { prefix, directory, named_by }
}

/// What names begin with of the model that makes images.
const DENOISER: &str = "model.diffusion_model.";

/// All that are known. What is none of them keeps its name, and no adapter finds it.
const PARTS: &[FilePart] = &[
    // `unet` or `transformer`, as its names tell.
    part(DENOISER, "", NamedBy::Denoiser),
    part("cond_stage_model.transformer.", "text_encoder", NamedBy::Transformers),
    part("cond_stage_model.model.", "text_encoder", NamedBy::OpenClip),
    part("conditioner.embedders.0.transformer.", "text_encoder", NamedBy::Transformers),
    // The refiner of SDXL has the second alone.
    part("conditioner.embedders.0.model.", "text_encoder_2", NamedBy::OpenClip),
    part("conditioner.embedders.1.model.", "text_encoder_2", NamedBy::OpenClip),
    part("text_encoders.clip_l.transformer.", "text_encoder", NamedBy::Transformers),
    part("text_encoders.clip_g.transformer.", "text_encoder_2", NamedBy::Transformers),
    // Behind one or two others.
    part(T5, "", NamedBy::Transformers),
];
/// What names begin with of the text encoder that is the last.
const T5: &str = "text_encoders.t5xxl.transformer.";
/// And of one that only files have that have it as a third.
const SECOND: &str = "text_encoders.clip_g.";

/// The directories that components of a file may have.
pub(crate) fn directories() -> impl Iterator<Item = &'static str> {
    let others = PARTS.iter().map(|part| part.directory).filter(|directory| !directory.is_empty());
    others.chain(["text_encoder_3", "unet", "transformer"])
}

/// A file of an image model.
pub(crate) struct OneFile {
    denoiser: Denoiser,
    /// What names of the model that makes images begin with: nothing in a file of it alone.
    prefix: &'static str,
    /// Inputs and outputs of its blocks; 0 if no tensor tells.
    width: u64,
    /// The directory of the last text encoder.
    last_text: &'static str,
}

/// By whose names the model that makes images goes.
enum Denoiser {
    Unet(OriginalUnet),
    Transformer(&'static Family),
}

impl Denoiser {
    fn of<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Option<Denoiser> {
        let unet = OriginalUnet::of(names.clone()).map(Denoiser::Unet);
        unet.or_else(|| Family::of_file(names).map(Denoiser::Transformer))
    }

    /// Its directory in a pipeline.
    fn directory(&self) -> &'static str {
        match self {
            Denoiser::Unet(_) => "unet",
            Denoiser::Transformer(_) => "transformer",
        }
    }

    /// What diffusers calls a tensor.
    fn diffusers(&self, name: &str) -> Option<String> {
        match self {
            Denoiser::Unet(unet) => unet.diffusers(name),
            Denoiser::Transformer(family) => {
                let (module, leaf) = name.rsplit_once('.')?;
                // What multiplies a norm is called otherwise there.
                let leaf = if leaf == "scale" { "weight" } else { leaf };
                Some(format!("{}.{leaf}", family.diffusers(module)?))
            }
        }
    }
}

impl OneFile {
    /// The model that these tensors, by name, are of; none if they are not those of such a file.
    pub(crate) fn of<'n>(tensors: impl Iterator<Item = (&'n str, &'n Shape)> + Clone) -> Option<OneFile> {
        let within =
            |prefix: &'static str| tensors.clone().filter_map(move |(name, _)| name.strip_prefix(prefix));
        let of = |prefix| Some((prefix, Denoiser::of(within(prefix))?));
        let (prefix, denoiser) = of(DENOISER).or_else(|| of(""))?;
        let is_wide = |name: &str| name.strip_prefix(prefix).is_some_and(|name| WIDTHS.contains(&name));
        let has_second = tensors.clone().any(|(name, _)| name.starts_with(SECOND));
        let last_text = ["text_encoder_2", "text_encoder_3"][usize::from(has_second)];
        let mut wide = tensors.filter(|(name, _)| is_wide(name));
        let width = wide.next().and_then(|(_, shape)| shape.axes().first().copied()).unwrap_or(0);
        Some(OneFile { denoiser, prefix, width, last_text })
    }

    /// What stands in the place of a config: that diffusers loads it.
    pub(crate) fn config(&self) -> Config {
        Config::made(json!({"_class_name": "DiffusionPipeline"}), true)
    }

    /// What diffusers has for a tensor, and how it is stored.
    pub(crate) fn read(&self, tensor: &BaseTensor) -> (Option<Name>, StoredAs) {
        let stored = &tensor.name;
        let found = PARTS.iter().find_map(|part| Some((part, stored.strip_prefix(part.prefix)?)));
        let own = stored
            .strip_prefix(self.prefix)
            .filter(|_| found.is_none_or(|(part, _)| part.prefix == DENOISER));
        let (name, form) = match (own, found) {
            (Some(inner), _) => self.of_denoiser(inner, tensor),
            (None, Some((FilePart { prefix: T5, .. }, inner))) => {
                (Some(format!("{}.{inner}", self.last_text)), StoredForm::Same)
            }
            (None, Some((part, inner))) => within(part, inner, tensor),
            (None, None) => (None, StoredForm::Same),
        };
        (name.map(Name::from), StoredAs { name: stored.clone(), form, is_shifted: false })
    }

    /// The same of a tensor of the model that makes images.
    fn of_denoiser(&self, inner: &str, tensor: &BaseTensor) -> (Option<String>, StoredForm) {
        let directory = self.denoiser.directory();
        let placed = |inner: String| format!("{directory}.{inner}");
        let Some(name) = self.denoiser.diffusers(inner) else {
            return (Some(placed(inner.to_owned())), StoredForm::Same);
        };
        let parts = name.rsplit_once('.').and_then(|(module, leaf)| Some((joined::parts(module)?, leaf)));
        let form = match parts {
            None => StoredForm::Same,
            Some((parts, leaf)) => {
                let names = parts.into_iter().map(|part| placed(format!("{part}.{leaf}"))).collect();
                rows(names, self.width, tensor)
            }
        };
        (Some(placed(name)), form)
    }
}

/// The name of a tensor of another component, and its form.
fn within(part: &FilePart, inner: &str, tensor: &BaseTensor) -> (Option<String>, StoredForm) {
    let placed = |inner: String| format!("{}.{inner}", part.directory);
    match (part.named_by, open_clip::projections(inner)) {
        (NamedBy::OpenClip, Some(names)) => (None, rows(names.map(placed).into(), 0, tensor)),
        (NamedBy::OpenClip, None) => (open_clip::transformers(inner).map(placed), StoredForm::Same),
        _ => (Some(placed(inner.to_owned())), StoredForm::Same),
    }
}

/// A tensor whose rows are those of others: of each as many, or where they are so many that `width` tells, of the last what is left.
fn rows(names: Vec<String>, width: u64, tensor: &BaseTensor) -> StoredForm {
    let all = tensor.tensor.shape.axes().first().copied().unwrap_or(0);
    let count = names.len() as u64;
    let own = if count == THIRDS && all.is_multiple_of(count) { all / count } else { width };
    let Some(last) = own.checked_mul(count - 1).and_then(|before| all.checked_sub(before)) else {
        return StoredForm::Same;
    };
    if own == 0 || last == 0 || (count == THIRDS && last != own) {
        return StoredForm::Same;
    }
    let of = |place: u64| if place + 1 == count { last } else { own };
    let parts = (0..).zip(names).map(|(place, name)| RowPart { name: name.into(), rows: of(place) });
    StoredForm::Rows(parts.collect())
}

/// Parts that have the same rows: queries, keys and values of as many heads.
const THIRDS: u64 = 3;
/// Tensors that have a row for each input of a block.
const WIDTHS: &[&str] = &["img_in.weight", "x_embedder.proj.weight"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    #[test]
    fn rows_of_a_joined_projection_are_those_of_its_parts() {
        let [wide, other] = [&[4, 2][..], &[2]].map(|axes| Shape::new(axes).expect("small"));
        let names = ["img_in.weight", "double_blocks.0.img_attn.qkv.weight", "vector_in.in_layer.weight"];
        let file = OneFile::of(names.into_iter().zip([&wide, &other, &other])).expect("a file of Flux");
        let read = |name: &str, rows: u64| {
            let shape = Shape::new(&[rows]).expect("small");
            let tensor = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F32, shape };
            let (name, stored) = file.read(&BaseTensor { name: name.into(), tensor });
            let parts = match stored.form {
                StoredForm::Rows(parts) => parts.iter().map(|part| part.rows).collect(),
                _ => Vec::new(),
            };
            (name.map(|name| name.to_string()).unwrap_or_default(), parts)
        };
        let of = |name: &str| format!("transformer.{name}");
        let linear = "single_transformer_blocks.7.qkv_mlp.bias";
        for (stored, rows, name, parts) in [
            (
                "double_blocks.3.img_attn.qkv.bias",
                12,
                of("transformer_blocks.3.attn.to_qkv.bias"),
                vec![4, 4, 4],
            ),
            ("single_blocks.7.linear1.bias", 28, of(linear), vec![4, 4, 4, 16]),
            ("single_blocks.7.linear1.bias", 12, of(linear), vec![]),
            ("double_blocks.3.img_attn.qkv.bias", 10, of("transformer_blocks.3.attn.to_qkv.bias"), vec![]),
            (
                "double_blocks.3.img_attn.norm.key_norm.scale",
                2,
                of("transformer_blocks.3.attn.norm_k.weight"),
                vec![],
            ),
            ("final_layer.adaLN_modulation.1.bias", 8, of("final_layer.adaLN_modulation.1.bias"), vec![]),
        ] {
            assert_eq!(read(stored, rows), (name, parts), "{stored} of {rows}");
        }
    }

    #[test]
    fn tensors_get_the_names_of_diffusers() {
        let all = [
            "model.diffusion_model.input_blocks.0.0.weight",
            "model.diffusion_model.input_blocks.1.0.in_layers.2.weight",
            "model.diffusion_model.input_blocks.2.0.op.weight",
        ];
        let shape = Shape::new(&[2]).expect("small");
        let file = OneFile::of(all.into_iter().map(|name| (name, &shape))).expect("such a file");
        let read = |name: &str, rows: u64| {
            let shape = Shape::new(&[rows, 2]).expect("small");
            let tensor = TensorRef { file: FileId(0), offset: 0, dtype: Dtype::F32, shape };
            file.read(&BaseTensor { name: name.into(), tensor })
        };
        for (stored, name) in [
            (all[1], Some("unet.down_blocks.0.resnets.0.conv1.weight")),
            (all[2], Some("unet.down_blocks.0.downsamplers.0.conv.weight")),
            ("model.diffusion_model.some_head.weight", Some("unet.some_head.weight")),
            ("cond_stage_model.transformer.text_model.x.bias", Some("text_encoder.text_model.x.bias")),
            (
                "conditioner.embedders.1.model.transformer.resblocks.7.mlp.c_fc.bias",
                Some("text_encoder_2.text_model.encoder.layers.7.mlp.fc1.bias"),
            ),
            ("conditioner.embedders.1.model.text_projection", None),
            ("first_stage_model.decoder.conv_in.weight", None),
            ("text_encoders.t5xxl.transformer.shared.weight", Some("text_encoder_2.shared.weight")),
        ] {
            let (found, kept) = read(stored, 6);
            assert_eq!(
                (found.as_deref(), &*kept.name, kept.form),
                (name, stored, StoredForm::Same),
                "{stored}"
            );
        }
        let stacked = "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight";
        let (name, kept) = read(stacked, 6);
        let StoredForm::Rows(rows) = kept.form else { panic!("it is three") };
        assert!(name.is_none());
        let rows: Vec<(&str, u64)> = rows.iter().map(|part| (&*part.name, part.rows)).collect();
        let of = |leaf: &str| format!("text_encoder_2.text_model.encoder.layers.0.self_attn.{leaf}.weight");
        let names = ["q_proj", "k_proj", "v_proj"].map(of);
        assert_eq!(rows, names.each_ref().map(|name| (name.as_str(), 2)));
        assert_eq!(read(stacked, 7).1.form, StoredForm::Same, "it is no three of one size");
        assert!(OneFile::of([("model.layers.0.mlp.up_proj.weight", &shape)].into_iter()).is_none());
    }
}
