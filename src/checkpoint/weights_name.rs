//! What the files of a checkpoint's weights are called: by library, alone or in shards, and perhaps of a variant.
//!
//! Loaders look for `STEM.safetensors`, or for `STEM.safetensors.index.json` and the shards that it names. A variant
//! (`fp16`, `non_ema`) stands before the last ending of both: `STEM.fp16.safetensors`, `STEM.safetensors.index.fp16.json`.
//! Which endings there are, the containers say.

use crate::checkpoint::ecosystem::{LIBRARIES, Library};
use crate::formats::CONTAINERS;
use crate::formats::container::{Container, FileNames};
use crate::tensor::dtype::Dtype;

/// What a library calls weights in a container of that place; none in one that it does not look for.
fn stem_of(library: &'static Library, container: usize) -> Option<&'static str> {
    match CONTAINERS[container].file_names() {
        FileNames::OfLibraries => Some(library.stem),
        FileNames::OfOlderLibraries => Some(library.older_stem),
        FileNames::Any | FileNames::OfAdapters => None,
    }
}

/// What a file of weights, or an index of some, is called where it is written: as it is read, or as libraries do now.
pub(crate) fn written_as(file: &str) -> String {
    let is_older = |container: &&&dyn Container| container.file_names() == FileNames::OfOlderLibraries;
    let of = |older: &dyn Container| {
        let ending = older.ending();
        let is_one = file.ends_with(ending) || file.contains(&format!("{ending}.index."));
        let library = LIBRARIES.iter().find(|library| is_one && file.starts_with(library.older_stem))?;
        let rest = file[library.older_stem.len()..].replacen(ending, CONTAINERS[0].ending(), 1);
        Some(format!("{}{rest}", library.stem))
    };
    CONTAINERS.iter().filter(is_older).find_map(|older| of(*older)).unwrap_or_else(|| file.to_owned())
}

/// Whether an index of that name may list a file of that one.
pub(crate) fn may_list(index: &str, file: &str) -> bool {
    let is_both = |ending: &str| file.ends_with(ending) && index.contains(&format!("{ending}.index."));
    CONTAINERS.iter().any(|container| is_both(container.ending()))
}

/// The name of a checkpoint's weights.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WeightsName {
    /// The variant, if it is one.
    pub(crate) variant: Option<String>,
    /// What its library calls weights.
    pub(crate) stem: &'static str,
    /// The place of its container in the table: of two, the first counts.
    container: usize,
}

impl WeightsName {
    /// The weights without a variant.
    pub(crate) fn plain(stem: &'static str) -> WeightsName {
        WeightsName { variant: None, stem, container: 0 }
    }

    /// Whether it is called so by that library, of that variant, whatever its container.
    pub(crate) fn is(&self, stem: &str, variant: Option<&str>) -> bool {
        self.stem == stem && self.variant.as_deref() == variant
    }

    /// Which weights a file is, or is the index of; none for shards, and for files of another kind.
    pub(crate) fn of(file: &str) -> Option<WeightsName> {
        let of = |library: &'static Library, container: usize| {
            let (stem, ending) = (stem_of(library, container)?, CONTAINERS[container].ending());
            let found = dotted_variant(file.strip_prefix(stem)?, ending)?;
            let variant = match found.strip_prefix('.') {
                None => found.is_empty().then_some(None),
                Some(variant) => is_variant(variant).then(|| Some(variant.to_owned())),
            }?;
            Some(WeightsName { variant, stem, container })
        };
        let mut libraries = LIBRARIES.iter();
        libraries.find_map(|library| (0..CONTAINERS.len()).find_map(|container| of(library, container)))
    }

    fn ending(&self) -> &'static str {
        CONTAINERS[self.container].ending()
    }

    /// The file, if it is one alone.
    pub(crate) fn single(&self) -> String {
        format!("{}{}{}", self.stem, self.dotted(), self.ending())
    }

    /// The file of that number, from 1, where there are so many.
    pub(crate) fn shard(&self, number: usize, of: usize) -> String {
        let (stem, variant, ending) = (self.stem, self.dotted(), self.ending());
        format!("{stem}{variant}-{number:0NUMBER_DIGITS$}{OF}{of:0NUMBER_DIGITS$}{ending}")
    }

    /// The file that says which shard holds what.
    pub(crate) fn index(&self) -> String {
        format!("{}{}.index{}.json", self.stem, self.ending(), self.dotted())
    }

    fn dotted(&self) -> String {
        self.variant.as_ref().map(|variant| format!(".{variant}")).unwrap_or_default()
    }
}

