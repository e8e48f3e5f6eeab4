//! The suite: the command as users run it, one file per feature, over fixtures and small checkpoints made on the spot.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test has no users, and panics")]

mod faults;
mod golden;
mod oracle;
mod publishing;
mod refusals;
mod support;
mod work;
