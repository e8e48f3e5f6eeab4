//! What a folder holds, without merging anything: a checkpoint from its headers, an adapter from all of its values.
//!
//! [`inspect`] decides which it is and makes a report, which is plain data: [`crate::report`] makes the text that people
//! read of it, with names alike in one row; serde gives the JSON, with every name. Reports stand on `checkpoint` and
//! `adapters` alone and plan nothing, so they also show what a merge would refuse.

mod adapter;
mod checkpoint;
mod modules;
mod norm;
mod open;
mod quantization;
mod scale;
mod totals;

pub use adapter::{AdapterReport, KeyLine, Module};
pub use checkpoint::{CheckpointReport, Embeddings, IndexLine, ShardLine, TensorLine};
pub use norm::{Norms, Sizes, sizes};
pub use open::{Inspected, inspect};
pub use quantization::{Quantization, quantization};
pub use totals::{DtypeTotals, Totals};