/// What stands for the variant, its dot included, in a name behind its stem: of an index, or of weights alone.
fn dotted_variant<'n>(rest: &'n str, ending: &str) -> Option<&'n str> {
    let of_index = || rest.strip_prefix(ending)?.strip_prefix(".index")?.strip_suffix(".json");
    of_index().or_else(|| rest.strip_suffix(ending))
}

/// Whether a file has a name that libraries look for: then its directory is a checkpoint.
pub(crate) fn is_of_library(file: &str) -> bool {
    WeightsName::of(file).is_some() || of_shard(file).is_some()
}

/// A file's name without the ending of a container whose files are those of libraries; none for others.
pub(crate) fn stem_of_file(file: &str) -> Option<&str> {
    file.strip_suffix(container_ending(file)?).filter(|stem| !stem.is_empty())
}

/// Whether a file's name is one of a container whose files an index lists.
pub(crate) fn holds_tensors(file: &str) -> bool {
    container_ending(file).is_some()
}

fn container_ending(file: &str) -> Option<&'static str> {
    let listed = CONTAINERS.iter().filter(|container| container.file_names() == FileNames::OfLibraries);
    listed.map(|container| container.ending()).find(|ending| file.ends_with(ending))
}

/// Shards of a variant have its name and their number there.
fn is_variant(text: &str) -> bool {
    !text.is_empty() && !text.contains('.') && !text.contains(OF)
}

/// What stands between a shard's number and the number of shards.
const OF: &str = "-of-";

/// The weights that a shard is of, by its name.
pub(crate) fn of_shard(file: &str) -> Option<WeightsName> {
    let is_number = |rest: &str| rest.starts_with(['-', '_']) || rest.starts_with('.') && rest.contains(OF);
    let of = |library: &'static Library, container: usize| {
        let stem = stem_of(library, container)?;
        let rest = file.strip_suffix(CONTAINERS[container].ending())?.strip_prefix(stem)?;
        is_number(rest).then_some(WeightsName { variant: None, stem, container })
    };
    let mut libraries = LIBRARIES.iter();
    libraries.find_map(|library| (0..CONTAINERS.len()).find_map(|container| of(library, container)))
}

/// Whether a file is the first shard of one, by its name.
pub(crate) fn is_only_shard(file: &str) -> bool {
    let numbers = |file: &str| {
        let ending =
            CONTAINERS.iter().map(|container| container.ending()).find(|ending| file.ends_with(ending))?;
        let (before, of) = file.strip_suffix(ending)?.rsplit_once(OF)?;
        let number = before.rsplit(['-', '_', '.']).next()?;
        Some((number.parse::<u64>().ok()?, of.parse::<u64>().ok()?))
    };
    numbers(file) == Some((1, 1))
}

/// The files of one model, where they have any name: one, or shards that have its name, their number and how many they are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OwnName {
    stem: String,
    ending: &'static str,
    /// How many shards there are; none for one file that has no number.
    shards: Option<u64>,
}

/// What the names of files begin with that hold other modules of the model.
const PROJECTOR: &str = "mmproj";

impl OwnName {
    /// Which model a file is of; none for files whose names libraries look for, and for those of another kind.
    pub(crate) fn of(file: &str) -> Option<OwnName> {
        let free = CONTAINERS.iter().filter(|container| container.file_names() == FileNames::Any);
        let ending = free.map(|container| container.ending()).find(|ending| file.ends_with(ending))?;
        let stem = file.strip_suffix(ending).filter(|stem| !stem.is_empty() && !stem.contains('/'))?;
        let numbered = || {
            let (before, of) = stem.rsplit_once(OF)?;
            let (stem, number) = before.rsplit_once('-')?;
            let is_number =
                |text: &str| text.len() == NUMBER_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
            (is_number(number) && is_number(of)).then_some((stem, of.parse::<u64>().ok()?))
        };
        let (stem, shards) = numbered().map_or((stem, None), |(stem, shards)| (stem, Some(shards)));
        Some(OwnName { stem: stem.to_owned(), ending, shards })
    }

