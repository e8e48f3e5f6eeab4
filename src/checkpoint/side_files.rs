//! The files of a checkpoint beside its weights: which of them belong to the result.
//!
//! Everything is copied: configs, tokenizer, chat template, processor, model code, and the weights of other modules. Left
//! behind are the weights that are merged, the same weights in another format, what a training run left, adapters and earlier
//! results in directories of their own, version control, and the model card, which is rewritten. What is left
//! behind is reported, unless it is rewritten.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::note::Note;
use crate::note::side_file::SideFileNote;
use crate::storage::location::Location;
use crate::storage::rules::FOREIGN;
use crate::storage::store::Entry;
use crate::storage::walk::{Left, Walk};

use crate::checkpoint::weights_name::is_index;

/// Endings of files that hold weights.
const WEIGHT_ENDINGS: &[&str] = &[
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".onnx",
    ".onnx_data",
    ".npz",
    ".gguf",
    ".ckpt",
    ".h5",
    ".msgpack",
];
/// What the names begin with by which the weights of a whole model are known in some format.
const WHOLE_MODELS: &[&str] = &[
    "pytorch_model",
    "diffusion_pytorch_model",
    "open_clip_pytorch_model",
    "open_clip_model",
    "openvino_model",
    "tf_model",
    "flax_model",
    "rust_model",
    "encoder_model",
    "decoder_model",
    "decoder_with_past_model",
    "consolidated",
    "weights",
    "model",
];
/// Endings of formats that hold a whole model, whatever the file is called.
const WHOLE_ENDINGS: &[&str] =
    &[".gguf", ".ggml", ".h5", ".msgpack", ".ckpt", ".ot", ".tflite", ".mlmodel", ".pdparams", ".flashpack"];
/// Directories that hold the weights in another format.
const WHOLE_DIRECTORIES: &[&str] = &["original", "onnx", "openvino", "coreml", "metal", "mlx", "gguf"];
/// Other modules' weights in a format that otherwise holds a whole model: llama.cpp's projector of images.
const PROJECTOR: &str = "mmproj";

/// Files that are rewritten, or that say nothing of the model.
const OWN: &[&str] = &["README.md", "shardfold.json", "shardfold.undo"];
/// The parameters of a consolidated checkpoint, which is the same weights under other names.
const PARAMS: &str = "params.json";

const TRAINING_NAMES: &[&str] = &["trainer_state.json", "training_args.bin", "latest", "zero_to_fp32.py"];
const TRAINING_STARTS: &[&str] =
    &["optimizer.", "scheduler.", "rng_state", "random_states", "events.out.", "model_optim_rng"];
const TRAINING_DIRECTORIES: &[&str] = &["runs", "wandb"];
const TRAINING_DIRECTORY_STARTS: &[&str] = &["checkpoint-", "global_step"];

const ADAPTER_START: &str = "adapter_";
const UNFINISHED_ENDINGS: &[&str] = &[".tmp", ".lock", ".incomplete", ".partial"];

/// Weights that whoever reads them looks for beside the model, also where they lie beside an adapter: LLaMA-Factory's
/// value head.
const BESIDE: &[&str] = &["value_head.safetensors", "value_head.bin"];
/// What tells that a directory holds an adapter, a result of a merge, or the beginning of one.
const MARKS: &[(&str, Why)] = &[
    ("adapter_config.json", Why::Adapter),
    ("shardfold.json", Why::Result),
    ("shardfold.journal", Why::Result),
];

/// Why something beside the weights is not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// It is rewritten, or a copy of it says nothing of the model: not worth reporting.
    Own,
    InOneFile,
    OtherFormat,
    Training,
    Adapter,
    Result,
    Unfinished,
    Denied,
    LinkOut,
    Deep,
    Empty,
    Special,
}

impl Why {
    fn text(self) -> &'static str {
        match self {
            Why::Own => "rewritten",
            Why::InOneFile => "weights of a pipeline in one file, which are not merged",
            Why::OtherFormat => "the weights in another format or precision, which are not merged",
            Why::Training => "left by a training run",
            Why::Adapter => "an adapter",
            Why::Result => "the result of a merge, or the beginning of one",
            Why::Unfinished => "not a whole file",
            Why::Denied => "no permission to read it",
            Why::LinkOut => "a link to a directory elsewhere",
            Why::Deep => "too many directories deep",
            Why::Empty => "a directory with nothing in it",
            Why::Special => "neither a file nor a directory, or not a name in UTF-8",
        }
    }
}

