//! Runs a plan: one feed that reads, some workers and one writer over one pool of memory.
//!
//! ```text
//!            leases                    any order            schedule order
//!  pool ──▶ feed ──▶ tiles ──▶ workers ──▶ merged tiles ──▶ writer ──▶ sink of the shard
//!    ▲         factor buffers of a band ┘ (given back)      │
//!    └────────────────── tile buffers, when their bytes are written ┘
//! ```
//!
//! The feed walks the schedule and takes leases in its order; it is the only one that waits for memory. Factors are read as
//! they are and prepared by the first worker that needs them. [`apply::merge_tile`] is the merge itself, a function of its
//! arguments. The result of a reduction over a tensor travels back from the writer to the feed, which sends the first tile
//! that is written only when it has it: reducing needs the order of the schedule, and only the writer has that.
//!
//! Channels hold as many tiles as there are tile buffers, so a send never waits for anything but a stage that has stopped.
//! The writer puts tiles back into order: the tile it waits for was leased before every tile that is held up, so it is
//! always under way. In steady state nothing is allocated but by a product's own packing.
//!
//! Shutdown is dropping senders. The stage that fails records the cause in [`Stop`] and returns; the others find a closed
//! channel or the flag and return quietly. The first cause wins.

pub(crate) mod apply;
pub(crate) mod clock;
pub(crate) mod derive;
pub(crate) mod exact;
pub(crate) mod factors;
pub(crate) mod feed;
pub(crate) mod fetch;
pub(crate) mod file_hash;
pub(crate) mod fill;
pub(crate) mod fuse;
pub(crate) mod gather;
pub(crate) mod hash_value;
pub(crate) mod message;
pub(crate) mod milestone;
pub(crate) mod progress;
pub(crate) mod reduce;
pub(crate) mod repack;
pub(crate) mod retained;
pub(crate) mod rounded_once;
pub(crate) mod run;
pub(crate) mod scatter;
pub(crate) mod scratch;
pub(crate) mod section_hash;
pub(crate) mod sections;
pub(crate) mod shared;
pub(crate) mod stages;
pub(crate) mod stop;
#[cfg(all(test, shardfold_model))]
mod stop_model;
pub(crate) mod stored_values;
pub(crate) mod stretch_values;
pub(crate) mod tally;
pub(crate) mod worker;
pub(crate) mod writer;
