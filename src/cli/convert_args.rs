//! The flags of `convert`.

use std::path::PathBuf;

use clap::Args;

use crate::report::style::Style;

use crate::cli::flags::{FormFlags, MemoryFlags, OutputFlags, ShowFlags, SourceFlags};

/// The flags of `convert`.
#[derive(Args)]
pub(crate) struct ConvertArgs {
    /// Name the checkpoint or the adapter: a directory, a file or a repo id
    ///
    /// What `merge --base` takes, or what `merge --adapter` does.
    #[arg(value_name = "DIR|NAME", help_heading = "Inputs")]
    pub(crate) path: PathBuf,

    /// Name the base of an adapter
    ///
    /// Only its headers are read, for names and shapes. [default: the base that the adapter's config names, if it is found]
    #[arg(long, value_name = "DIR|NAME", help_heading = "Inputs")]
    pub(crate) base: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) source: SourceFlags,

    #[command(flatten)]
    pub(crate) out: OutputFlags,

    #[command(flatten)]
    pub(crate) form: FormFlags,

    /// Set the rank of deltas that are no product of two factors
    ///
    /// Of an adapter (LoHa, LoKr, …): the best product of that rank takes their place, and the share of them that it keeps is
    /// reported. Without it such an adapter is refused.
    #[arg(long, value_name = "R", help_heading = "Output")]
    pub(crate) rank: Option<String>,

    #[command(flatten)]
    pub(crate) memory: MemoryFlags,

    /// Skip tensors of an adapter's base whose name matches; repeatable
    ///
    /// A regular expression. What was skipped is reported.
    #[arg(long, value_name = "REGEX", help_heading = "Escape hatches")]
    pub(crate) skip: Vec<String>,

    /// Allow side files to be copied that are links to elsewhere
    ///
    /// As for `merge`.
    #[arg(long, help_heading = "Escape hatches")]
    pub(crate) follow_links: bool,

    #[command(flatten)]
    pub(crate) show: ShowFlags,
}

impl ConvertArgs {
    /// What the user wants to see.
    pub(crate) fn style(&self) -> Style {
        self.show.style()
    }
}
