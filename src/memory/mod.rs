//! What memory may be used, what is used, and how sizes are written.

mod limits;
mod pool;
mod size;
mod usage;

pub use limits::{Environment, Limit, LimitKind, Machine, ResourceLimits, find, tightest};
pub use pool::{Cut, Lease, Memory, PAGE, Pool, Shelf};
pub use size::{parse_size, show_rate, show_size};
pub use usage::{Usage, cgroup_peak, process};
