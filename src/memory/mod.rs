//! What memory may be used, what is used, and how sizes are written.

mod limits;
mod pool;
mod usage;

pub use crate::tensor::size::{Size, flag_size, parse_size, show_rate, show_size};
pub use limits::{Environment, Limit, LimitKind, Machine, ResourceLimits, find, tightest};
pub use pool::{Cut, Lease, Memory, PAGE, Pool, Shelf};
pub use usage::{Usage, cgroup_peak, process};
