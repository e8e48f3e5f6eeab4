//! The command line as it is typed: commands, flags and their help.
//!
//! The first line of each flag's help says in the imperative what the user does with it; the rest gives defaults, units and
//! an example. What the values mean is `config`'s to say.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[cfg(feature = "testing")]
use crate::cli::test_flags::TestFlags;
use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use crate::error::exit::TABLE;
use crate::report::style::Style;

use crate::cli::convert_args::ConvertArgs;
use crate::cli::diff_args::DiffArgs;
use crate::cli::extract_args::ExtractArgs;
use crate::cli::flags::{InputFlags, LogFlags, MemoryFlags, OutputFlags, ResultFlags, ShowFlags};
use crate::cli::rule_flags::RuleFlags;
use crate::cli::unmerge_args::UnmergeArgs;
use crate::cli::variables::Variables;
use crate::cli::version::version;

/// Merge fine-tuning adapters into checkpoints larger than memory
#[derive(Parser)]
#[command(name = "shardfold", version = version(), after_help = TABLE, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Merge adapters into a checkpoint and write the result
    ///
    /// Reads the base tensor by tensor, adds the deltas of all adapters, rounds each weight once, and writes a checkpoint that
    /// loads wherever the base loaded. OUTPUT appears only when it is whole.
    ///
    /// Example: shardfold merge --base llama-8b --adapter style-lora -o merged --max-ram 16G
    #[command(override_usage = "\
        shardfold merge [--base <DIR|NAME>] --adapter <DIR|NAME>... --output <DIR> [OPTIONS]\n       \
        shardfold merge [--base <DIR|NAME>] --scaled-adapter <DIR|NAME> <WEIGHT> --output <DIR> [OPTIONS]")]
    Merge(MergeArgs),
    /// Show what `merge` would do, without writing anything
    ///
    /// Takes the same flags, reads headers and adapters only, and prints the tensors that would change, the memory budget,
    /// and the least that would be enough.
    ///
    /// Example: shardfold plan --base llama-8b --adapter style-lora --json
    #[command(override_usage = "\
        shardfold plan [--base <DIR|NAME>] --adapter <DIR|NAME>... [OPTIONS]\n       \
        shardfold plan [--base <DIR|NAME>] --scaled-adapter <DIR|NAME> <WEIGHT> [OPTIONS]")]
    Plan(PlanArgs),
    /// Write a checkpoint in another form, or an adapter as plain LoRA
    ///
    /// Of a checkpoint, a merge of no adapters: what `--dtype` and `--max-shard-size` say of the result, and `pytorch_model.bin` as
    /// safetensors. A quantized checkpoint stays as it is, unless `--dtype` asks for a type: then it is decoded.
    ///
    /// Of an adapter whose deltas are added (LoRA of any trainer, rsLoRA, BdLoRA, LoHa, LoKr, …), the same as a plain LoRA of PEFT:
    /// exact where they are products already, else of the rank that `--rank` says. Its base tells names and shapes.
    ///
    /// Example: shardfold convert llama-8b --dtype f16 --max-shard-size 5G -o llama-8b-f16
    #[command(override_usage = "shardfold convert <DIR|NAME> --output <DIR> [OPTIONS]")]
    Convert(ConvertArgs),
    /// Take adapters out of a directory that they were merged into
    ///
    /// What `merge --keep-undo` wrote becomes the base's bytes again, checked by their hashes before OUTPUT is shown. The adapters are
    /// those of the merge, and its flags are repeated; files beside the weights stay as they are. Without `shardfold.undo` the result
    /// is the base but for rounding, and `--inexact` asks for that.
    ///
    /// Example: shardfold unmerge merged --adapter style-lora -o base-again
    #[command(override_usage = "shardfold unmerge <DIR> --adapter <DIR|NAME>... --output <DIR> [OPTIONS]")]
    Unmerge(UnmergeArgs),
    /// Show the contents of a checkpoint or adapter
    ///
    /// For a checkpoint, from its headers and its config: sizes, dtypes, shards, quantization, and tensors. For an adapter:
    /// the fields that change the merge, and for each module its kind, rank, scale and the norm of its delta. Names that
    /// differ only in the number of a layer or an expert are one row; `--json` lists every one.
    ///
    /// Example: shardfold inspect style-lora
    Inspect(InspectArgs),
    /// Check a merged directory against its hashes or its inputs
    ///
    /// With `--hashes-only` every file that `shardfold.json` in DIR lists is read and hashed. Without it the inputs, named as
    /// for `merge` and with the same flags, are merged again without being written, and compared: headers, index, config, side
    /// files and every tensor. A directory that another tool made is compared tensor by tensor, by name, and elements that
    /// differ by rounding are counted apart. Exit code 65 if anything is found.
    ///
    /// Example: shardfold verify merged --base llama-8b --adapter style-lora
    #[command(override_usage = "\
        shardfold verify <DIR> --hashes-only [OPTIONS]\n       \
        shardfold verify <DIR> [--base <DIR|NAME>] --adapter <DIR|NAME>... [OPTIONS]")]
    Verify(VerifyArgs),
    /// Join the parts that `merge --part` made into one result
    ///
    /// Takes the OUTPUT that the parts were given, and needs no other flag: what is needed lies with the parts. All of them must
    /// be there and whole. Whole shards are moved, others put together; then OUTPUT is shown, with the bytes that one merge without
    /// `--part` gives it. Run again, it goes on where it stopped, or finds that all is done.
    ///
    /// Example: shardfold finish merged
    Finish(FinishArgs),
    /// Write a page about a merged directory for a browser
    ///
    /// One HTML file that needs no other and no network: what was merged into what, what was decided, the files with their
    /// hashes; and where the inputs are named as for `merge` and with the same flags, what became of every module's delta:
    /// its size beside the weights and the share that rounding left, by layer. For that the merge is run again without being
    /// written. `merge --report` writes the same page without a second run.
    ///
    /// Example: shardfold report merged --base llama-8b --adapter style-lora -o report.html
    #[command(override_usage = "\
        shardfold report <DIR> [-o <FILE>]\n       \
        shardfold report <DIR> [--base <DIR|NAME>] --adapter <DIR|NAME>... [-o <FILE>] [OPTIONS]")]
    Report(ReportArgs),
    /// Compare two checkpoints tensor by tensor
    ///
    /// Tensors are brought together by name and compared as values: quantized weights as what they decode to, and files of llama.cpp
    /// by the model's names. Each is equal, moved by rounding (every element that differs is the next value of the coarser of both
    /// types), or moved; with the greatest difference, its norm beside that of A, and the share of elements that differ. `--json`
    /// lists every tensor. Exit code 0, whether or not they differ.
    ///
    /// Example: shardfold diff llama-8b merged
    Diff(DiffArgs),
    /// Write the difference of two checkpoints as a LoRA adapter
    ///
    /// Each weight of a linear layer that differs becomes the best product of two factors of that rank, by a randomized singular value
    /// decomposition that reads each tensor twice; the share of its squared norm that they keep is reported. The adapter is PEFT's:
    /// merged into BASE it gives TUNED, but for what the rank cannot hold. What differs and is no such weight is refused by name,
    /// unless `--save-others` or `--skip` says what becomes of it.
    ///
    /// Example: shardfold extract llama-8b tuned --rank 16 -o adapter
    #[command(override_usage = "shardfold extract <BASE> <TUNED> --rank <R> --output <DIR> [OPTIONS]")]
    Extract(ExtractArgs),
    /// Print a script that completes commands and flags in a shell
    ///
    /// Example: shardfold completions bash > ~/.local/share/bash-completion/completions/shardfold
    Completions(CompletionsArgs),
}

