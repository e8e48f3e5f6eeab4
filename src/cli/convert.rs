//! `shardfold convert`: a merge of no adapters, which leaves types and shards to change.

use crate::error::Result;
use crate::merge::request::Request;

use crate::cli::config::{MergeConfig, form_of, source_of};
use crate::cli::console::Console;
use crate::cli::convert_args::ConvertArgs;
use crate::cli::{merge, signals};

/// Converts a checkpoint.
pub(crate) fn run(args: &ConvertArgs, console: &Console) -> Result<()> {
    let mut config = config_of(args)?;
    config.request.cancel = signals::listen();
    merge::execute(config, console)
}

/// A merge of no adapters. A quantized base stays as it is unless a type is asked for.
///
/// # Errors
/// As [`MergeConfig::new`].
pub(crate) fn config_of(args: &ConvertArgs) -> Result<MergeConfig> {
    let request = Request {
        base: Some(args.base.clone().into()),
        keep_quantized: args.form.dtype.is_none(),
        follow_links: args.follow_links,
        ..Request::default()
    };
    let request = form_of(&args.form, &args.memory, source_of(&args.source, request)?)?;
    MergeConfig::written(&args.out, request, args.show.style())
}
