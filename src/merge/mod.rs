//! One merge from inputs to a published result: what the command line, a test or another program calls.
//!
//! A [`request::Request`] says what is wanted; [`prepare::prepare`] finds the inputs, plans and divides the budget;
//! [`prepare::Prepared::merge`] does it and publishes. A [`crate::cancel::Cancel`] token goes through all of it.

pub(crate) mod again;
pub(crate) mod at_once;
pub(crate) mod components;
pub(crate) mod deltas;
pub(crate) mod discard;
pub(crate) mod execute;
pub(crate) mod fetch;
pub(crate) mod finish;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
pub(crate) mod hooks;
pub(crate) mod inverse;
pub(crate) mod io;
pub(crate) mod join;
pub(crate) mod memory;
pub(crate) mod others;
pub(crate) mod own_part;
pub(crate) mod part;
pub(crate) mod planned;
pub(crate) mod prepare;
pub(crate) mod probe;
pub(crate) mod reader;
pub(crate) mod request;
pub(crate) mod resolve;
#[cfg(all(test, shardfold_model))]
mod run_model;
pub(crate) mod unchanged;
pub(crate) mod undo;
pub(crate) mod unmerge;
pub(crate) mod values;
pub(crate) mod whole_parts;
