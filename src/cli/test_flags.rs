//! Flags of the test suite, which the released command does not have.

use clap::Args;

use crate::cli::values::read_size;
use crate::error::Result;
use crate::merge::hooks::TestHooks;
use crate::storage::location::Location;
use crate::storage::testing::faulty::Faulty;

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

    /// End the process when the output's store changes something for so manyth time
    #[arg(long, value_name = "N", hide = true)]
    abort_at: Option<u64>,

    /// Refuse to rename anything at the output
    #[arg(long, hide = true)]
    refuse_renames: bool,

    /// Run the reference arithmetic
    #[arg(long, hide = true)]
    scalar: bool,

    /// Go about as if blocks could be shared with the base
    #[arg(long, hide = true)]
    shares: bool,

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
        let stride = stride.map(|stride| stride.bytes());
        Ok(TestHooks { forced, stride, scalar: self.scalar, shares: self.shares })
    }

    /// The output as the flags have it: one that may fail.
    pub(crate) fn output(&self, output: Location) -> Location {
        let Some(above) = output.parent().filter(|_| self.abort_at.is_some() || self.refuse_renames) else {
            return output;
        };
        let mut store = Faulty::new(above);
        if self.refuse_renames {
            store = store.refusing_renames();
        }
        if let Some(nth) = self.abort_at {
            store = store.aborting_at(nth);
        }
        Location::new(store).join(output.name().unwrap_or_default())
    }
}
