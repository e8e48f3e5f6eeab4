//! The flags of `unmerge`.

use std::path::PathBuf;

use clap::Args;

use crate::report::style::Style;

use crate::cli::flags::{MemoryFlags, OutputFlags, ShowFlags};
use crate::cli::rule_flags::AdapterFlags;
#[cfg(feature = "testing")]
use crate::cli::test_flags::TestFlags;

/// The flags of `unmerge`.
#[derive(Args)]
pub(crate) struct UnmergeArgs {
    /// Name the merged directory, with its `shardfold.json`
    #[arg(value_name = "DIR", help_heading = "Inputs")]
    pub(crate) dir: PathBuf,

    /// Name an adapter that was merged; repeatable
    ///
    /// All that were merged, in the same order. Their weights are those that `shardfold.json` has.
    #[arg(long, value_name = "DIR|NAME", help_heading = "Inputs")]
    pub(crate) adapter: Vec<PathBuf>,

    /// Allow a result that is the base but for rounding
    ///
    /// Where DIR has no `shardfold.undo` the merge is taken back by arithmetic alone: about one weight in a hundred is then off by a
    /// rounding of the merged one.
    #[arg(long, help_heading = "Inputs")]
    pub(crate) inexact: bool,

    #[command(flatten)]
    pub(crate) out: OutputFlags,

    /// Choose how tied embeddings were merged
    ///
    /// What `merge --tied` was.
    #[arg(
        long,
        value_name = "untie|fold",
        value_parser = ["untie", "fold"],
        default_value = "untie",
        hide_possible_values = true,
        help_heading = "Output"
    )]
    pub(crate) tied: String,

    #[command(flatten)]
    pub(crate) memory: MemoryFlags,

    #[command(flatten)]
    pub(crate) rules: AdapterFlags,

    #[command(flatten)]
    pub(crate) show: ShowFlags,

    #[cfg(feature = "testing")]
    #[command(flatten)]
    pub(crate) testing: TestFlags,
}

impl UnmergeArgs {
    /// What the user wants to see.
    pub(crate) fn style(&self) -> Style {
        self.show.style()
    }
}
