//! Flags of the test suite, which the released command does not have.

use clap::Args;

use crate::cli::values::read_size;
use crate::error::Result;
use crate::merge::hooks::TestHooks;

/// As typed.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TestFlags {
    /// Cut tile buffers of this size
    #[arg(long, value_name = "SIZE", hide = true, requires = "depth")]
    slab: Option<String>,

    /// Make this many tile buffers
    #[arg(long, value_name = "N", hide = true, requires = "slab")]
    depth: Option<usize>,

    /// Keep the open shard whenever so many bytes of it are written
    #[arg(long, value_name = "SIZE", hide = true)]
    stride: Option<String>,

    /// Run the reference arithmetic
    #[arg(long, hide = true)]
    scalar: bool,

    /// Read and merge, and write nothing
    #[arg(long, hide = true)]
    pub(crate) discard: bool,
}

impl TestFlags {
    /// What they mean.
    pub(crate) fn hooks(&self) -> Result<TestHooks> {
        let bytes = self.slab.as_deref().map(|slab| read_size("--slab", slab)).transpose()?;
        let forced = bytes.zip(self.depth).map(|(bytes, depth)| (bytes.bytes() as usize, depth));
        let stride = self.stride.as_deref().map(|stride| read_size("--stride", stride)).transpose()?;
        Ok(TestHooks { forced, stride: stride.map(|stride| stride.bytes()), scalar: self.scalar })
    }
}
