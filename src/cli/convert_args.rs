//! The flags of `convert`.

use std::path::PathBuf;

use clap::Args;

use crate::report::style::Style;

use crate::cli::flags::{FormFlags, MemoryFlags, OutputFlags, ShowFlags, SourceFlags};

/// The flags of `convert`.
#[derive(Args)]
pub(crate) struct ConvertArgs {
    /// Name the checkpoint: a directory or a Hugging Face repo id
    ///
    /// What `merge --base` takes.
    #[arg(value_name = "DIR|NAME", help_heading = "Inputs")]
    pub(crate) base: PathBuf,

    #[command(flatten)]
    pub(crate) source: SourceFlags,

    #[command(flatten)]
    pub(crate) out: OutputFlags,

    #[command(flatten)]
    pub(crate) form: FormFlags,

    #[command(flatten)]
    pub(crate) memory: MemoryFlags,

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
