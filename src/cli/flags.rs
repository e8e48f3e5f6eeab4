//! Flags that several commands share, in groups as help shows them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Args};

use crate::report::style::Style;
use crate::storage::io::settings::{IoMode, Unchanged};

/// Where a base is read from, and which of its weights.
#[derive(Args)]
pub(crate) struct SourceFlags {
    /// Keep what is read from the hub in the local cache, for later
    ///
    /// Before anything is planned, the files of the base and of adapters that are not in the cache are fetched, checked, and put there as
    /// `hf download` does, so that other programs and the next run find them. What was interrupted goes on where it stopped. The
    /// disk needs room for them. Without it nothing is kept, and a base is read as it is needed.
    #[arg(long, help_heading = "Inputs")]
    pub(crate) cache: bool,

    /// Select a weight variant of the base, e.g. fp16
    ///
    /// Takes `model.fp16.safetensors`, or its shards, where weights of several names lie side by side. The output files are
    /// named as the base's. [default: weights without a variant, else the only ones there are]
    #[arg(long, value_name = "NAME", help_heading = "Inputs")]
    pub(crate) variant: Option<String>,
}

/// What is merged.
#[derive(Args)]
pub(crate) struct InputFlags {
    /// Name the base checkpoint: a directory or a Hugging Face repo id
    ///
    /// A directory holds one `model.safetensors`, or shards with `model.safetensors.index.json`; in diffusers models these
    /// are called `diffusion_pytorch_model`. A pipeline is merged whole, by adapters that say for which of its components they are; else the
    /// component is named (`DIR/unet`). A file may be a base: GGUF, or an image model by its original names
    /// (`sd_xl_base_1.0.safetensors`). Where there is no such
    /// directory, `NAME` and `ORG/NAME` mean the snapshot that `hf download` put into the local cache (`HF_HUB_CACHE`, else
    /// `HF_HOME`/hub, else ~/.cache/huggingface/hub), and `ORG/NAME/DIR` a directory in it. `ORG/NAME@REVISION` takes a branch,
    /// a tag, or a commit or its first digits. `ORG/NAME` that is not in the cache is read from the hub as it is needed, unless
    /// `HF_HUB_OFFLINE=1`; `--cache` keeps a copy. [default: the base that the first adapter's config names, if it is found]
    #[arg(long, value_name = "DIR|NAME", help_heading = "Inputs")]
    pub(crate) base: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) source: SourceFlags,

    /// Add an adapter with weight 1: a directory or a repo id; repeatable
    ///
    /// The directory that PEFT's `save_pretrained` or a trainer wrote, or the one above it, or a repo id as for `--base`.
    /// Adapters are added in the order in which they stand on the command line.
    #[arg(long, value_name = "DIR|NAME", help_heading = "Inputs")]
    adapter: Vec<PathBuf>,

    /// Add an adapter with a weight, e.g. `style-lora 0.7`; repeatable
    ///
    /// The weight multiplies the adapter's own scale and may be negative. May be mixed with `--adapter`. It may be a list by module,
    /// `layers.0-9=0.5,q_proj=0,*=1`: segments of a module's path, with ranges of numbers (`10-` has no end) and `*` for any one
    /// segment. The first that a module has decides; `*` by itself is for all others, which else have 1. A weight of 0 leaves the
    /// module's delta out.
    #[arg(
        long,
        num_args = 2,
        value_names = ["DIR|NAME", "WEIGHT"],
        action = ArgAction::Append,
        allow_hyphen_values = true,
        help_heading = "Inputs"
    )]
    scaled_adapter: Vec<OsString>,

    #[command(flatten)]
    pub(crate) combine: CombineFlags,

    /// Adapters with the weights as typed (1 for `--adapter`), in the order of the command line.
    #[arg(skip)]
    pub(crate) adapters: Vec<(PathBuf, Option<String>)>,
}

