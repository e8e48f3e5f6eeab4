//! Adapters of trainers that have models of their own: whose modules have other names than transformers', and rows of heads in
//! another order.
//!
//! One file per trainer, with its dialect and the names as data; [`meet`] brings them to the base's once that is known.

pub(crate) mod meet;
pub(crate) mod mistral;
pub(crate) mod own_names;
pub(crate) mod torchtune;
pub(crate) mod torchtune_export;
