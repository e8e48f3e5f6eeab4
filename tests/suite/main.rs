//! The suite: the command as users run it, one file per feature, over fixtures and small checkpoints made on the spot.

#![allow(clippy::disallowed_methods, reason = "tests make and read files of their own")]

mod faults;
mod golden;
mod publishing;
mod refusals;
mod support;