impl Command {
    /// What the user wants to see.
    pub(crate) fn style(&self) -> Style {
        match self {
            Command::Inspect(InspectArgs { json: true, .. }) => Style::Json,
            Command::Inspect(_) | Command::Completions(_) => Style::Human,
            Command::Verify(args) => args.show.style(),
            Command::Report(args) => args.style(),
            Command::Convert(args) => args.style(),
            Command::Unmerge(args) => args.style(),
            Command::Finish(args) => args.show.style(),
            Command::Diff(args) => args.show.style(),
            Command::Extract(args) => args.show.style(),
            Command::Merge(args) | Command::Plan(PlanArgs { merge: args, .. }) => args.style(),
        }
    }

    /// Where to write a log.
    pub(crate) fn log_file(&self) -> Option<&Path> {
        let flags = match self {
            Command::Merge(args) | Command::Plan(PlanArgs { merge: args, .. }) => &args.log,
            Command::Inspect(args) => &args.log,
            Command::Verify(args) => &args.show.log,
            Command::Finish(args) => &args.show.log,
            Command::Diff(args) => &args.show.log,
            Command::Extract(args) => &args.show.log,
            Command::Report(args) => &args.log,
            Command::Convert(args) => &args.show.log,
            Command::Unmerge(args) => &args.show.log,
            Command::Completions(_) => return None,
        };
        flags.log_file.as_deref()
    }
}

