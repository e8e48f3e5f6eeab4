//! `shardfold unmerge`: takes adapters out of a directory that they were merged into.

use crate::error::Result;
use crate::merge::request::Request;
use crate::model::tied::Tied;

use crate::cli::config::{MergeConfig, hub_of_this_process, memory_of, reading_of};
use crate::cli::console::Console;
use crate::cli::unmerge_args::UnmergeArgs;
use crate::cli::values::usage;
use crate::cli::{merge, signals};

/// Takes a merge back.
pub(crate) fn run(args: &UnmergeArgs, console: &Console) -> Result<()> {
    let mut config = config_of(args)?;
    config.request.cancel = signals::listen();
    merge::execute(config, console)
}

/// A merge of the same adapters into the merged directory, that is taken back.
///
/// # Errors
/// As [`MergeConfig::new`].
pub(crate) fn config_of(args: &UnmergeArgs) -> Result<MergeConfig> {
    if args.out.keep_undo {
        return Err(usage("--keep-undo", "", "`merge` takes it; what `unmerge` writes is the base"));
    }
    let request = Request {
        base: Some(args.dir.clone().into()),
        adapters: args.adapter.iter().map(|adapter| (adapter.clone().into(), 1.0.into())).collect(),
        hub: hub_of_this_process(),
        tied: if args.tied == "fold" { Tied::Fold } else { Tied::Untie },
        unmerge: true,
        inexact: args.inexact,
        ..Request::default()
    };
    let request = memory_of(&args.memory, reading_of(&args.rules, request)?)?;
    #[cfg(feature = "testing")]
    let request = Request { hooks: args.testing.hooks()?, ..request };
    let written = MergeConfig::written(&args.out, request, args.style())?;
    #[cfg(feature = "testing")]
    let written = MergeConfig { testing: args.testing.clone(), ..written };
    Ok(written)
}