impl InputFlags {
    /// Puts both kinds of adapters into the order in which they were typed.
    pub(crate) fn set_order(&mut self, matches: &clap::ArgMatches) {
        let places = |id| matches.indices_of(id).into_iter().flatten();
        let plain = places("adapter").zip(self.adapter.iter().map(|path| (path.clone(), None)));
        let pairs = self.scaled_adapter.chunks_exact(2);
        let pairs = pairs.map(|pair| (PathBuf::from(&pair[0]), Some(pair[1].to_string_lossy().into_owned())));
        let scaled = places("scaled_adapter").step_by(2).zip(pairs);
        let mut all: Vec<_> = plain.chain(scaled).collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        self.adapters = all.into_iter().map(|(_, adapter)| adapter).collect();
    }
}

/// How the deltas of several adapters become one.
#[derive(Args)]
pub(crate) struct CombineFlags {
    /// Choose how LoRA adapters combine: linear, svd, ties or dare_linear, …
    ///
    /// As `add_weighted_adapter` of PEFT has it, but on deltas, each with its own scale and weight. `linear` and `cat` are their exact sum,
    /// as without it. `svd` cuts the sum of each module to `--rank`. `magnitude_prune` keeps the largest share of each delta's elements, `--density`.
    /// `dare_linear` keeps a random share and divides by it. `ties` and `dare_ties` then leave out what is against the sign of the majority, and
    /// take the mean of the rest.
    #[arg(long, value_name = "TYPE", help_heading = "Inputs")]
    pub(crate) combine: Option<String>,

    /// Keep this share of each delta with `--combine ties`, e.g. 0.5
    #[arg(long, value_name = "SHARE", help_heading = "Inputs")]
    pub(crate) density: Option<String>,

    /// Choose another draw of what `--combine dare_…` keeps [default: 0]
    #[arg(long, value_name = "NUMBER", help_heading = "Inputs")]
    pub(crate) combine_seed: Option<String>,

    /// Keep this rank with `--combine svd`
    #[arg(long, value_name = "RANK", help_heading = "Inputs")]
    pub(crate) rank: Option<String>,
}

/// Where the result goes, and how it is written.
#[derive(Args)]
pub(crate) struct OutputFlags {
    /// Write the result to this directory
    ///
    /// It must not exist, or be empty, or hold the result of this very merge already. `plan` does not need it.
    #[arg(short, long, value_name = "DIR", help_heading = "Output")]
    pub(crate) output: Option<PathBuf>,