impl MergeArgs {
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

    #[command(flatten)]
    pub(crate) log: LogFlags,
}

/// The arguments of `completions`.
#[derive(Args)]
#[command(next_help_heading = "Inputs")]
pub(crate) struct CompletionsArgs {
    /// Name the shell
    pub(crate) shell: Shell,
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
    #[command(flatten)]
    pub(crate) inputs: InputFlags,

    #[command(flatten)]
    pub(crate) out: OutputFlags,

    #[command(flatten)]
    pub(crate) result: ResultFlags,

    #[command(flatten)]
    pub(crate) memory: MemoryFlags,

    #[command(flatten)]
    pub(crate) rules: RuleFlags,

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

    /// Write a page about the merge for a browser
    ///
    /// The page of the command `report`, with the timeline of `--profile`. `plan` ignores it.
    ///
    /// Example: --report merge.html
    #[arg(long, value_name = "FILE", conflicts_with = "part", help_heading = "Reporting")]
    pub(crate) report: Option<PathBuf>,

    /// Print errors only
    #[arg(short, long, conflicts_with_all = ["json", "verbose"], help_heading = "Reporting")]
    pub(crate) quiet: bool,

    /// Show how the memory budget is spent
    #[arg(short, long, conflicts_with = "json", help_heading = "Reporting")]
    pub(crate) verbose: bool,

    #[command(flatten)]
    pub(crate) log: LogFlags,

    #[cfg(feature = "testing")]
    #[command(flatten)]
    pub(crate) testing: TestFlags,
}

/// The flags of `verify`.
#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Name the directory to check
    #[arg(help_heading = "Inputs")]
    pub(crate) dir: PathBuf,

    #[command(flatten)]
    pub(crate) inputs: InputFlags,

    #[command(flatten)]
    pub(crate) result: ResultFlags,

    /// Check hashes only, and read no inputs
    #[arg(long, conflicts_with_all = ["base", "adapter", "scaled_adapter", "sample"], help_heading = "Checks")]
    pub(crate) hashes_only: bool,

    /// Check this many places of the tensors only, chosen by the seed
    ///
    /// A place is whole rows of a tensor, about 1 MiB. A seed chooses the same places whatever the budget and the threads.
    /// Everything beside the tensors is compared all the same.
    #[arg(long, value_name = "N", help_heading = "Checks")]
    pub(crate) sample: Option<String>,

    /// Choose another sample [default: 0]
    #[arg(long, value_name = "S", requires = "sample", help_heading = "Checks")]
    pub(crate) seed: Option<String>,

    #[command(flatten)]
    pub(crate) memory: MemoryFlags,

    #[command(flatten)]
    pub(crate) rules: RuleFlags,

    #[command(flatten)]
    pub(crate) show: ShowFlags,

    #[cfg(feature = "testing")]
    #[command(flatten)]
    pub(crate) testing: TestFlags,
}

/// The flags of `finish`.
#[derive(Args)]
pub(crate) struct FinishArgs {
    /// Name the output of the parts
    #[arg(help_heading = "Inputs")]
    pub(crate) dir: PathBuf,

    /// Name the directory of the base, if it was moved
    ///
    /// Side files are copied from it. By default it is where the parts had it.
    #[arg(long, value_name = "DIR", help_heading = "Inputs")]
    pub(crate) base: Option<PathBuf>,

    /// Name the directories of all adapters in order, if one was moved
    #[arg(long, value_name = "DIR", help_heading = "Inputs")]
    pub(crate) adapter: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) show: ShowFlags,

    #[cfg(feature = "testing")]
    #[command(flatten)]
    pub(crate) testing: TestFlags,
}

/// What stands above the table of exit codes.
const ENVIRONMENT: &str = "Each flag may come from the environment: SHARDFOLD_MAX_RAM is --max-ram.";

