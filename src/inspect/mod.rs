//! What a directory holds, without merging anything: a checkpoint from its headers, an adapter from all of its values.
//!
//! [`inspect`](open::inspect) decides which it is and makes a report, which is plain data: [`crate::report`] makes the text that people
//! read of it, with names alike in one row; serde gives the JSON, with every name. Reports stand on `checkpoint` and
//! `adapters` alone and plan nothing, so they also show what a merge would refuse.

pub(crate) mod adapter;
pub(crate) mod checkpoint;
pub(crate) mod modules;
pub(crate) mod norm;
pub(crate) mod open;
pub(crate) mod quantization;
pub(crate) mod totals;
