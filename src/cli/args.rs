//! The command line as it is typed: commands, flags and their help.
//!
//! The first line of each flag's help says in the imperative what the user does with it; the rest gives defaults, units and
//! an example. What the values mean is `config`'s to say.

use std::ffi::OsString;
use std::path::PathBuf;

#[cfg(feature = "testing")]
use crate::cli::test_flags::TestFlags;
use clap::builder::{PossibleValue, PossibleValuesParser};
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::exit::TABLE;
use crate::report::style::Style;
use crate::storage::io::settings::IoMode;

use crate::cli::version::VERSION;

/// Merge fine-tuning adapters into checkpoints larger than memory
#[derive(Parser)]
#[command(name = "shardfold", version = VERSION, after_help = TABLE, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Merge adapters into a checkpoint and write the result
    ///
    /// Reads the base tensor by tensor, adds every adapter's delta in f32 in the order given, rounds once, and writes a
    /// checkpoint that loads wherever the base loaded. OUTPUT appears only when it is whole.
    ///
    /// Example: shardfold merge --base llama-8b --adapter style-lora -o merged --max-ram 16G
    #[command(after_help = TABLE, override_usage = "\
        shardfold merge [--base <DIR|NAME>] --adapter <DIR|NAME>... --output <DIR> [OPTIONS]\n       \
        shardfold merge [--base <DIR|NAME>] --scaled-adapter <DIR|NAME> <WEIGHT> --output <DIR> [OPTIONS]")]
    Merge(MergeArgs),
    /// Show what `merge` would do, without writing anything
    ///
    /// Takes the same flags, reads headers and adapters only, and prints the tensors that would change, the memory budget,
    /// and the least that would be enough.
    ///
    /// Example: shardfold plan --base llama-8b --adapter style-lora --json
    #[command(after_help = TABLE, override_usage = "\
        shardfold plan [--base <DIR|NAME>] --adapter <DIR|NAME>... [OPTIONS]\n       \
        shardfold plan [--base <DIR|NAME>] --scaled-adapter <DIR|NAME> <WEIGHT> [OPTIONS]")]
    Plan(PlanArgs),
    /// Show the contents of a checkpoint or adapter
    ///
    /// For a checkpoint, from its headers and its config: sizes, dtypes, shards, quantization, and tensors. For an adapter:
    /// the fields that change the merge, and for each module its kind, rank, scale and the norm of its delta. Names that
    /// differ only in the number of a layer or an expert are one row; `--json` lists every one.
    ///
    /// Example: shardfold inspect style-lora
    #[command(after_help = TABLE)]
    Inspect(InspectArgs),
}

impl Command {
    /// What the user wants to see.
    pub(crate) fn style(&self) -> Style {
        match self {
            Command::Inspect(InspectArgs { json: true, .. }) => Style::Json,
            Command::Inspect(_) => Style::Human,
            Command::Merge(args) | Command::Plan(PlanArgs { merge: args, .. }) => args.style(),
        }
    }
}

impl MergeArgs {
    /// Whether to throw the result away; without the feature `testing`, never.
    pub(crate) fn discards(&self) -> bool {
        #[cfg(feature = "testing")]
        return self.testing.discard;
        #[cfg(not(feature = "testing"))]
        false
    }

    /// What the user wants to see; the flags exclude each other.
    pub(crate) fn style(&self) -> Style {
        let asked = [(self.json, Style::Json), (self.quiet, Style::Quiet), (self.verbose, Style::Verbose)];
        asked.into_iter().find(|(is_asked, _)| *is_asked).map_or(Style::Human, |(_, style)| style)
    }
}

/// The arguments of `inspect`.
#[derive(Args)]
#[command(next_help_heading = "Inputs")]
pub(crate) struct InspectArgs {
    /// Name the checkpoint or adapter: a directory or a repo id
    ///
    /// A directory with `adapter_config.json` and a `peft_type` in it is an adapter. Repo ids are those that `merge --base`
    /// takes.
    pub(crate) path: PathBuf,

