//! What a folder holds, without merging anything: a checkpoint from its headers, an adapter from all of its values.
//!
//! [`inspect`] decides which it is and makes a report, which is plain data: [`Display`](std::fmt::Display) is the text that
//! people read, with names alike in one line; serde gives the JSON, with every name. Reports stand on `checkpoint` and
//! `adapters` alone and plan nothing, so they also show what a merge would refuse.

mod adapter;
mod adapter_text;
mod checkpoint;
mod group;
mod modules;
mod norm;
mod open;
mod quantisation;
mod scale;
mod text;
mod totals;

pub use adapter::{AdapterReport, KeyLine, Module};
pub use checkpoint::{CheckpointReport, Embeddings, IndexLine, ShardLine, TensorLine};
pub use group::{Group, group};
pub use norm::{Norms, Sizes, sizes};
pub use open::{Inspected, inspect};
pub use quantisation::{Quantisation, quantisation};
pub use totals::{DtypeTotals, Totals};