impl From<Left> for Why {
    fn from(left: Left) -> Why {
        match left {
            Left::Denied => Why::Denied,
            Left::LinkOut => Why::LinkOut,
            Left::Deep => Why::Deep,
            Left::Empty => Why::Empty,
            Left::Special => Why::Special,
        }
    }
}

/// What lies beside a checkpoint's weights.
#[derive(Debug, Default)]
pub(crate) struct SideFiles {
    /// The files to carry over, in the order of their names.
    pub(crate) copied: Vec<Entry>,
    /// What is worth reporting of them and of others.
    pub(crate) notes: Vec<Note>,
}

/// The files of `dir` that belong to the result, and notes of the others. `is_shard` tells the weights that are merged.
///
/// # Errors
/// [`StorageError::BrokenLink`](crate::error::storage::StorageError::BrokenLink) for every link among them that leads to
/// nothing; as [`Walk::of`].
pub(crate) fn side_files(dir: &Location, is_shard: impl Fn(&str) -> bool) -> Result<SideFiles> {
    sorted_out(dir, &|name| is_shard(name).then_some(Why::Own))
}

/// The files of a pipeline that belong to the result and to none of its components: what lies beside their directories, but for
/// weights, which are those of the components in one file.
///
/// # Errors
/// As [`side_files`].
pub(crate) fn pipeline_files(dir: &Location, components: &[String]) -> Result<SideFiles> {
    let own = |name: &str| match name.split_once('/') {
        Some((component, _)) => components.iter().any(|one| one == component).then_some(Why::Own),
        None => is_weights(name).then_some(Why::InOneFile),
    };
    sorted_out(dir, &own)
}

/// The files of `dir` that belong to the result, and notes of the others; `own` tells those that do not for a reason of the caller's.
fn sorted_out(dir: &Location, own: &dyn Fn(&str) -> Option<Why>) -> Result<SideFiles> {
    let skipped = RefCell::new(Vec::new());
    let skip = |at: &str, name: &str| {
        let why = why_skipped(at, name);
        let path = if at.is_empty() { format!("{name}/") } else { format!("{at}/{name}/") };
        skipped.borrow_mut().extend(why.map(|why| (path, why)));
        why.is_some()
    };
    let walk = Walk::of(dir, &skip)?;
    let marked = marked(&walk.files);
    let why_left = |name: &str| own(name).or_else(|| holder(name, &marked)).or_else(|| why_left(name));
    Error::all(walk.broken_links(dir, |name| why_left(name).is_none()))?;

    let mut left = skipped.take();
    left.extend(marked.iter().map(|(at, why)| (at.clone(), *why)));
    left.extend(walk.left.iter().map(|(name, left)| (name.clone(), Why::from(*left))));
    let mut copied = Vec::new();
    for file in walk.files {
        match why_left(&file.name) {
            None => copied.push(file),
            Some(why) if holder(&file.name, &marked).is_none() => left.push((file.name, why)),
            Some(_) => {}
        }
    }
    let notes = notes(&copied, left);
    Ok(SideFiles { copied, notes })
}

/// What the outermost of these directories that a file lies in is, if it lies in one.
fn holder(name: &str, directories: &BTreeMap<String, Why>) -> Option<Why> {
    name.match_indices('/').find_map(|(end, _)| directories.get(&name[..=end]).copied())
}

/// The directories, but for the checkpoint's own, that one file tells to be no part of it.
fn marked(files: &[Entry]) -> BTreeMap<String, Why> {
    let mark = |file: &Entry| {
        let (at, leaf) = file.name.rsplit_once('/')?;
        let (_, why) = MARKS.iter().find(|(mark, _)| *mark == leaf)?;
        Some((format!("{at}/"), *why))
    };
    // Of several such files in one directory the first counts.
    let mut found = BTreeMap::new();
    found.extend(files.iter().rev().filter_map(mark));
    found
}

fn notes(copied: &[Entry], left: Vec<(String, Why)>) -> Vec<Note> {
    let mut notes: Vec<Note> = Vec::new();
    let is_module = |file: &&Entry| has_ending(&file.name, WEIGHT_ENDINGS) && !is_beside(&file.name);
    let weights = copied.iter().filter(is_module);
    let files: Vec<String> = weights.map(|file| file.name.clone()).collect();
    if !files.is_empty() {
        notes.push(SideFileNote::OtherModules { files }.into());
    }
    let mut by_reason: BTreeMap<Why, Vec<String>> = BTreeMap::new();
    // Other safetensors files beside the weights are reported with the index.
    let is_reported = |name: &str| !name.contains('/') && name.ends_with(".safetensors");
    let is_told = |name: &str, why: Why| why == Why::InOneFile || why != Why::Own && !is_reported(name);
    for (name, why) in left.into_iter().filter(|(name, why)| is_told(name, *why)) {
        by_reason.entry(why).or_default().push(name);
    }
    notes.extend(by_reason.into_iter().map(|(why, mut files)| {
        files.sort_unstable();
        SideFileNote::LeftOut { files, why: why.text().to_owned() }.into()
    }));
    notes
}