    /// Select a weight variant of a checkpoint, e.g. fp16
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,

    /// Print one JSON document, with every tensor and module
    ///
    /// Notes and errors become JSON lines on stderr.
    #[arg(long, help_heading = "Reporting")]
    pub(crate) json: bool,
}

/// The flags of `plan`: those of `merge`, and one more.
#[derive(Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) merge: MergeArgs,

    /// Estimate the time from a few seconds of the merge
    ///
    /// Merges for three seconds and throws the result away; with `--output` it also writes an unnamed file beside it for two.
    /// Files that are in the page cache are read faster than they will be.
    #[arg(long, help_heading = "Reporting")]
    pub(crate) probe: bool,
}

/// The flags of `merge` and `plan`.
#[derive(Args)]
pub(crate) struct MergeArgs {
    /// Name the base checkpoint: a directory or a Hugging Face repo id
    ///
    /// A directory holds one `model.safetensors`, or shards with `model.safetensors.index.json`; in diffusers models these
    /// are called `diffusion_pytorch_model`, and of a pipeline the component is named (`DIR/unet`). Where there is no such
    /// directory, `NAME` and `ORG/NAME` mean the snapshot that `hf download` put into the local cache (`HF_HUB_CACHE`, else
    /// `HF_HOME`/hub, else ~/.cache/huggingface/hub), and `ORG/NAME/DIR` a directory in it; nothing is downloaded.
    /// `ORG/NAME@REVISION` takes a branch, a tag, or a commit or its first digits. [default: the base that the first
    /// adapter's config names, if it is found]
    #[arg(long, value_name = "DIR|NAME", help_heading = "Inputs")]
    pub(crate) base: Option<PathBuf>,

    /// Select a weight variant of the base, e.g. fp16
    ///
    /// Takes `model.fp16.safetensors`, or its shards, where weights of several names lie side by side. The output files are
    /// named as the base's. [default: weights without a variant, else the only ones there are]
    #[arg(long, value_name = "NAME", help_heading = "Inputs")]
    pub(crate) variant: Option<String>,

    /// Add an adapter with weight 1: a directory or a repo id; repeatable
    ///
    /// The directory that PEFT's `save_pretrained` or a trainer wrote, or the one above it, or a repo id as for `--base`.
    /// Adapters are added in the order in which they stand on the command line.
    #[arg(long, value_name = "DIR|NAME", help_heading = "Inputs")]
    adapter: Vec<PathBuf>,

