//! The flags of `diff`.

use std::path::PathBuf;

use clap::Args;

use crate::cli::flags::{MemoryFlags, ShowFlags};

/// The flags of `diff`.
#[derive(Args)]
pub(crate) struct DiffArgs {
    /// Name the first checkpoint: a directory, a file or a repo id
    ///
    /// What `merge --base` takes.
    #[arg(value_name = "A", help_heading = "Inputs")]
    pub(crate) a: PathBuf,

    /// Name the checkpoint to compare with it
    #[arg(value_name = "B", help_heading = "Inputs")]
    pub(crate) b: PathBuf,

    /// Check for differences: exit with 65 if there are any
    ///
    /// As for `git diff`, where the code is 1. A tensor that is moved by rounding differs, and so does one that only one of both has or that
    /// could not be compared.
    #[arg(long, help_heading = "Checks")]
    pub(crate) exit_code: bool,

    #[command(flatten)]
    pub(crate) memory: MemoryFlags,

    #[command(flatten)]
    pub(crate) show: ShowFlags,
}
