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
use crate::checkpoint::one_file::open_clip;
use crate::checkpoint::one_file::unet::OriginalUnet;
use crate::tensor::name::Name;

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
    part(DENOISER, "unet", NamedBy::Denoiser),
    part("cond_stage_model.transformer.", "text_encoder", NamedBy::Transformers),
    part("cond_stage_model.model.", "text_encoder", NamedBy::OpenClip),
    part("conditioner.embedders.0.transformer.", "text_encoder", NamedBy::Transformers),
    // The refiner of SDXL has the second alone.
    part("conditioner.embedders.0.model.", "text_encoder_2", NamedBy::OpenClip),
    part("conditioner.embedders.1.model.", "text_encoder_2", NamedBy::OpenClip),
];

/// The directories that components of a file may have.
pub(crate) fn directories() -> impl Iterator<Item = &'static str> {
    PARTS.iter().map(|part| part.directory)
}

/// A file of an image model.
pub(crate) struct OneFile {
    unet: OriginalUnet,
}

impl OneFile {
    /// The model that tensors of these names are of; none if they are not those of such a file.
    pub(crate) fn of<'n>(names: impl Iterator<Item = &'n str> + Clone) -> Option<OneFile> {
        let inner = names.filter_map(|name| name.strip_prefix(DENOISER));
        Some(OneFile { unet: OriginalUnet::of(inner)? })
    }

    /// What stands in the place of a config: that diffusers loads it.
    pub(crate) fn config(&self) -> Config {
        Config::made(json!({"_class_name": "DiffusionPipeline"}), true)
    }

    /// What diffusers has for a tensor, and how it is stored.
    pub(crate) fn read(&self, tensor: &BaseTensor) -> (Option<Name>, StoredAs) {
        let stored = &tensor.name;
        let found = PARTS.iter().find_map(|part| Some((part, stored.strip_prefix(part.prefix)?)));
        let (name, form) = match found {
            None => (None, StoredForm::Same),
            Some((part, inner)) => self.within(part, inner, tensor),
        };
        (name.map(Name::from), StoredAs { name: stored.clone(), form, is_shifted: false })
    }

    /// The same of a component's tensor.
    fn within(&self, part: &FilePart, inner: &str, tensor: &BaseTensor) -> (Option<String>, StoredForm) {
        let placed = |inner: String| format!("{}.{inner}", part.directory);
        match part.named_by {
            NamedBy::Transformers => (Some(placed(inner.to_owned())), StoredForm::Same),
            NamedBy::Denoiser => {
                let name = self.unet.diffusers(inner).unwrap_or_else(|| inner.to_owned());
                (Some(placed(name)), StoredForm::Same)
            }
            NamedBy::OpenClip => match open_clip::projections(inner) {
                Some(names) => (None, equal_rows(names.map(placed), tensor)),
                None => (open_clip::transformers(inner).map(placed), StoredForm::Same),
            },
        }
    }
}

/// A tensor whose rows are those of so many others, of each as many.
fn equal_rows<const N: usize>(names: [String; N], tensor: &BaseTensor) -> StoredForm {
    let rows = tensor.tensor.shape.axes().first().copied().unwrap_or(0);
    if rows == 0 || !rows.is_multiple_of(N as u64) {
        return StoredForm::Same;
    }
    let own = rows / N as u64;
    StoredForm::Rows(names.into_iter().map(|name| RowPart { name: name.into(), rows: own }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::dtype::Dtype;
    use crate::tensor::reference::{FileId, TensorRef};
    use crate::tensor::shape::Shape;

    #[test]
    fn tensors_get_the_names_of_diffusers() {
        let all = [
            "model.diffusion_model.input_blocks.0.0.weight",
            "model.diffusion_model.input_blocks.1.0.in_layers.2.weight",
            "model.diffusion_model.input_blocks.2.0.op.weight",
        ];
        let file = OneFile::of(all.into_iter()).expect("such a file");
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
        assert!(OneFile::of(["model.layers.0.mlp.up_proj.weight"].into_iter()).is_none());
    }
}