    /// Add an adapter with a weight, e.g. `style-lora 0.7`; repeatable
    ///
    /// The weight multiplies the adapter's own scale and may be negative. May be mixed with `--adapter`.
    #[arg(
        long,
        num_args = 2,
        value_names = ["DIR|NAME", "WEIGHT"],
        action = ArgAction::Append,
        allow_hyphen_values = true,
        help_heading = "Inputs"
    )]
    scaled_adapter: Vec<OsString>,

    /// Write the result to this directory
    ///
    /// It must not exist, or be empty, or hold the result of this very merge already. `plan` does not need it.
    #[arg(short, long, value_name = "DIR", help_heading = "Output")]
    pub(crate) output: Option<PathBuf>,

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

    /// Skip hashing what an interrupted run of the same merge left
    ///
    /// A merge that was interrupted goes on where it stopped. By default what is there is hashed first; with this flag its
    /// length is enough, which saves reading it.
    #[arg(long, help_heading = "Output")]
    pub(crate) trust_journal: bool,

    /// Choose what becomes of parts that no adapter changes
    ///
    /// `auto` shares them with the base where the file system can (XFS, Btrfs): they are not written and take no space until one
    /// of the two files is changed there. `copy` writes them always, so that nothing is shared.
    #[arg(
        long,
        value_name = "auto|copy",
        value_parser = ["auto", "copy"],
        default_value = "auto",
        hide_possible_values = true,
        help_heading = "Output"
    )]
    pub(crate) unchanged: String,

    /// Print the plan and write nothing, as `plan` does
    #[arg(long, help_heading = "Output")]
    pub(crate) dry_run: bool,

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
    /// `buffered` goes through the page cache, `direct` past it, `dontcache` through a cache that keeps nothing (Linux 6.14).
    /// `auto` is direct where a cgroup limit leaves little room for page cache beside the run, else buffered; which, and why,
    /// is shown with the budget. Where a file system refuses a way, files go through the page cache. The result does not
    /// depend on it.
    #[arg(
        long,
        value_name = "auto|buffered|direct|dontcache",
        value_parser = io_modes(),
        default_value = "auto",
        hide_possible_values = true,
        hide_default_value = true,
        help_heading = "Memory"
    )]
    pub(crate) io: String,

    /// Keep a quantized base quantized (block FP8 only)
    ///
    /// By default every quantized weight that an adapter changes (block FP8, packed integers, MXFP4) is decoded and written
    /// in 16 bit, with all of the delta. With this flag block FP8 weights are encoded again with the scales they had, and
    /// all others are copied: most of a small delta may be rounded away, which is measured and reported. Packed integers
    /// and MXFP4 cannot be encoded again, so that an adapter on them is refused.
    #[arg(long, help_heading = "Quantization")]
    pub(crate) keep_quantized: bool,

    /// Set the order of experts in an adapter's fused `lora_B`
    ///
    /// `rank-major` is PEFT's, `expert-major` (`grouped_by_expert`) Megatron-Bridge's, and Unsloth's until September 2026.
    /// Needed only where an adapter does not say.
    #[arg(
        long,
        value_name = "ORDER",
        value_parser = packings(),
        hide_possible_values = true,
        help_heading = "Experts"
    )]
    pub(crate) expert_packing: Option<String>,

    /// Set which axis of the experts an adapter's fused `lora_A` is on
    ///
    /// For a fused parameter of shape [experts, d1, d2]: `d1` is what PEFT up to 0.18 wrote, `d2` what later versions write.
    /// Needed only for square parameters where the adapter does not say.
    #[arg(
        long,
        value_name = "AXIS",
        value_parser = ["d1", "d2"],
        hide_possible_values = true,
        help_heading = "Experts"
    )]
    pub(crate) expert_lora_a_axis: Option<String>,

    /// Ignore a field of adapter_config.json; repeatable
    ///
    /// For fields that shardfold does not know and that you know do not change the merge. Fields that it knows to change it
    /// cannot be ignored.
    #[arg(long, value_name = "NAME", help_heading = "Escape hatches")]
    pub(crate) ignore_field: Vec<String>,

    /// Skip adapter tensors that match no base tensor; repeatable
    ///
    /// A regular expression that is searched for in their keys. Every skipped key is reported and recorded. Tensors that
    /// match a base tensor are merged all the same, and an expression that matches every key is refused.
    ///
    /// Example: --allow-unmatched 'model\.mtp\.'
    #[arg(long, value_name = "REGEX", help_heading = "Escape hatches")]
    pub(crate) allow_unmatched: Vec<String>,

    /// Allow what an adapter promises to be missing; repeatable
    ///
    /// By default a module that `target_modules`, `target_parameters`, `modules_to_save`, token indices, `bias` or the task of an
    /// adapter's config promise must have its tensors. A regular expression that is searched for in the names of what is
    /// missing. Everything that is allowed is reported and recorded, and an expression that matches everything is refused.
    ///
    /// Example: --allow-missing 'layers\.3\.mlp\.'
    #[arg(long, value_name = "REGEX", help_heading = "Escape hatches")]
    pub(crate) allow_missing: Vec<String>,

    /// Allow a file with weights beside an adapter to be left out; repeatable
    ///
    /// Trainers save modules that they train whole in files of their own (`non_lora_trainables.bin`), which are not merged.
    /// By default such a file is an error. With its name here the result is made without it, which is reported and recorded.
    ///
    /// Example: --allow-unmerged-file non_lora_trainables.bin
    #[arg(long, value_name = "NAME", help_heading = "Escape hatches")]
    pub(crate) allow_unmerged_file: Vec<String>,

    /// Allow a base of another class than the adapter was trained on
    ///
    /// By default an adapter whose config names a class of another family than the base's is an error, even if all shapes
    /// fit. With this flag it is reported and recorded.
    #[arg(long, help_heading = "Escape hatches")]
    pub(crate) allow_other_base: bool,

    /// Allow side files to be copied that are links to elsewhere
    ///
    /// By default a link is followed inside the directory of the base or the adapter, and from a snapshot of the Hugging Face
    /// cache to its `blobs`. Side files that are links to anything else are reported and not copied, and a config.json that is
    /// one is an error: the result may be uploaded. Shards are read wherever they lie.
    #[arg(long, help_heading = "Escape hatches")]
    pub(crate) follow_links: bool,

    /// Allow adapters that have no effect
    ///
    /// By default an adapter whose deltas are all zero (`lora_B` as before training) is an error, and so is one that leaves
    /// every weight as it was. With this flag it is reported and recorded.
    #[arg(long, help_heading = "Escape hatches")]
    pub(crate) allow_noop: bool,

    /// Print one JSON document on stdout, and JSON lines on stderr
    ///
    /// Progress, notes and errors are objects with an `event`, one a line.
    #[arg(long, help_heading = "Reporting")]
    pub(crate) json: bool,

    /// Write a page that shows what the time went to
    ///
    /// A timeline of every thread by what it was at, which shows whether the disk or the CPU is the limit. The page needs no
    /// other file; its data lie beside it under the same name with `.json`. `plan` ignores it.
    ///
    /// Example: --profile merge.html
    #[arg(long, value_name = "FILE", help_heading = "Reporting")]
    pub(crate) profile: Option<PathBuf>,

    /// Print errors only
    #[arg(short, long, conflicts_with_all = ["json", "verbose"], help_heading = "Reporting")]
    pub(crate) quiet: bool,

    /// Show how the memory budget is spent
    #[arg(short, long, conflicts_with = "json", help_heading = "Reporting")]
    pub(crate) verbose: bool,

    #[cfg(feature = "testing")]
    #[command(flatten)]
    pub(crate) testing: TestFlags,

    /// Adapters with the weights as typed (1 for `--adapter`), in the order of the command line.
    #[arg(skip)]
    pub(crate) adapters: Vec<(PathBuf, Option<String>)>,
}

