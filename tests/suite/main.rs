//! The suite: the command as users run it, one file per feature, over fixtures and small checkpoints made on the spot.

mod faults;
mod golden;
mod publishing;
mod refusals;
mod support;
