//! What a run reads, writes and reports.

use crate::cancel::Cancel;
use crate::kernels::dispatch::Kernels;
use crate::pipeline::clock::Clocks;
use crate::pipeline::milestone::Milestone;
use crate::pipeline::shared::SharedInputs;
use crate::plan::out_tensor::Plan;
use crate::schedule::budget::Schedule;
use crate::schedule::extent::Extent;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::undo::file::UndoFile;

/// What a run reads and writes.
pub struct Run<'r> {
    /// What to do.
    pub plan: &'r Plan,
    /// How to do it here.
    pub schedule: &'r Schedule,
    /// The plan's inputs, in its order, and behind them the scratch file of repacked factors, if there is one.
    pub sources: &'r [&'r dyn Source],
    /// Where the shards go.
    pub store: &'r dyn Store,
    /// Which arithmetic runs.
    pub kernels: Kernels,
    /// What its threads spend their time on.
    pub clocks: &'r Clocks,
    /// Stops it.
    pub cancel: &'r Cancel,
    /// Whether adapters may change nothing.
    pub allow_noop: bool,
    /// Whether next to nothing of the deltas may be left in what is encoded again.
    pub accept_loss: bool,
    /// How much of the plan it does. Shards of which it does only a part are never whole.
    pub extent: &'r Extent,
    /// What an earlier run of the plan left in `store`: this one goes on behind it.
    pub kept: &'r [Milestone],
    /// Bytes from one milestone to the next.
    pub stride: u64,
    /// What is shared with inputs instead of read.
    pub shared: SharedInputs,
    /// By what tiles are put right once they are made, where a merge is taken back.
    pub undo: Option<&'r UndoFile>,
}
