//! What stores share whose files are read over a network: a stream that is read ahead, with several requests in flight, and
//! small blocks that are kept.
//!
//! Such a store says how one range of a file is fetched ([`fetch::Fetch`]); [`source::RemoteSource`] makes a
//! [`Source`](crate::storage::source::Source) of that, which is hashed where the server says with what result, and [`read_only`] is what a store answers that cannot be written.

pub(crate) mod blocks;
pub(crate) mod fetch;
mod in_order_sum;
pub(crate) mod listed;
pub(crate) mod read_only;
pub(crate) mod reads;
pub(crate) mod source;