/// Whether a file holds weights, or is the index of some, by its name.
pub(crate) fn is_weights(name: &str) -> bool {
    is_index(name) || has_ending(name, WEIGHT_ENDINGS) || has_ending(name, WHOLE_ENDINGS)
}

/// What else a trainer's own state begins with beside an adapter, where nothing else has these names.
const STATE_STARTS: &[&str] = &[
    "optim",
    "scheduler",
    "lr_scheduler",
    "scaler",
    "grad_scaler",
    "sampler",
    "dataloader",
    "training_args",
    "training_state",
    "trainer_state",
    "recipe_state",
];
/// What stands inside the names of the state that DeepSpeed shards.
const SHARDED_STATE: &str = "optim_states";

/// What the names of states of mlx-lm's adapters end with, behind the number of the step.
const STEP_ENDING: &str = "_adapters.safetensors";

/// Whether a file beside an adapter holds what a trainer needs to go on, or what it had on the way, by its name.
pub(crate) fn is_training_state(name: &str) -> bool {
    let step = name.strip_suffix(STEP_ENDING);
    if step.is_some_and(|step| !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit())) {
        return true;
    }
    has_start(name, TRAINING_STARTS) || has_start(name, STATE_STARTS) || name.contains(SHARDED_STATE)
}

/// Whether a file holds weights that are no part of the model and belong beside it, also where it lies beside an adapter.
pub(crate) fn is_beside(name: &str) -> bool {
    BESIDE.contains(&name)
}

/// Why a directory `name` in `at` is not looked into, if it is not.
fn why_skipped(at: &str, name: &str) -> Option<Why> {
    if FOREIGN.contains(&name) {
        return Some(Why::Denied);
    }
    if name.starts_with('.') || name == "__pycache__" {
        return Some(Why::Own);
    }
    if has_ending(name, UNFINISHED_ENDINGS) {
        return Some(Why::Unfinished);
    }
    // Only at the top: a module may call its directories as it likes.
    if !at.is_empty() {
        return None;
    }
    if TRAINING_DIRECTORIES.contains(&name) || has_start(name, TRAINING_DIRECTORY_STARTS) {
        return Some(Why::Training);
    }
    WHOLE_DIRECTORIES.contains(&name).then_some(Why::OtherFormat)
}

/// Why a file that is no shard is not copied, if it is not.
fn why_left(name: &str) -> Option<Why> {
    let (at, leaf) = name.rsplit_once('/').unwrap_or(("", name));
    if leaf.starts_with('.') || at.is_empty() && (OWN.contains(&leaf) || leaf == PARAMS || is_index(leaf)) {
        return Some(Why::Own);
    }
    if has_ending(leaf, UNFINISHED_ENDINGS) {
        return Some(Why::Unfinished);
    }
    if TRAINING_NAMES.contains(&leaf) || has_start(leaf, TRAINING_STARTS) {
        return Some(Why::Training);
    }
    if !at.is_empty() {
        return None;
    }
    if leaf.starts_with(ADAPTER_START) {
        return Some(Why::Adapter);
    }
    is_whole_model(leaf).then_some(Why::OtherFormat)
}

/// Whether a file that is no shard is copied, as far as its name tells.
pub(crate) fn is_carried(name: &str) -> bool {
    why_left(name).is_none()
}

/// Whether nothing that reads a checkpoint reads a file that is no shard, by its name: the weights in another format, and what a
/// training run left.
#[cfg(feature = "hub")]
pub(crate) fn is_needless(name: &str) -> bool {
    let of_top = name.split_once('/').and_then(|(top, _)| why_skipped("", top));
    matches!(of_top.or_else(|| why_left(name)), Some(Why::OtherFormat | Why::Training | Why::Unfinished))
}

