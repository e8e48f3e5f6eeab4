//! shardfold merges fine-tuning adapters into checkpoints that do not fit in memory.
//!
//! The pipeline in one page, each step handing on one type:
//!
//! 1. **discover**: [`checkpoint`] reads a folder's headers into a `Catalogue`; [`adapters`] reads an adapter's config,
//!    keys and headers.
//! 2. **plan**: each [`adapters::Method`] claims tensors as ops, [`families`] find the base tensors they mean, and
//!    [`plan`] checks everything and lays the output out. A plan is plain data made from headers alone.
//! 3. **schedule**: [`schedule`] cuts the plan into tiles that fit the [`memory`] budget, in output order.
//! 4. **run**: [`pipeline`] reads, merges and writes tiles on a reader, some workers and a writer, through [`storage`],
//!    [`encodings`] and [`kernels`].
//! 5. **publish**: [`publish`] makes the result visible, whole or not at all.
//!
//! [`inspect`] stands beside the pipeline: it says what a checkpoint or an adapter holds.
//!
//! [`cli`] turns arguments into these calls and [`report`] tells how they go; only these two print.

pub mod adapters;
pub mod checkpoint;
pub mod cli;
pub mod encodings;
pub mod error;
pub mod families;
pub mod formats;
pub mod inspect;
pub mod job;
pub mod kernels;
pub mod memory;
pub mod pipeline;
pub mod plan;
pub mod publish;
pub mod report;
pub mod schedule;
pub mod storage;
pub mod tensor;