/// The orders of experts, also as `lora_B_layout` has them.
fn packings() -> PossibleValuesParser {
    let expert_major = PossibleValue::new("expert-major").aliases(["grouped_by_expert", "grouped-by-expert"]);
    PossibleValuesParser::new([PossibleValue::new("rank-major").alias("rank_major"), expert_major])
}

/// `auto` and the ways that there are.
fn io_modes() -> PossibleValuesParser {
    std::iter::once("auto").chain(IoMode::names()).collect::<Vec<_>>().into()
}

/// All commands, each with `--help` under a heading like every other flag.
fn command() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        let help = Arg::new("help").short('h').long("help").action(ArgAction::Help);
        let help = help.help("Print help (`-h` prints a summary)").help_heading("Reporting");
        command.disable_help_flag(true).arg(help)
    })
}

/// Parses a command line, the name of the program included.
///
/// # Errors
/// Misuse, or a request for help or the version; clap knows how to print either.
pub(crate) fn parse(args: &[OsString]) -> Result<Command, clap::Error> {
    let matches = command().try_get_matches_from(args)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let Command::Merge(args) | Command::Plan(PlanArgs { merge: args, .. }) = &mut cli.command
        && let Some((_, matches)) = matches.subcommand()
    {
        args.adapters = in_order(args, matches);
    }
    Ok(cli.command)
}

