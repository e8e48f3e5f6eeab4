//! Facts about one scheme of quantization: what its tensors are called, its keys in configs, its side files, and the name that
//! users know it by.
//!
//! ```text
//! model.layers.0.mlp.up_proj.weight_packed      quantized data: `.weight_packed` in the place of `.weight`
//! model.layers.0.mlp.up_proj.weight_scale       auxiliary: its values need it
//! model.layers.0.mlp.up_proj.input_scale        unused: a runtime reads it, no value of the weight depends on it
//! ```

use crate::tensor::dtype::Dtype;

/// What is known of one scheme.
#[derive(Debug)]
pub(crate) struct Scheme {
    /// The name that users know it by.
    pub title: &'static str,
    /// What `quant_method` of a config says for it.
    pub methods: &'static [&'static str],
    /// What `quant_algo` says for it beside or in place of the method, where one method has several schemes.
    pub algorithms: &'static [&'static str],
    /// Element types that its data may have; any if there are none.
    pub dtypes: &'static [Dtype],
    /// Whether it rounds plain weights each time that they are used, so that a config alone changes what they mean.
    pub is_online: bool,
    /// Whether each weight says by itself how it is stored, so that some may be decoded and others stay.
    pub stands_alone: bool,
    /// Whether its weights stand in another basis than those of the model that they were made from: factors of their inputs are
    /// moved into the layers before.
    pub is_turned: bool,
    /// Endings of its quantized data where it is not called as the weight is; those with a dot in front stand in the place
    /// of `.weight`, others follow the name.
    pub data: &'static [&'static str],
    /// Whether its data may have the dtype of plain numbers: bitsandbytes writes codes of 4 bits as any.
    pub has_any_dtype: bool,
    /// Endings of the tensors that its values need beside the data.
    pub auxiliary: &'static [Auxiliary],
    /// Endings of auxiliary tensors of which one is there wherever it is this scheme, where others have the rest too.
    pub marks: &'static [&'static str],
    /// Endings of what a runtime needs beside the data, and no value depends on: scales of inputs and outputs.
    pub unused: &'static [Auxiliary],
    /// Keys of a config that only its checkpoints have, beside the usual ones.
    pub config_keys: &'static [&'static str],
    /// Keys of `quantization_config` that list the modules it leaves plain.
    pub plain_lists: &'static [&'static str],
    /// Files beside the weights that only its checkpoints have.
    pub side_files: &'static [&'static str],
    /// Keys of a file's header that list others, which describe tensors as they are until they are decoded.
    pub header_keys: &'static [&'static str],
    /// Endings of the names under which its builds of a model are published.
    pub builds: &'static [&'static str],
}

impl Scheme {
    /// A scheme of which nothing is known yet, to begin a row with.
    pub(crate) const NONE: Scheme = Scheme {
        title: "",
        methods: &[],
        algorithms: &[],
        dtypes: &[],
        is_online: false,
        stands_alone: false,
        is_turned: false,
        data: &[],
        has_any_dtype: false,
        auxiliary: &[],
        marks: &[],
        unused: &[],
        config_keys: &[],
        plain_lists: &[],
        side_files: &[],
        header_keys: &[],
        builds: &[],
    };
}

/// The ending of an auxiliary tensor, and the endings that the data has in its place.
#[derive(Debug)]
pub(crate) struct Auxiliary {
    /// The ending; one of [`ANY_ENDING`] stands for every name below the data's module.
    pub ending: &'static str,
    /// What the quantized data ends with instead; nothing where the ending follows the name.
    pub data: &'static [&'static str],
}

impl Auxiliary {
    /// The names that it has for data of that name.
    pub(crate) fn names(&self, data: &str) -> impl Iterator<Item = String> {
        self.data.iter().filter_map(move |end| Some(format!("{}{}", data.strip_suffix(end)?, self.ending)))
    }

    /// The names that the data may have to which a tensor of that name belongs, each in two parts.
    pub(crate) fn data_of<'n>(&'static self, name: &'n str) -> impl Iterator<Item = (&'n str, &'static str)> {
        let stem = if self.ending == ANY_ENDING {
            name.rsplit_once('.').filter(|(_, leaf)| *leaf != "bias").map(|(module, _)| module)
        } else {
            has_ending(name, self.ending).then(|| &name[..name.len() - self.ending.len()])
        };
        let named = self.data.iter().filter_map(move |&end| Some((stem?, end)));
        named.filter(move |(stem, end)| name.strip_prefix(stem) != Some(end))
    }
}

/// Whether a name ends so. Every name of a checkpoint is held against every ending of every scheme, so that the last byte is
/// looked at first.
pub(crate) fn has_ending(name: &str, ending: &str) -> bool {
    name.as_bytes().last() == ending.as_bytes().last() && name.ends_with(ending)
}

/// Keeps whatever stands beside the data in its module, but for a bias.
pub(crate) const ANY_ENDING: &str = ".*";
