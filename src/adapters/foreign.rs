//! Adapters that are no PEFT directory: which format a file is in, by its name and the names of its tensors, so that it is
//! refused by name, with what can be done today.

use crate::checkpoint::header::read_header;
use crate::checkpoint::header_room::HeaderRoom;
use crate::error::Error;
use crate::error::adapter::AdapterError;
use crate::storage::location::Location;
use crate::storage::store::{EntryKind, Store};

/// A format that is known and not read.
struct Format {
    /// Whose it is.
    name: &'static str,
    /// What shows it: any of these.
    signs: &'static [Sign],
    /// What can be done today.
    cure: &'static str,
}

/// What shows a format.
enum Sign {
    /// The name of a factor starts so.
    Starts(&'static str),
    /// The name of a tensor has this in it.
    Has(&'static str),
    /// The name of a tensor ends so.
    Ends(&'static str),
    /// The file is called so.
    Called(&'static str),
    /// The file's name ends so, in a directory too; its tensors are not looked at.
    Ending(&'static str),
}

use Sign::{Called, Ending, Ends, Has, Starts};

const BY_DIFFUSERS: &str = "diffusers merges it today: `pipe.load_lora_weights(...)`, `pipe.fuse_lora()`, `pipe.unload_lora_weights()`, \
                            `pipe.save_pretrained(...)`";
const AS_PEFT: &str = "put it into a directory as `adapter_model.safetensors`, beside an `adapter_config.json` with what it was trained \
                       with: `peft_type`, `r`, `lora_alpha`, `target_modules`";
const AS_PICKLE: &str = "a pickle of PEFT's tensors is read in a directory of its own, beside the `adapter_config.json` that it was trained with: \
                         put that there, or load this one with the program that wrote it, and save it with PEFT";

/// All that are known (key-mapping.md 1, 10 and 15); of those that fit the first is meant.
const FORMATS: &[Format] = &[
    Format { name: "OneTrainer's", signs: &[Starts("bundle_emb.")], cure: BY_DIFFUSERS },
    Format { name: "ComfyUI's", signs: &[Starts("text_encoders.")], cure: BY_DIFFUSERS },
    Format { name: "diffusers'", signs: &[Called("pytorch_lora_weights.safetensors")], cure: BY_DIFFUSERS },
    Format {
        name: "old diffusers (attention processors)",
        signs: &[Has("_lora.down.weight"), Has("_lora.up.weight")],
        cure: BY_DIFFUSERS,
    },
    Format {
        name: "mlx-lm's",
        signs: &[Ends(".lora_a"), Ends(".lora_b")],
        cure: "mlx-lm's are read as a directory with `adapters.safetensors` beside their `adapter_config.json`",
    },
    Format { name: "DiffSynth's", signs: &[Starts("pipe.")], cure: AS_PEFT },
    Format { name: "directory-less PEFT", signs: &[Starts("base_model.model.")], cure: AS_PEFT },
    Format {
        name: "directory- and prefix-less PEFT",
        signs: &[Ends(".lora_A.weight"), Ends(".lora_B.weight"), Has(".lora_embedding_A")],
        cure: AS_PEFT,
    },
    Format {
        name: "a diffusion trainer's",
        signs: &[
            Ends(".lora_down.weight"),
            Ends(".lora_up.weight"),
            Has(".lora.down."),
            Has(".hada_w1"),
            Has(".lokr_w1"),
        ],
        cure: BY_DIFFUSERS,
    },
    Format {
        name: "GGUF",
        signs: &[Ending(".gguf")],
        cure: "of GGUF files those are read that hold LoRA as llama.cpp's conversion writes it, and this one does not: take the adapter that it was \
               converted from",
    },
    Format {
        name: "the Adapters library's",
        signs: &[Called("pytorch_adapter.bin"), Called("pytorch_model_head.bin")],
        cure: "merge it with that library, `model.merge_adapter(...)`",
    },
    Format {
        name: "NumPy",
        signs: &[Ending(".npz")],
        cure: "mlx-lm merges its older files today, with `mlx_lm.fuse --dequantize`",
    },
    Format {
        name: "a distributed checkpoint's",
        signs: &[Ending(".distcp")],
        cure: "torch makes one file of it, `python -m torch.distributed.checkpoint.format_utils dcp_to_torch DIR adapter.pt`, which is read in a \
               directory of its own beside an `adapter_config.json`; of Megatron's, Megatron-Bridge writes a PEFT directory",
    },
    Format {
        name: "NeMo's",
        signs: &[Ending(".nemo")],
        cure: "it has Megatron's names and fused projections, which NeMo knows how to take apart: export it to a PEFT directory there, with \
               Megatron-Bridge",
    },
    Format {
        name: "an archive's",
        signs: &[Ending(".tar"), Ending(".tar.gz"), Ending(".tgz"), Ending(".zip")],
        cure: "unpack it, and give the directory: `mkdir adapter && tar -xf FILE -C adapter`, or `unzip FILE -d adapter`",
    },
    Format {
        name: "pickle",
        signs: &[Ending(".pt"), Ending(".pth"), Ending(".ckpt"), Ending(".bin"), Ending(".pkl")],
        cure: AS_PICKLE,
    },
];

/// Endings of names that mark a tensor as a factor; a checkpoint may have modules called like a component.
const FACTORS: &[&str] = &["lora", ".hada_", ".lokr_", ".oft_", ".alpha", ".diff", "bundle_emb"];
/// Files of a directory that are looked into: trainers keep a few states beside each other.
const MOST_FILES: usize = 8;
/// Memory for the header of one of them and what is read of it.
const MOST_HEADER_BYTES: u64 = 16 << 20;
/// What all formats are refused with.
const READ: &str = "shardfold reads directories of PEFT, mlx-lm, torchtune and mistral-finetune, and files of Kohya, LyCORIS, diffusers, OneTrainer, \
                    ai-toolkit, ComfyUI, XLabs, DiffSynth and llama.cpp";
/// Endings of files that are wholes of their own, and tell what a directory is that holds nothing else.
const PACKED: &[&str] = &[".distcp", ".nemo", ".tar", ".tar.gz", ".tgz"];
const SAFETENSORS: &str = ".safetensors";

/// A file whose format is known.
pub(crate) struct Foreign {
    file: Location,
    format: &'static Format,
    /// What shows it: a key, or the file's name.
    shown_by: String,
}

impl Foreign {
    /// The name of the format.
    pub(crate) fn format(&self) -> &'static str {
        self.format.name
    }

    /// The name of the file.
    pub(crate) fn file_name(&self) -> &str {
        self.file.name().unwrap_or_default()
    }

    /// Whether it is more than PEFT's tensors without the config.
    pub(crate) fn is_of_another(&self) -> bool {
        self.format.cure != AS_PEFT
    }

    /// The refusal of it as an adapter.
    pub(crate) fn refused(self) -> Error {
        let (path, format) = (self.file.path(), self.format.name);
        let kind = AdapterError::AdapterFormat { path, format, key: self.shown_by };
        Error::new(kind).hint(format!("{READ}; {}", self.format.cure))
    }
}

/// What is at `location`, a file or a directory with one, if it is in one of these formats. What cannot be read is in none:
/// this is for a message only.
pub(crate) fn foreign(location: &Location) -> Option<Foreign> {
    let files = files(location);
    let is_adapters = |file: &&Location| file.name().is_some_and(names_adapter);
    let by_tensors = files.iter().find_map(by_tensors);
    by_tensors.or_else(|| files.iter().filter(is_adapters).find_map(by_name))
}

/// The same for what is known to be meant for an adapter: a file's ending is enough.
pub(crate) fn foreign_file(location: &Location) -> Option<Foreign> {
    let is_packed =
        |file: &&Location| file.name().is_some_and(|name| PACKED.iter().any(|ending| name.ends_with(ending)));
    let packed = || files(location).iter().find(is_packed).and_then(by_name);
    foreign(location).or_else(|| by_name(location)).or_else(packed)
}

/// Whether a file's name says that it is an adapter.
fn names_adapter(name: &str) -> bool {
    let lower = name.to_lowercase();
    ["lora", "adapter", "lyco"].iter().any(|word| lower.contains(word))
}

fn by_tensors(file: &Location) -> Option<Foreign> {
    let (name, keys) = (file.name()?, keys(file)?);
    let shown_by = |sign: &Sign| match sign {
        Starts(start) => keys.iter().find(|key| key.starts_with(start) && is_factor(key)),
        Has(text) => keys.iter().find(|key| key.contains(text)),
        Ends(end) => keys.iter().find(|key| key.ends_with(end)),
        Called(called) => keys.first().filter(|_| name == *called),
        Ending(_) => None,
    };
    FORMATS.iter().find_map(|format| {
        let shown_by = format.signs.iter().find_map(shown_by)?.clone();
        Some(Foreign { file: file.clone(), format, shown_by })
    })
}

fn by_name(file: &Location) -> Option<Foreign> {
    let name = file.name().filter(|name| !name.ends_with(SAFETENSORS))?;
    let is_sign = |sign: &Sign| match sign {
        Ending(end) => name.ends_with(end),
        Called(called) => name == *called,
        Starts(_) | Has(_) | Ends(_) => false,
    };
    let format = FORMATS.iter().find(|format| format.signs.iter().any(is_sign))?;
    Some(Foreign { file: file.clone(), format, shown_by: name.to_owned() })
}

fn is_factor(key: &str) -> bool {
    FACTORS.iter().any(|factor| key.contains(factor))
}

/// The files that `location` is or holds, those with tensors that can be looked at first.
fn files(location: &Location) -> Vec<Location> {
    if location.stat("").is_ok_and(|stat| stat.is_some_and(|stat| stat.kind == EntryKind::File)) {
        return vec![location.clone()];
    }
    let found = location.files(&|_| true).unwrap_or_default();
    let (tensors, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|file| file.name.ends_with(SAFETENSORS));
    let files = tensors.into_iter().take(MOST_FILES).chain(others);
    files.map(|file| location.join(&file.name)).collect()
}

/// The names of a file's tensors; nothing if it cannot be read, which others say better.
fn keys(file: &Location) -> Option<Vec<String>> {
    let name = file.name().filter(|name| name.ends_with(SAFETENSORS))?;
    let source = file.parent()?.open(name).ok()?;
    let header = read_header(source.as_ref(), &file.path(), HeaderRoom::at_most(MOST_HEADER_BYTES)).ok()?;
    Some(header.tensors.into_iter().map(|tensor| tensor.name.to_string()).collect())
}
