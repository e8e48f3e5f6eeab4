//! What a merge is asked to do.
//!
//! ```
//! use shardfold::{Code, Location, Memory, Request, prepare};
//!
//! let empty = Location::new(Memory::new());
//! let request = Request {
//!     base: Some(empty.join("base").into()),
//!     adapters: vec![(empty.join("adapter").into(), 1f64.into())],
//!     ..Request::default()
//! };
//! let error = prepare(&request).err().expect("nothing is there");
//! assert_eq!(error.exit_code(), Code::NoInput);
//! ```
//!
//! A request that can be met becomes a plan, and the plan a merged checkpoint in whatever store the output is:
//!
//! ```
//! use std::path::Path;
//!
//! use shardfold::{Event, Location, Memory, Reporter, Request, prepare};
//!
//! struct Silent;
//! impl Reporter for Silent {
//!     fn event(&mut self, _: &Event<'_>) {}
//! }
//!
//! # fn main() -> shardfold::Result<()> {
//! let demo = Path::new("fixtures/demo");
//! let request = Request {
//!     base: Some(demo.join("base").into()),
//!     adapters: vec![(demo.join("adapter").into(), 1f64.into())],
//!     ..Request::default()
//! };
//! let prepared = prepare(&request)?;
//! let output = Location::new(Memory::new()).join("merged");
//! let summary = prepared.merge(&output, &mut Silent)?;
//! assert_eq!(summary.state, "done");
//! let files = output.files(&|_| false)?;
//! assert!(files.iter().any(|file| file.name == "model.safetensors.index.json"));
//! assert_eq!(prepared.merge(&output, &mut Silent)?.state, "already done");
//! # Ok(())
//! # }
//! ```

use regex::Regex;

use crate::adapters::adapter_weight::AdapterWeight;
use crate::adapters::expert_options::ExpertLayout;
use crate::cancel::Cancel;
use crate::checkpoint::tokenizer::TokenizerChoice;
use crate::hub::cache::Hub;
use crate::hub::resolved::Origin;
use crate::merge::hooks::TestHooks;
use crate::model::tied::Tied;
use crate::ops::combination::Combination;
use crate::publish::part_number::PartNumber;
use crate::storage::io::settings::{IoMode, Unchanged};
use crate::storage::location::Location;
use crate::tensor::size::Size;

/// What a merge is asked to do.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The base: a path or a name to look up in `hub`, or a location. Without it, the base that the first adapter's config names.
    pub base: Option<Origin>,
    /// The variant of the base's weights, as `fp16`; by default those without one.
    pub variant: Option<String>,
    /// The adapters, likewise, with their weights, in order.
    pub adapters: Vec<(Origin, AdapterWeight)>,
    /// How their deltas are combined; by default they are added one after the other, which is their sum.
    pub combination: Option<Combination>,
    /// The cache in which names are looked up, and perhaps the hub behind it; by default neither, so that all are paths.
    pub hub: Hub,
    /// The memory budget in bytes.
    pub max_ram: Option<Size>,
    /// Bytes that the process holds for other things, which the budget does not count.
    pub beside: u64,
    /// Bytes that the store of the output takes for what is on its way there, as [`Store::write_memory`] says: the budget counts
    /// them.
    ///
    /// [`Store::write_memory`]: crate::storage::store::Store::write_memory
    pub output_memory: u64,
    /// Which way files are read and written; by default direct where a cgroup limit is tight.
    pub io: Option<IoMode>,
    /// What becomes of parts that no adapter changes.
    pub unchanged: Unchanged,
    /// Worker threads.
    pub threads: Option<usize>,
    /// Config fields to pass over.
    pub ignored_fields: Vec<String>,
    /// What happens to a tied head when an adapter changes one of the two ends.
    pub tied: Tied,
    /// Whose tokenizer goes into the result.
    pub tokenizer: TokenizerChoice,
    /// The type that all floats of the result are written in: `bf16`, `f16` or `f32`; by default each keeps its own.
    pub dtype: Option<String>,
    /// The most bytes of tensors in a shard, as `save_pretrained` has it; by default the shards are the base's.
    pub max_shard_size: Option<Size>,
    /// Whether only the tensors are written that are not the base's, to be laid over it.
    pub changed_only: bool,
    /// Whether encoded weights stay encoded.
    pub keep_quantized: bool,
    /// The 16-bit checkpoint that a quantized base was made from: what adapters change starts from it, and is quantized as the base
    /// is. Encoded weights stay encoded then.
    pub base16: Option<Origin>,
    /// The file of llama.cpp, made of the same base, as which the result lies: its header and its names, with the base's values.
    pub template: Option<Origin>,
    /// The type that a result with a template is written in: `auto`, `f16`, `bf16`, `f32`, `q8_0` or `template`; by default that of 16
    /// bits which the base has.
    pub template_type: Option<String>,
    /// Whether all scales of weights that are encoded again are made anew, not only those that take a value no more.
    pub fresh_scales: bool,
    /// Whether a result is written in which next to nothing of the deltas is left in what is encoded again.
    pub accept_loss: bool,
    /// How training quantized a 16-bit base in memory, as `--base-as` has it (`nf4,double`): weights of linear layers are taken so.
    pub base_as: Option<String>,
    /// How the factors of experts lie, where an adapter does not tell.
    pub experts: ExpertLayout,
    /// Adapter keys that may be left out where no base tensor has their names.
    pub allow_unmatched: Vec<Regex>,
    /// Names of modules and parameters that adapters may lack though their configs promise them.
    pub allow_missing: Vec<Regex>,
    /// Files with weights beside adapters that may be left out.
    pub allow_unmerged_files: Vec<String>,
    /// Whether the base may be of another class than the one that an adapter was trained on.
    pub allow_other_base: bool,
    /// Whether files are copied that are links to elsewhere.
    pub follow_links: bool,
    /// Whether adapters may change nothing.
    pub allow_noop: bool,
    /// Whether `SHA256SUMS` is written beside the other files.
    pub sha256: bool,
    /// Whether what undoes the merge is written beside its result.
    pub keep_undo: bool,
    /// Whether the merge is taken back whose result is the base here.
    pub unmerge: bool,
    /// Whether that is done by arithmetic alone where nothing that undoes it was kept.
    pub inexact: bool,
    /// The digest that the result must have, in hex: with another it is refused.
    pub expected: Option<String>,
    /// Whether what an interrupted run left is taken by its length alone, and not hashed.
    pub trust_journal: bool,
    /// Which part of it to make, where several processes make one output; by default all of it.
    pub part: Option<PartNumber>,
    /// Where the journal of an output lies that can only be written in place; by default nowhere, so that a run which fails removes
    /// what it wrote there.
    pub state: Option<Location>,
    /// What stops it, in any phase.
    pub cancel: Cancel,
    /// What only tests ask for.
    #[cfg(feature = "testing")]
    pub hooks: TestHooks,
}

impl Request {
    /// What only tests ask for; without the feature, nothing.
    pub(crate) fn hooks(&self) -> TestHooks {
        #[cfg(feature = "testing")]
        return self.hooks;
        #[cfg(not(feature = "testing"))]
        TestHooks::default()
    }
}
