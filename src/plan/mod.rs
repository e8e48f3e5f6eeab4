//! What a merge will do, decided from headers and adapters alone and checked before anything is written.
//!
//! A [`Plan`] is plain, serialisable data with a digest. It knows no budget, thread count or absolute path; any process
//! with the same inputs makes the same one and could run a part of it.

pub(crate) mod base_as;
pub(crate) mod build;
pub(crate) mod cast;
pub(crate) mod check;
pub(crate) mod claim_set;
pub(crate) mod combined;
pub(crate) mod config_file;
pub(crate) mod decisions;
pub(crate) mod deltas;
pub(crate) mod digest;
pub(crate) mod explain;
pub(crate) mod fused;
pub(crate) mod inverse;
pub(crate) mod joined;
pub(crate) mod layout;
pub(crate) mod links;
pub(crate) mod noop;
pub(crate) mod origin;
pub(crate) mod original;
pub(crate) mod out_content;
pub(crate) mod out_form;
pub(crate) mod out_tensor;
pub(crate) mod output_files;
pub(crate) mod overlap;
pub(crate) mod planner;
pub(crate) mod shard_file;
pub(crate) mod share;
pub(crate) mod side_files;
pub(crate) mod slice;
pub(crate) mod split;
pub(crate) mod template;
pub(crate) mod tokenizer;
pub(crate) mod untie;
pub(crate) mod values;