    /// Write SHA256SUMS beside the other files
    ///
    /// `sha256` is the one kind there is. The file has the SHA-256 of every other file of the result, for `sha256sum -c`.
    #[arg(
        long,
        value_name = "sha256",
        value_parser = ["sha256"],
        hide_possible_values = true,
        help_heading = "Output"
    )]
    pub(crate) checksums: Option<String>,

    /// Write what undoes the merge beside the result
    ///
    /// `shardfold.undo`, by which `unmerge` gives back the base's bytes: about 1 % of those of changed tensors. For that the result is
    /// read once more before it is shown. Only what is added can be undone (LoRA, LoHa, LoKr): what depends on the weight (DoRA, OFT,
    /// IA3), what is replaced and what changes its type is refused.
    #[arg(long, conflicts_with = "part", help_heading = "Output")]
    pub(crate) keep_undo: bool,

    /// Refuse a result with another digest
    ///
    /// The digest that the summary and `shardfold.json` have as `result`: BLAKE3 over the hashes and names of all files but
    /// `shardfold.json` and `SHA256SUMS`. Where the result has another, OUTPUT is not created. `plan` ignores it.
    #[arg(long, value_name = "DIGEST", help_heading = "Output")]
    pub(crate) expect: Option<String>,

    /// Write one part of the result, e.g. 0/4, for `finish` to join
    ///
    /// Several processes, on as many hosts as there are, make one result: each is given the same inputs, the same flags and the same
    /// OUTPUT, which all of them must see, and another I of I/N, counted from 0. When all N are made, `shardfold finish OUTPUT` joins
    /// them. `auto/N` takes I from the array of tasks that this process is one of: SLURM_ARRAY_TASK_ID, else JOB_COMPLETION_INDEX;
    /// `auto` takes N from Slurm, too. A part that was interrupted is run again, and may run twice at once. `plan` ignores it.
    #[arg(long, value_name = "I/N", help_heading = "Output")]
    pub(crate) part: Option<String>,

    /// Skip hashing what an interrupted run of the same merge left
    ///
    /// A merge that was interrupted goes on where it stopped. By default what is there is hashed first; with this flag its
    /// length is enough, which saves reading it.
    #[arg(long, help_heading = "Output")]
    pub(crate) trust_journal: bool,

    /// Choose what becomes of parts that no adapter changes
    ///
    /// `auto` shares them with the base where the file system can (XFS, Btrfs): they are not written and take no space until one
    /// of the two files is changed there, and a base that shardfold made is not even read there, since its `shardfold.json` has
    /// their hashes. `copy` writes them always, so that nothing is shared. `hardlink` makes a file that no adapter changes a
    /// second name of the base's: whoever changes one in place changes both.
    #[arg(
        long,
        value_name = "auto|copy|hardlink",
        value_parser = PossibleValuesParser::new(["auto", "copy", "hardlink"]).map(|name| unchanged(&name)),
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Output"
    )]
    pub(crate) unchanged: Unchanged,

    /// Print the plan and write nothing, as `plan` does
    #[arg(long, help_heading = "Output")]
    pub(crate) dry_run: bool,
}

/// What the result is, where there is a choice.
#[derive(Args)]
pub(crate) struct ResultFlags {
    /// Choose how to merge into tied embeddings trained on one side only
    ///
    /// The input embedding and the LM head of many models share one tensor. `untie` gives the head a tensor of its own, so
    /// that each is what was trained; `fold` changes the one tensor, and with it both, as PEFT's merge does.
    #[arg(
        long,
        value_name = "untie|fold",
        value_parser = ["untie", "fold"],
        default_value = "untie",
        hide_possible_values = true,
        help_heading = "Output"
    )]
    pub(crate) tied: String,

    /// Choose whose tokenizer and chat template go into the result
    ///
    /// `auto` takes an adapter's where it has one and its vocabulary or its chat template is not the base's; of several
    /// adapters, the last such. Which was taken is reported.
    #[arg(
        long,
        value_name = "auto|base|adapter",
        value_parser = ["auto", "base", "adapter"],
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Output"
    )]
    pub(crate) tokenizer: String,

    /// Write only the tensors that change, to be laid over the base
    ///
    /// The result is a checkpoint of these tensors and their index, with `config.json` if that changes, and without the base's other
    /// files. Its shards have at most `--max-shard-size` bytes of tensors [default: 5G]. Whoever loads the base and then these tensors has
    /// the merged model.
    #[arg(long, conflicts_with_all = ["dtype", "to"], help_heading = "Output")]
    pub(crate) changed_only: bool,

    #[command(flatten)]
    pub(crate) form: FormFlags,
}

/// The types and the shards of the result, where they are not the base's.
#[derive(Args)]
pub(crate) struct FormFlags {
    /// Set the type that all floats of the result are written in
    ///
    /// Every tensor of BF16, F16 or F32 is written in this type: a merged one from the exact sum, rounded once, any other from the
    /// value that it has. A quantized base is decoded to it. Tensors of F64, of whole numbers and of 8 bits stay as they are. A
    /// value that is too large for the type is an error. `torch_dtype` or `dtype` in config.json says the type then.
    /// [default: each tensor keeps its own]
    #[arg(
        long,
        value_name = "bf16|f16|f32",
        value_parser = ["bf16", "f16", "f32"],
        hide_possible_values = true,
        help_heading = "Output"
    )]
    pub(crate) dtype: Option<String>,

    /// Set the most bytes of tensors in a shard, e.g. 5G
    ///
    /// All tensors of the result, in the order in which the base has them, are laid into shards as `save_pretrained(max_shard_size=)`
    /// of transformers lays them: a tensor that is larger has a shard alone, and where one shard is enough there is no index. Sizes are
    /// read as those of `--max-ram`. [default: the base's shards]
    #[arg(long, value_name = "SIZE", help_heading = "Output")]
    pub(crate) max_shard_size: Option<String>,
}

