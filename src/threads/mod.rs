//! Threads, channels, locks and atomics as the stages of a run have them.
//!
//! They are those of `std` and crossbeam. Where the tests are built with `--cfg shardfold_model` the same names are a model
//! checker's, which decides at every step who goes on: so it is the code of a run itself that is checked, not a copy of it
//! (`make model`). Whatever waits for another thread in a run takes its names from here.

#[cfg(all(test, shardfold_model))]
pub(crate) mod model;

#[cfg(not(all(test, shardfold_model)))]
pub(crate) use crossbeam_channel as channel;
#[cfg(not(all(test, shardfold_model)))]
pub(crate) use std::sync::{Mutex, OnceLock, atomic};
#[cfg(not(all(test, shardfold_model)))]
pub(crate) use std::thread;

#[cfg(all(test, shardfold_model))]
pub(crate) use model::{channel, once::OnceLock, thread};
#[cfg(all(test, shardfold_model))]
pub(crate) use shuttle::sync::{Mutex, atomic};
