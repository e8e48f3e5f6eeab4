//! The flags of `extract`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::flags::{MemoryFlags, ShowFlags};

/// The flags of `extract`.
#[derive(Args)]
pub(crate) struct ExtractArgs {
    /// Name the base: a directory, a file or a repo id
    ///
    /// What `merge --base` takes.
    #[arg(value_name = "BASE", help_heading = "Inputs")]
    pub(crate) base: PathBuf,

    /// Name the checkpoint that was tuned from it
    #[arg(value_name = "TUNED", help_heading = "Inputs")]
    pub(crate) tuned: PathBuf,

    /// Set the rank of the adapter
    ///
    /// From 1 to 1024. Alpha is the rank, so that the scale is 1.
    #[arg(long, value_name = "R", help_heading = "Output")]
    pub(crate) rank: Option<String>,

    /// Write the adapter to this directory
    ///
    /// It must not exist, or be empty.
    #[arg(short, long, value_name = "DIR", help_heading = "Output")]
    pub(crate) output: Option<PathBuf>,

    /// Write modules that are no linear layers into the adapter whole
    ///
    /// Norms, embeddings and convolutions that differ, as PEFT's `modules_to_save`.
    #[arg(long, help_heading = "Output")]
    pub(crate) save_others: bool,

    #[command(flatten)]
    pub(crate) memory: MemoryFlags,

    /// Skip tensors that differ and whose name matches; repeatable
    ///
    /// A regular expression, such as `norm\\.weight$`. What was skipped is reported.
    #[arg(long, value_name = "REGEX", help_heading = "Escape hatches")]
    pub(crate) skip: Vec<String>,

    #[command(flatten)]
    pub(crate) show: ShowFlags,
}