/// Both kinds of adapter flags in the order in which they were typed.
fn in_order(args: &MergeArgs, matches: &clap::ArgMatches) -> Vec<(PathBuf, Option<String>)> {
    let places = |id| matches.indices_of(id).into_iter().flatten();
    let plain = places("adapter").zip(args.adapter.iter().map(|path| (path.clone(), None)));
    let pairs = args.scaled_adapter.chunks_exact(2);
    let pairs = pairs.map(|pair| (PathBuf::from(&pair[0]), Some(pair[1].to_string_lossy().into_owned())));
    let scaled = places("scaled_adapter").step_by(2).zip(pairs);
    let mut all: Vec<_> = plain.chain(scaled).collect();
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, adapter)| adapter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flags of a command that help shows, without those that clap adds.
    fn shown(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
        command.get_arguments().filter(|arg| !arg.is_hide_set())
    }

    #[test]
    fn flags_keep_the_rules() {
        let command = crate::cli::args::command();
        command.clone().debug_assert();
        for arg in command.get_subcommands().flat_map(shown) {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let id = arg.get_id();
            assert!(!help.is_empty() && help.chars().count() <= 70, "{id}: `{help}`");
            assert!(help.starts_with(char::is_uppercase) && !help.ends_with('.'), "{id}: `{help}`");
            let verb = help.split(' ').next().unwrap_or_default();
            assert!(VERBS.contains(&verb), "{id} begins with what the user does: `{help}`");
        }
    }

    /// What a user does with a flag.
    const VERBS: [&str; 15] = [
        "Add", "Allow", "Choose", "Estimate", "Ignore", "Keep", "Limit", "Name", "Print", "Select", "Set",
        "Show", "Skip", "Write", "Use",
    ];

    #[test]
    fn flags_stand_under_headings() {
        const HEADINGS: [&str; 7] =
            ["Inputs", "Output", "Memory", "Quantization", "Experts", "Escape hatches", "Reporting"];
        let command = crate::cli::args::command();
        for command in command.get_subcommands() {
            let mut seen: Vec<&str> = Vec::new();
            for arg in shown(command) {
                let heading = arg.get_help_heading().unwrap_or_default();
                assert!(HEADINGS.contains(&heading), "{}: `{heading}`", arg.get_id());
                if seen.last() != Some(&heading) {
                    assert!(!seen.contains(&heading), "`{heading}` is in one place");
                    seen.push(heading);
                }
            }
            assert!(seen.is_sorted_by_key(|heading| HEADINGS.iter().position(|known| known == heading)));
        }
    }

    #[test]
    fn the_bound_of_threads_is_the_schedules() {
        let command = crate::cli::args::command();
        let merge = command.find_subcommand("merge").expect("a command");
        let threads = merge.get_arguments().find(|arg| arg.get_id() == "threads").expect("a flag");
        let help = threads.get_long_help().expect("long help").to_string();
        assert!(help.contains(&format!("From 1 to {};", crate::schedule::budget::WORKERS_MOST)), "{help}");
    }

    #[test]
    fn adapters_keep_their_order() {
        let line =
            "shardfold merge --base b --scaled-adapter x -0.5 --adapter y --scaled-adapter z 2 --output o";
        let matches = crate::cli::args::command().try_get_matches_from(line.split(' ')).expect("valid");
        let cli = Cli::from_arg_matches(&matches).expect("valid");
        let Command::Merge(args) = cli.command else { panic!("merge was typed") };
        let adapters = in_order(&args, matches.subcommand().expect("merge").1);
        let weight = |text: &str| Some(text.to_owned());
        assert_eq!(adapters, [("x".into(), weight("-0.5")), ("y".into(), None), ("z".into(), weight("2"))]);
    }
}