    /// The name, without number and ending.
    pub(crate) fn into_stem(self) -> String {
        self.stem
    }

    /// Whether it is of a model by itself.
    pub(crate) fn is_model(&self) -> bool {
        !self.stem.starts_with(PROJECTOR)
    }

    /// Its files, in order.
    pub(crate) fn files(&self) -> Vec<String> {
        let OwnName { stem, ending, shards } = self;
        match shards {
            None => vec![format!("{stem}{ending}")],
            Some(all) => {
                let numbers = 1..=*all;
                numbers
                    .map(|i| format!("{stem}-{i:0NUMBER_DIGITS$}{OF}{all:0NUMBER_DIGITS$}{ending}"))
                    .collect()
            }
        }
    }
}

/// The name of a file whose weights are written in another type: people end the name of the model with it.
pub(crate) fn name_in_type(file: &str, dtype: Dtype) -> Option<String> {
    let stem = OwnName::of(file)?.into_stem();
    let behind = &file[stem.len()..];
    let model = stem
        .rsplit_once(['-', '.'])
        .filter(|(_, end)| is_type(end))
        .map_or(stem.as_str(), |(model, _)| model);
    Some(format!("{model}-{dtype:?}{behind}"))
}

/// Whether the end of a name says which type most weights of a file of llama.cpp have.
fn is_type(end: &str) -> bool {
    let end = end.to_ascii_uppercase();
    let is_numbered = |kind: &&str| {
        end.strip_prefix(*kind).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    ["F16", "BF16", "F32"].contains(&end.as_str())
        || ["Q", "IQ", "TQ", "MXFP", "NVFP"].iter().any(is_numbered)
}

/// Digits of a number in the name of a shard of llama.cpp.
const NUMBER_DIGITS: usize = 5;

/// What the shards of an index are called: the part of its name before the format, `model` of `model.safetensors.index.json`.
pub(crate) fn stem_of_index(file: &str) -> Option<String> {
    let format =
        |format: &&str| file.split_once(&format!("{format}.index.")).map(|(stem, _)| stem.to_owned());
    is_index(file).then(|| FORMATS.iter().find_map(format)).flatten()
}

/// Whether a file is an index of weights, whatever their format, library and variant.
pub(crate) fn is_index(file: &str) -> bool {
    let is_of = |format: &&str| file.contains(&format!("{format}.index."));
    file.ends_with(".json") && FORMATS.iter().any(is_of)
}

/// Formats of weights that have an index when they are in shards.
const FORMATS: [&str; 4] = [".safetensors", ".bin", ".h5", ".msgpack"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_their_weights() {
        for (file, stem, variant) in [
            ("model.safetensors", "model", None),
            ("model.safetensors.index.json", "model", None),
            ("model.fp16.safetensors", "model", Some("fp16")),
            ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model", None),
            ("diffusion_pytorch_model.non_ema.safetensors", "diffusion_pytorch_model", Some("non_ema")),
            ("diffusion_pytorch_model.safetensors.index.fp16.json", "diffusion_pytorch_model", Some("fp16")),
            ("pytorch_model.bin", "pytorch_model", None),
            ("pytorch_model.bin.index.json", "pytorch_model", None),
        ] {
            let name = WeightsName::of(file).expect(file);
            assert_eq!((name.stem, name.variant.as_deref()), (stem, variant), "{file}");
            assert!(name.single() == file || name.index() == file, "{file}");
        }
        let of_bin = |file| dotted_variant(file, ".bin");
        assert_eq!((of_bin(".fp16.bin"), of_bin(".bin.index.fp16.json")), (Some(".fp16"), Some(".fp16")));
        assert_eq!((of_bin(".safetensors"), of_bin(".safetensors.index.json")), (None, None));
        for file in [
            "model-00001-of-00002.safetensors",
            "diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
            "pytorch_lora_weights.safetensors",
            "model..safetensors",
            "model.a.b.safetensors",
            "model.bin",
            "models.safetensors",
            "config.json",
        ] {
            assert_eq!(WeightsName::of(file), None, "{file}");
        }
    }

    #[test]
    fn files_of_any_name() {
        for (file, files) in [
            ("Llama-3-8B.Q4_K_M.gguf", &["Llama-3-8B.Q4_K_M.gguf"][..]),
            ("model.gguf", &["model.gguf"]),
            (
                "m-Q8_0-00002-of-00003.gguf",
                &["m-Q8_0-00001-of-00003.gguf", "m-Q8_0-00002-of-00003.gguf", "m-Q8_0-00003-of-00003.gguf"],
            ),
            ("m-2-of-3.gguf", &["m-2-of-3.gguf"]),
        ] {
            let name = OwnName::of(file).expect(file);
            assert_eq!(
                (name.files(), name.is_model()),
                (files.iter().map(|file| (*file).to_owned()).collect(), true),
                "{file}"
            );
        }
        assert!(OwnName::of("mmproj-f16.gguf").is_some_and(|name| !name.is_model()));
        for file in ["model.safetensors", ".gguf", "sub/m.gguf", "m.gguf.json"] {
            assert_eq!(OwnName::of(file), None, "{file}");
            assert_eq!(WeightsName::of("model.gguf"), None);
        }
    }

    #[test]
    fn a_name_ends_with_the_type() {
        for (file, named) in [
            ("base.gguf", "base-Q8_0.gguf"),
            ("Llama-3.1-8B-Q4_K_M.gguf", "Llama-3.1-8B-Q8_0.gguf"),
            ("llama-3.1-8b.IQ2_XXS.gguf", "llama-3.1-8b-Q8_0.gguf"),
            ("Qwen3-f16-00002-of-00003.gguf", "Qwen3-Q8_0-00002-of-00003.gguf"),
            ("gpt-oss-mxfp4.gguf", "gpt-oss-Q8_0.gguf"),
            ("Qwen.gguf", "Qwen-Q8_0.gguf"),
            ("phi-3.5-Queen.gguf", "phi-3.5-Queen-Q8_0.gguf"),
        ] {
            assert_eq!(name_in_type(file, Dtype::Q8_0).as_deref(), Some(named), "{file}");
        }
        assert_eq!(name_in_type("model.safetensors", Dtype::F16), None);
    }

    #[test]
    fn shards_and_indexes() {
        let index = |file| of_shard(file).map(|name| name.index());
        for (file, listed) in [
            ("model-00001-of-00002.safetensors", Some("model.safetensors.index.json")),
            ("diffusion_pytorch_model-1.safetensors", Some("diffusion_pytorch_model.safetensors.index.json")),
            ("model.fp16-00001-of-00002.safetensors", Some("model.safetensors.index.json")),
            ("pytorch_model-00001-of-00002.bin", Some("pytorch_model.bin.index.json")),
            ("model-00001-of-00002.bin", None),
        ] {
            assert_eq!(index(file).as_deref(), listed, "{file}");
        }
        assert!(
            is_only_shard("model-00001-of-00001.safetensors") && is_only_shard("m.fp16-1-of-1.safetensors")
        );
        assert!(!is_only_shard("model-00001-of-00002.safetensors") && !is_only_shard("model.safetensors"));
        assert_eq!(stem_of_index("model.safetensors.index.fp16.json").as_deref(), Some("model"));
        assert_eq!(index("model.safetensors"), None);
        assert_eq!(index("model.fp16.safetensors"), None);
        for (file, written) in [
            ("pytorch_model.bin", "model.safetensors"),
            ("pytorch_model.fp16.bin", "model.fp16.safetensors"),
            ("pytorch_model-00001-of-00002.bin", "model-00001-of-00002.safetensors"),
            ("pytorch_model.bin.index.json", "model.safetensors.index.json"),
            ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.safetensors"),
            ("model.safetensors", "model.safetensors"),
            ("pytorch_model.safetensors", "pytorch_model.safetensors"),
            ("base.gguf", "base.gguf"),
        ] {
            assert_eq!(written_as(file), written);
        }
        assert!(is_index("pytorch_model.bin.index.fp16.json") && is_index("model.safetensors.index.json"));
        assert!(!is_index("model_index.json") && !is_index("faiss.index.json") && !is_index("config.json"));
    }
}