/// How much memory and how many threads it takes.
#[derive(Args)]
pub(crate) struct MemoryFlags {
    /// Limit peak memory (RSS), e.g. 16G or 16GiB [default: automatic]
    ///
    /// Bounds the peak resident set of the process. `16G` is 16·10⁹ bytes, `16GiB` and `16Gi` are 16·2³⁰. By default the
    /// merge takes what full speed needs and no more, at most 80 % of what the cgroup, the batch system and the machine
    /// leave free.
    #[arg(long, value_name = "SIZE", help_heading = "Memory")]
    pub(crate) max_ram: Option<String>,

    /// Set the number of worker threads [default: one per CPU]
    ///
    /// From 1 to 64; a reader and a writer run beside them. The result does not depend on it.
    #[arg(long, value_name = "N", help_heading = "Memory")]
    pub(crate) threads: Option<String>,

    /// Choose how files are read and written [default: auto]
    ///
    /// `buffered` goes through the page cache, `direct` past it, `dontcache` through a cache that keeps nothing (Linux 6.14),
    /// `parallel` through the page cache with several reads at once. `auto` is direct where a cgroup limit leaves little room for
    /// page cache beside the run or where the base is not in the page cache, parallel where the base is on a network file
    /// system (NFS, SMB, Lustre, FUSE, …), else buffered; which, and why, is shown with the budget by `-v`. Where a file system
    /// refuses a way, files go through the page cache. The result does not depend on it.
    #[arg(
        long,
        value_name = "auto|buffered|direct|dontcache|parallel",
        value_parser = io_modes(),
        default_value = "auto",
        hide_possible_values = true,
        hide_default_value = true,
        help_heading = "Memory"
    )]
    pub(crate) io: String,
}

/// Where a log goes.
#[derive(Args)]
pub(crate) struct LogFlags {
    /// Write everything that is reported to this file too
    ///
    /// As JSON lines with the time, whatever the terminal shows: flags, notes, the budget, progress every ten seconds, errors
    /// and the end. A file that is there is appended to. Where it cannot be written, the command goes on without it.
    #[arg(long, value_name = "FILE", help_heading = "Reporting")]
    pub(crate) log_file: Option<PathBuf>,
}

/// What is seen of a command that has a document.
#[derive(Args)]
pub(crate) struct ShowFlags {
    /// Print one JSON document on stdout, and JSON lines on stderr
    #[arg(long, help_heading = "Reporting")]
    pub(crate) json: bool,

    /// Print errors only
    #[arg(short, long, conflicts_with = "json", help_heading = "Reporting")]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) log: LogFlags,
}

impl ShowFlags {
    /// What the user wants to see; the flags exclude each other.
    pub(crate) fn style(&self) -> Style {
        let asked = [(self.json, Style::Json), (self.quiet, Style::Quiet)];
        asked.into_iter().find(|(is_asked, _)| *is_asked).map_or(Style::Human, |(_, style)| style)
    }
}

/// What `--unchanged` says.
fn unchanged(name: &str) -> Unchanged {
    match name {
        "copy" => Unchanged::Copy,
        "hardlink" => Unchanged::Link,
        _ => Unchanged::Share,
    }
}

/// `auto` and the ways that there are.
fn io_modes() -> PossibleValuesParser {
    std::iter::once("auto").chain(IoMode::names()).collect::<Vec<_>>().into()
}
