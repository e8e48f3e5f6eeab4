//! What was typed.

use std::ffi::OsString;
use std::path::PathBuf;

#[cfg(feature = "testing")]
use crate::cli::test_flags::TestFlags;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::exit::TABLE;

/// Merge fine-tuning adapters into checkpoints larger than memory
#[derive(Parser)]
#[command(name = "shardfold", version, after_help = TABLE, arg_required_else_help = true)]
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
    /// Example: shardfold merge --base llama-8b --adapter style-lora --output merged --max-ram 16G
    #[command(after_help = TABLE)]
    Merge(MergeArgs),
    /// Say what `merge` would do, and write nothing
    ///
    /// Takes the same flags, reads headers and adapters only, and prints the tensors that would change, how the budget would
    /// be split, and the smallest budget that would do.
    ///
    /// Example: shardfold plan --base llama-8b --adapter style-lora --json
    #[command(after_help = TABLE)]
    Plan(MergeArgs),
    /// Say what a checkpoint or an adapter holds
    ///
    /// Of a checkpoint, from its headers and its config: sizes, dtypes, shards, how it is quantised, and its tensors. Of an
    /// adapter: the fields that change the merge, and for each module its kind, rank, scale and the norm of what it adds.
    /// Tensors that differ only in the number of a layer or an expert stand in one line; `--json` lists every one.
    ///
    /// Example: shardfold inspect style-lora
    #[command(after_help = TABLE)]
    Inspect(InspectArgs),
}

/// The arguments of `inspect`.
#[derive(Args)]
pub(crate) struct InspectArgs {
    /// Checkpoint or adapter: a folder or a name in the Hugging Face cache
    ///
    /// Which it is shows from its files: an adapter has `adapter_config.json` with a `peft_type`. Names are those that
    /// `merge --base` takes.
    pub(crate) path: PathBuf,

    /// Variant of a checkpoint's weights, as fp16
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,

    /// Print one JSON document, which lists every tensor and module
    #[arg(long)]
    pub(crate) json: bool,
}

/// The flags of `merge` and `plan`.
#[derive(Args)]
pub(crate) struct MergeArgs {
    /// Checkpoint to merge into: a folder or a name in the Hugging Face cache
    ///
    /// A folder holds one `model.safetensors`, or shards with `model.safetensors.index.json`; of diffusers' models these are
    /// called `diffusion_pytorch_model`, and of a pipeline the component is named (`DIR/unet`). Where there is no such folder,
    /// `NAME` and `ORG/NAME` mean the snapshot that `hf download` put into the local cache (`HF_HUB_CACHE`, else `HF_HOME`/hub,
    /// else ~/.cache/huggingface/hub), and `ORG/NAME/FOLDER` a folder in it; nothing is downloaded. `ORG/NAME@REVISION` takes a
    /// branch, a tag, or a commit or its first digits. By default the base that the first adapter's config names, if it is found.
    #[arg(long, value_name = "DIR|NAME")]
    pub(crate) base: Option<PathBuf>,

    /// Variant of the base's weights, as fp16
    ///
    /// Takes `model.fp16.safetensors`, or its shards, where there are weights of several names. By default those without a
    /// variant, else the only ones there are. The result's files are called as the base's.
    #[arg(long, value_name = "NAME")]
    pub(crate) variant: Option<String>,

    /// Adapter to add with weight 1, a folder or a name; may be repeated
    ///
    /// The folder that PEFT's `save_pretrained` or a trainer wrote, or the one above it, or a name as for `--base`. Adapters
    /// are added in the order in which they stand on the command line.
    #[arg(long, value_name = "DIR|NAME")]
    adapter: Vec<PathBuf>,

    /// Adapter, a folder or a name, and the weight to add it with
    ///
    /// The weight multiplies the adapter's own scale and may be negative. May be repeated and mixed with `--adapter`.
    #[arg(long, num_args = 2, value_names = ["DIR|NAME", "WEIGHT"], action = ArgAction::Append, allow_hyphen_values = true)]
    scaled_adapter: Vec<OsString>,

    /// Folder to make for the result
    ///
    /// It must not exist, or be empty, or hold the result of this very merge already. `plan` does not need it.
    #[arg(long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,

    /// Memory the process may take, as 16G or 16GiB
    ///
    /// A bound on the peak resident set. `16G` is 16·10⁹ bytes, `16GiB` and `16Gi` are 16·2³⁰. By default as much as makes
    /// the merge fast and no more, below 80 % of what is free under the limits of the cgroup, the batch system and the
    /// machine.
    #[arg(long, value_name = "SIZE")]
    pub(crate) max_ram: Option<String>,

