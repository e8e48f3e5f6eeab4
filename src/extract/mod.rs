//! A LoRA of PEFT made of values: of what a checkpoint is more than its base, or of what another adapter adds.
//!
//! [`selection`] decides what becomes of every tensor that differs ([`extraction`]), [`conversion`] of every one that an adapter changes.
//! The [`factors`] of a module are the best product for a matrix that is read twice ([`factored`]), or [`products`] that are there
//! already; [`parts`] writes them, [`lora_file`] knows PEFT's file and config, and [`extracted`] is what came of it.

pub(crate) mod conversion;
pub(crate) mod extracted;
pub(crate) mod extraction;
pub(crate) mod factored;
pub(crate) mod factors;
pub(crate) mod lora_file;
pub(crate) mod parts;
pub(crate) mod products;
pub(crate) mod selection;
pub(crate) mod turn;
