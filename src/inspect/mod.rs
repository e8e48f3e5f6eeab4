//! What a folder holds, without merging anything: a checkpoint from its headers, an adapter from all of its values.
//!
//! [`inspect`] decides which it is and makes a report, which is plain data: [`Display`](std::fmt::Display) is the text that
//! people read, with names alike in one line; serde gives the JSON, with every name. Reports stand on `checkpoint` and
//! `adapters` alone and plan nothing, so they also show what a merge would refuse.

pub(crate) mod adapter;
pub(crate) mod adapter_text;
pub(crate) mod checkpoint;
pub(crate) mod group;
pub(crate) mod modules;
pub(crate) mod norm;
pub(crate) mod open;
pub(crate) mod quantized;
pub(crate) mod scale;
pub(crate) mod text;
pub(crate) mod totals;
