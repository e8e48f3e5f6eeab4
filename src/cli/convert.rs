//! `shardfold convert`: of a checkpoint a merge of no adapters, which leaves types and shards to change; of an adapter a plain LoRA.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::error::request::RequestError;
use crate::extract::conversion::AdapterConversion;
use crate::extract::extraction::MOST_RANK;
use crate::inspect::open::is_adapter;
use crate::merge::request::Request;
use crate::storage::location::Location;

use crate::cli::config::{MergeConfig, form_of, memory_of, read_count, read_patterns, source_of};
use crate::cli::console::Console;
use crate::cli::convert_args::ConvertArgs;
use crate::cli::extract::show;
use crate::cli::values::usage;
use crate::cli::{merge, signals};

/// What is converted, by what is at the path.
pub(crate) enum Converted {
    /// A checkpoint: a merge of no adapters.
    Checkpoint(Box<MergeConfig>),
    /// An adapter, and how it is read.
    Adapter(AdapterConversion, Box<Request>),
}

/// Converts a checkpoint or an adapter.
pub(crate) fn run(args: &ConvertArgs, console: &Console) -> Result<()> {
    let cancel = signals::listen();
    match converted(args, &cancel)? {
        Converted::Checkpoint(mut config) => {
            config.request.cancel = cancel;
            merge::execute(*config, console)
        }
        Converted::Adapter(conversion, request) => {
            let (values, skipped) = conversion.open(&request)?;
            let mut reporter = console.reporter(&cancel, &values.notes);
            show(args.show.style(), &conversion.run((&values, skipped), reporter.as_mut())?)
        }
    }
}

/// Tells what is to be converted, and what the flags ask for.
///
/// # Errors
/// That it is neither; misuse of flags that are for the other; as [`MergeConfig::new`].
pub(crate) fn converted(args: &ConvertArgs, cancel: &Cancel) -> Result<Converted> {
    let request = source_of(&args.source, Request { cancel: cancel.clone(), ..Request::default() })?;
    let place = request.hub.clone().stopped_by(cancel).find(&args.path)?;
    if !is_adapter(&place)? {
        return Ok(Converted::Checkpoint(Box::new(config_of(args)?)));
    }
    refuse_of_checkpoint(args)?;
    let output = args.out.output.as_ref().ok_or(RequestError::Required { flag: "--output <DIR>" })?;
    let conversion = AdapterConversion {
        rank: args.rank.as_deref().map(|text| read_count("--rank", text, MOST_RANK)).transpose()?,
        skip: read_patterns("--skip", &args.skip)?,
        output: Location::of_typed(output, cancel)?,
    };
    let request = Request {
        base: args.base.clone().map(Into::into),
        adapters: vec![(args.path.clone().into(), 1.0.into())],
        ..memory_of(&args.memory, request)?
    };
    Ok(Converted::Adapter(conversion, Box::new(request)))
}

/// Refuses flags that change nothing of an adapter.
fn refuse_of_checkpoint(args: &ConvertArgs) -> Result<()> {
    refuse(
        &[
            ("--dtype", args.form.dtype.is_some()),
            ("--max-shard-size", args.form.max_shard_size.is_some()),
            ("--part", args.out.part.is_some()),
            ("--checksums", args.out.checksums.is_some()),
            ("--expect", args.out.expect.is_some()),
            ("--dry-run", args.out.dry_run),
        ],
        "it is for checkpoints, and this is an adapter",
    )
}

/// Refuses the first flag that is set.
fn refuse(flags: &[(&'static str, bool)], why: &'static str) -> Result<()> {
    let set = flags.iter().find(|(_, is_set)| *is_set);
    set.map_or(Ok(()), |(flag, _)| Err(usage(flag, "", why)))
}

/// A merge of no adapters. A quantized base stays as it is unless a type is asked for.
///
/// # Errors
/// As [`MergeConfig::new`].
pub(crate) fn config_of(args: &ConvertArgs) -> Result<MergeConfig> {
    let flags =
        [("--rank", args.rank.is_some()), ("--base", args.base.is_some()), ("--skip", !args.skip.is_empty())];
    refuse(&flags, "it is for adapters, and this is a checkpoint")?;
    let request = Request {
        base: Some(args.path.clone().into()),
        keep_quantized: args.form.dtype.is_none(),
        follow_links: args.follow_links,
        ..Request::default()
    };
    let request = form_of(&args.form, &args.memory, source_of(&args.source, request)?)?;
    MergeConfig::written(&args.out, request, args.show.style())
}