    /// Worker threads [default: one for each CPU]
    ///
    /// A reader and a writer run beside them. The result does not depend on it.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<String>,

    /// What to do when an adapter changes one of two tied ends
    ///
    /// The input embedding and the output head of many models share one tensor. `untie` gives the head a tensor of its own,
    /// so that each end is what was trained; `fold` changes the one tensor, and with it the other end, as PEFT's merge does.
    #[arg(long, value_name = "untie|fold", value_parser = ["untie", "fold"], default_value = "untie", hide_possible_values = true)]
    pub(crate) tied: String,

    /// Keep a quantised base quantised
    ///
    /// By default a base of block FP8 is written in 16 bit, with all of the delta. With this flag the weights that an adapter
    /// changes are encoded again with the scales they had, and all others are copied: most of a small delta may be rounded
    /// away, which is measured and told.
    #[arg(long)]
    pub(crate) keep_quantized: bool,

    /// Order of the experts in an adapter's fused `lora_B`
    ///
    /// `rank_major` is PEFT's, `grouped_by_expert` Unsloth's until September 2026. Needed only where an adapter does not tell.
    #[arg(long, value_name = "ORDER", value_parser = ["rank_major", "grouped_by_expert"], hide_possible_values = true)]
    pub(crate) expert_packing: Option<String>,

    /// Axis of an adapter's fused `lora_A`
    ///
    /// `straight` is PEFT's up to 0.18, `swapped` its later one. Needed only for square parameters of which nothing tells.
    #[arg(long, value_name = "AXIS", value_parser = ["straight", "swapped"], hide_possible_values = true)]
    pub(crate) expert_orientation: Option<String>,

    /// Pass over a field of an adapter's config; may be repeated
    ///
    /// For fields that shardfold does not know and that you know do not change the merge. Fields that it knows to change it
    /// cannot be passed over.
    #[arg(long, value_name = "NAME")]
    pub(crate) ignore_field: Vec<String>,

    /// Leave out adapter tensors that match no base tensor; may be repeated
    ///
    /// A regular expression that is looked for in their keys. Each key that is left out is told and recorded. Tensors that
    /// have a place are merged all the same, and an expression that matches every key is refused.
    ///
    /// Example: --allow-unmatched 'model\.mtp\.'
    #[arg(long, value_name = "REGEX")]
    pub(crate) allow_unmatched: Vec<String>,

    /// Take adapters along that change nothing
    ///
    /// By default an adapter whose deltas are all nothing (`lora_B` all zero, as before training) is an error, and so is one
    /// that leaves every weight as it was. With this flag it is told and recorded.
    #[arg(long)]
    pub(crate) allow_noop: bool,

    /// Print the plan and write nothing, as `plan` does
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Print one JSON document on stdout, and progress as JSON lines on stderr
    #[arg(long)]
    pub(crate) json: bool,

    /// Print notes and errors only
    #[arg(long, conflicts_with = "json")]
    pub(crate) quiet: bool,

    #[cfg(feature = "testing")]
    #[command(flatten)]
    pub(crate) testing: TestFlags,

    /// Adapters with the weights as typed (1 for `--adapter`), in the order of the command line.
    #[arg(skip)]
    pub(crate) adapters: Vec<(PathBuf, Option<String>)>,
}

/// Parses the process's arguments.
///
/// # Errors
/// Misuse, or a request for help or the version; clap knows how to print either.
pub(crate) fn parse() -> Result<Command, clap::Error> {
    let matches = Cli::command().try_get_matches()?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if let Command::Merge(args) | Command::Plan(args) = &mut cli.command
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

    #[test]
    fn flags_keep_the_rules() {
        let command = Cli::command();
        command.clone().debug_assert();
        for command in command.get_subcommands() {
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(!help.is_empty() && help.len() <= 75, "{}: `{help}`", arg.get_id());
                assert!(
                    help.starts_with(char::is_uppercase) && !help.ends_with('.'),
                    "{}: `{help}`",
                    arg.get_id()
                );
            }
        }
    }

    #[test]
    fn adapters_keep_their_order() {
        let line =
            "shardfold merge --base b --scaled-adapter x -0.5 --adapter y --scaled-adapter z 2 --output o";
        let matches = Cli::command().try_get_matches_from(line.split(' ')).expect("valid");
        let cli = Cli::from_arg_matches(&matches).expect("valid");
        let Command::Merge(args) = cli.command else { panic!("merge was typed") };
        let adapters = in_order(&args, matches.subcommand().expect("merge").1);
        let weight = |text: &str| Some(text.to_owned());
        assert_eq!(adapters, [("x".into(), weight("-0.5")), ("y".into(), None), ("z".into(), weight("2"))]);
    }
}
