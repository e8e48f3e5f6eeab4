//! How far a run is: counters that the stages raise and the caller looks at.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::pipeline::milestone::{Milestone, whole_shards};
use crate::plan::out_tensor::Plan;
use crate::schedule::extent::Extent;

/// Counters of a run.
pub(crate) struct Progress {
    total_bytes: u64,
    shards: usize,
    read: AtomicU64,
    written: AtomicU64,
    shared: AtomicU64,
    shard: AtomicUsize,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes of all output shards.
    pub total_bytes: u64,
    /// Bytes read of the inputs.
    pub read_bytes: u64,
    /// Bytes handed to sinks, or shared.
    pub written_bytes: u64,
    /// Bytes that were shared with inputs, and neither read nor written.
    pub shared_bytes: u64,
    /// Number of shards.
    pub shards: usize,
    /// The shard being written, from 0.
    pub shard: usize,
    /// Bytes of the pool on lease.
    pub held_bytes: u64,
}

impl Progress {
    /// Nothing done yet but the shards that an earlier run left; what it left of the next is added when that is opened.
    pub(crate) fn new(plan: &Plan, extent: &Extent, kept: &[Milestone]) -> Progress {
        let written = whole_shards(kept).map(|shard| shard.bytes).sum();
        Progress {
            total_bytes: extent.output_bytes(plan),
            shards: plan.shards.len(),
            read: AtomicU64::new(0),
            written: AtomicU64::new(written),
            shared: AtomicU64::new(0),
            shard: AtomicUsize::new(0),
        }
    }

    pub(crate) fn add_read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_written(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_shared(&self, bytes: u64) {
        self.shared.fetch_add(bytes, Ordering::Relaxed);
        self.add_written(bytes);
    }

    pub(crate) fn enter_shard(&self, shard: usize) {
        self.shard.store(shard, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self, held_bytes: u64) -> Snapshot {
        Snapshot {
            total_bytes: self.total_bytes,
            read_bytes: self.read.load(Ordering::Relaxed),
            written_bytes: self.written.load(Ordering::Relaxed),
            shared_bytes: self.shared.load(Ordering::Relaxed),
            shards: self.shards,
            shard: self.shard.load(Ordering::Relaxed),
            held_bytes,
        }
    }
}