/// Whether a file beside the weights is, by its name, another copy of them: in another format, precision, or number of shards.
pub(crate) fn is_whole_model(leaf: &str) -> bool {
    if leaf.starts_with(PROJECTOR) {
        return false;
    }
    if has_ending(leaf, WHOLE_ENDINGS) || leaf.contains(".ckpt.") || leaf.starts_with("openvino_model.") {
        return true;
    }
    if !has_ending(leaf, WEIGHT_ENDINGS) {
        return false;
    }
    let Some((stem, rest)) = WHOLE_MODELS.iter().find_map(|stem| Some((*stem, leaf.strip_prefix(stem)?)))
    else {
        return false;
    };
    let is_numbered = || rest[1..].starts_with(|c: char| c.is_ascii_digit());
    match rest.chars().next() {
        Some('.') => true,
        Some('-') => is_numbered(),
        // `pytorch_model_fsdp.bin`, `model_quantized.onnx`, but not `model_vision.safetensors`.
        Some('_') => stem == "pytorch_model" || leaf.contains(".onnx") || is_numbered(),
        _ => false,
    }
}

fn has_ending(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| name.ends_with(ending))
}

fn has_start(name: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::files::write_small;
    use crate::storage::memory::Memory;

    fn copied(names: &[&str]) -> (Vec<String>, Vec<String>) {
        let dir = Location::new(Memory::new()).join("base");
        for name in names {
            write_small(&dir, name, b"bytes").unwrap();
        }
        let found = side_files(&dir, |name| name == "model.safetensors").unwrap();
        let notes = found.notes.iter().map(ToString::to_string).collect();
        (found.copied.into_iter().map(|file| file.name).collect(), notes)
    }

    #[test]
    fn everything_but_the_weights_belongs_to_the_result() {
        let mut names = vec![
            "1_Pooling/README.md",
            "1_Pooling/config.json",
            "2_Dense/model.safetensors",
            "2_Dense/pytorch_model.bin",
            "3_Dense/model.safetensors.index.json",
            "LICENSE",
            "a/b/c/d/e/f/deep.json",
            "campplus.onnx",
            "chat_template.jinja",
            "colbert_linear.pt",
            "config.json",
            "mm_projector.bin",
            "mmproj-model-f16.gguf",
            "model_vision.safetensors",
            "modeling_custom.py",
            "module/original/config.json",
            "sparse_linear.pt",
            "spk_dict.pt",
            "tokenizer.model",
            "value_head.safetensors",
            "vocab.bin",
        ];
        names.sort_unstable();
        let (found, notes) = copied(&names);
        assert_eq!(found, names);
        let modules = "`2_Dense/model.safetensors` and 9 more hold weights of other modules";
        assert!(notes.len() == 1 && notes[0].starts_with(modules), "{notes:?}");
    }

    #[test]
    fn copies_of_the_weights_and_leavings_stay_behind_and_are_reported() {
        let (found, notes) = copied(&[
            "model.safetensors",
            "model.safetensors.index.json",
            "README.md",
            "shardfold.json",
            "shardfold.undo",
            ".gitattributes",
            ".cache/x",
        ]);
        assert!(found.is_empty() && notes.is_empty(), "{found:?} {notes:?}");
        for (names, why) in [
            (
                &[
                    "pytorch_model.bin",
                    "pytorch_model-00001-of-00002.bin",
                    "pytorch_model_fsdp.bin",
                    "tf_model.h5",
                    "flax_model.msgpack",
                    "model.onnx",
                    "model_quantized.onnx",
                    "model.onnx_data",
                    "consolidated.00.pth",
                    "weights.npz",
                    "anything-Q4_K_M.gguf",
                    "openvino_model.xml",
                    "original/consolidated.00.pth",
                    "onnx/model.onnx",
                ][..],
                Why::OtherFormat,
            ),
            (
                &[
                    "optimizer.pt",
                    "rng_state_0.pth",
                    "training_args.bin",
                    "checkpoint-5/config.json",
                    "runs/x",
                ],
                Why::Training,
            ),
            (&["adapter_model.bin", "lora/adapter_config.json"], Why::Adapter),
            (&["merged/shardfold.json", "begun/shardfold.journal"], Why::Result),
            (&["x.incomplete", "merged.partial/config.json"], Why::Unfinished),
            (&["lost+found/#12"], Why::Denied),
        ] {
            for name in names {
                let (found, notes) = copied(&[name]);
                assert!(found.is_empty(), "{name} was copied");
                assert!(notes.len() == 1 && notes[0].ends_with(why.text()), "{name}: {notes:?}");
            }
        }
        for name in ["model.fp16.safetensors", "consolidated.safetensors", "model-00001-of-00002.safetensors"]
        {
            assert!(copied(&[name]).0.is_empty(), "{name}");
        }
        // All of a directory that holds an adapter or a result, and its weights.
        let (found, _) =
            copied(&["lora/adapter_config.json", "lora/value_head.bin", "out/shardfold.json", "out/m.bin"]);
        assert!(found.is_empty(), "{found:?}");
    }
}
