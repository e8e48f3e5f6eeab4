//! shardfold merges fine-tuning adapters into checkpoints that do not fit in memory.
//!
//! [`prepare`] reads headers and adapters, plans, and divides the memory budget; [`Prepared::merge`] does the merge;
//! [`inspect()`] shows what a checkpoint or an adapter holds. The modules behind this list are private: their pipeline, each
//! step handing on one type, is
//!
//! 1. **discover**: `checkpoint` reads a directory's headers into a `Catalogue`; `adapters` reads an adapter's config, keys
//!    and headers.
//! 2. **plan**: claims turn the adapter's tensors into ops, `model` finds the base tensors they mean, and `plan` checks
//!    everything and lays the output out. A plan is plain data made from headers alone.
//! 3. **schedule**: `schedule` cuts the plan into tiles that fit the `memory` budget, in output order.
//! 4. **run**: `pipeline` reads, merges and writes tiles on a reader, some workers and a writer, through `storage`,
//!    `encodings` and `kernels`.
//! 5. **publish**: `publish` makes the result visible, whole or not at all.
//!
//! Only `cli` and `report` print.

#![cfg_attr(
    not(feature = "testing"),
    allow(unreachable_pub, reason = "what `testing` shows is public there only")
)]

pub(crate) mod adapters;
pub(crate) mod cancel;
pub(crate) mod checkpoint;
pub(crate) mod cli;
pub(crate) mod diff;
pub(crate) mod encodings;
pub(crate) mod error;
pub(crate) mod extract;
pub(crate) mod formats;
pub(crate) mod hub;
pub(crate) mod inspect;
pub(crate) mod kernels;
pub(crate) mod linear;
pub(crate) mod memory;
pub(crate) mod merge;
pub(crate) mod model;
pub(crate) mod note;
pub(crate) mod ops;
pub(crate) mod pipeline;
pub(crate) mod plan;
pub(crate) mod publish;
pub(crate) mod report;
pub(crate) mod schedule;
pub(crate) mod storage;
pub(crate) mod tensor;
pub(crate) mod threads;
pub(crate) mod undo;
pub(crate) mod verify;

pub use adapters::expert_options::{ExpertLayout, Orientation, Packing};
pub use cancel::Cancel;
pub use checkpoint::tokenizer::TokenizerChoice;
#[cfg(any(feature = "man", feature = "testing"))]
#[doc(hidden)]
pub use cli::args::command as command_line;
pub use cli::call::{call, request_of};
pub use cli::main as run_command;
pub use error::adapter::AdapterError;
pub use error::budget::{BudgetNeed, BudgetPart};
pub use error::checkpoint::CheckpointError;
pub use error::claim::ClaimError;
pub use error::conversion::{ConversionProblem, RowsProblem};
pub use error::exit::Code;
pub use error::kind::ErrorKind;
pub use error::no_effect::NoEffectReason;
pub use error::output::OutputError;
pub use error::parts::PartsError;
pub use error::path_reading::{PathChange, PathReading};
pub use error::plan::PlanError;
pub use error::promise::Promise;
pub use error::quantized::QuantizedProblem;
pub use error::request::RequestError;
pub use error::run::RunError;
pub use error::storage::StorageError;
pub use error::verify::VerifyError;
pub use error::{Error, Result};
pub use hub::cache::Hub;
pub use hub::environment::HubEnvironment;
pub use hub::resolved::{Origin, Resolved};
pub use inspect::open::{Inspected, inspect};
pub use merge::finish::Finishing;
pub use merge::prepare::{Prepared, prepare};
pub use merge::reader::MergedReader;
pub use merge::request::Request;
pub use model::tied::Tied;
pub use note::Note;
pub use note::claim::ClaimNote;
pub use note::input::InputNote;
pub use note::names::NameNote;
pub use note::plan::PlanNote;
pub use note::run::RunNote;
pub use note::side_file::SideFileNote;
pub use plan::out_tensor::Plan;
pub use publish::part_number::PartNumber;
pub use report::choose;
pub use report::event::{Event, Reporter};
pub use report::joined::Finished;
pub use report::style::Style;
pub use report::summary::Summary;
pub use report::terminal::Terminal;
pub use storage::folder::Folder;
pub use storage::io::choice::IoChoice;
pub use storage::io::settings::{IoMode, IoSettings, Sharing, Unchanged};
pub use storage::location::Location;
pub use storage::memory::Memory;
pub use storage::sink::{Patch, Scratch, Sink};
pub use storage::source::Source;
pub use storage::store::{DirRename, Entry, EntryKind, HeldDir, Lock, Stat, Store};
pub use storage::times::FileTimes;
pub use tensor::size::Size;

/// Instruments for this crate's own tests and benches; no promise is made about them.
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod testing {
    pub use crate::error::exit::TABLE;
    pub use crate::formats::json_edit::JsonEdit;
    pub use crate::formats::safetensors::build::build_header;
    pub use crate::formats::safetensors::read::parse_header;
    #[cfg(feature = "hub")]
    pub use crate::hub::remote::content_sum::git_blob_name;
    pub use crate::kernels::dispatch::Kernels;
    pub use crate::kernels::exact::float_format::FloatFormat;
    pub use crate::kernels::float8::ceil_log2;
    pub use crate::kernels::fused::pack::Term;
    pub use crate::kernels::fused::tile::{Codes, FusedScratch};
    pub use crate::kernels::product::{Matrix, packing_bytes};
    pub use crate::merge::fuzz::{FUZZ_TARGETS, FuzzTarget};
    pub use crate::merge::hooks::TestHooks;
    pub use crate::model::names::param_slice::ParamSlice;
    pub use crate::ops::placement::{Axis, Placement};
    pub use crate::pipeline::clock::Clocks;
    pub use crate::pipeline::milestone::{Milestone, Reached, ShardDone};
    pub use crate::pipeline::run::Run;
    pub use crate::pipeline::shared::SharedInputs;
    pub use crate::schedule::extent::Extent;
    pub use crate::storage::files::write_small;
    #[cfg(feature = "cloud")]
    pub use crate::storage::testing::bucket::bucket;
    pub use crate::storage::testing::conformance::{check_read_store, check_store};
    pub use crate::storage::testing::faulty::Faulty;
    pub use crate::storage::testing::script::{Failure, Operation};
    pub use crate::tensor::dtype::Dtype;
    pub use crate::tensor::rect::{Rect, View};
    pub use crate::tensor::shape::Shape;
    pub use crate::tensor::size::{parse_size, show_size};
}