/// The flags of `report`.
#[derive(Args)]
pub(crate) struct ReportArgs {
    /// Name the merged directory
    #[arg(help_heading = "Inputs")]
    pub(crate) dir: PathBuf,

    #[command(flatten)]
    pub(crate) inputs: InputFlags,

    /// Write the page to this file [default: stdout]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub(crate) output: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) result: ResultFlags,

    #[command(flatten)]
    pub(crate) memory: MemoryFlags,

    #[command(flatten)]
    pub(crate) rules: RuleFlags,

    /// Print errors only
    #[arg(short, long, help_heading = "Reporting")]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) log: LogFlags,
}

impl ReportArgs {
    /// What the user wants to see.
    pub(crate) fn style(&self) -> Style {
        [Style::Human, Style::Quiet][usize::from(self.quiet)]
    }
}

/// All commands, each with `--help` under a heading like every other flag, and the same words below.
pub fn command() -> clap::Command {
    Cli::command().mut_subcommands(|command| {
        let help = Arg::new("help").short('h').long("help").action(ArgAction::Help);
        let help = help.help("Print help (`-h` prints a summary)").help_heading("Reporting");
        command.disable_help_flag(true).arg(help).after_help(format!("{ENVIRONMENT}\n\n{TABLE}"))
    })
}

/// A command line that was understood.
pub(crate) struct Typed {
    /// What to run.
    pub(crate) command: Command,
    /// The variables that set flags, as `NAME=VALUE`.
    pub(crate) variables: Vec<String>,
}

/// A command line that was not, or that asks for help or the version; clap knows how to print either.
pub(crate) struct Misuse {
    /// What clap says.
    pub(crate) error: clap::Error,
    /// The variables that set flags, as `NAME=VALUE`.
    pub(crate) variables: Vec<String>,
}

impl From<clap::Error> for Misuse {
    fn from(error: clap::Error) -> Misuse {
        Misuse { error, variables: Vec::new() }
    }
}

/// Parses a command line, the name of the program included, and what the environment adds.
///
/// # Errors
/// Misuse, or a request for help or the version.
pub(crate) fn parse(args: &[OsString], environment: &Variables) -> Result<Typed, Misuse> {
    let all = command();
    if environment.is_empty() {
        let (command, variables) = (parse_completed(all, args)?, Vec::new());
        return Ok(Typed { command, variables });
    }
    let typed = all.clone().try_get_matches_from(args)?;
    let completed = environment.complete(&all, &typed, args)?;
    let variables = completed.used;
    match parse_completed(all, &completed.args) {
        Ok(command) => Ok(Typed { command, variables }),
        Err(error) => Err(Misuse { error, variables }),
    }
}

fn parse_completed(all: clap::Command, args: &[OsString]) -> Result<Command, clap::Error> {
    let matches = all.try_get_matches_from(args)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    let inputs = match &mut cli.command {
        Command::Merge(args) | Command::Plan(PlanArgs { merge: args, .. }) => Some(&mut args.inputs),
        Command::Verify(args) => Some(&mut args.inputs),
        Command::Report(args) => Some(&mut args.inputs),
        Command::Convert(_)
        | Command::Unmerge(_)
        | Command::Inspect(_)
        | Command::Finish(_)
        | Command::Diff(_)
        | Command::Extract(_)
        | Command::Completions(_) => None,
    };
    if let Some((inputs, (_, matches))) = inputs.zip(matches.subcommand()) {
        inputs.set_order(matches);
    }
    Ok(cli.command)
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
    const VERBS: [&str; 17] = [
        "Add", "Allow", "Check", "Choose", "Estimate", "Ignore", "Keep", "Limit", "Name", "Print", "Refuse",
        "Select", "Set", "Show", "Skip", "Write", "Use",
    ];

    #[test]
    fn flags_stand_under_headings() {
        const HEADINGS: [&str; 9] = [
            "Inputs",
            "Output",
            "Checks",
            "Memory",
            "Quantization",
            "GGUF",
            "Experts",
            "Escape hatches",
            "Reporting",
        ];
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
        let mut inputs = args.inputs;
        inputs.set_order(matches.subcommand().expect("merge").1);
        let adapters = inputs.adapters;
        let weight = |text: &str| Some(text.to_owned());
        assert_eq!(adapters, [("x".into(), weight("-0.5")), ("y".into(), None), ("z".into(), weight("2"))]);
    }
}
