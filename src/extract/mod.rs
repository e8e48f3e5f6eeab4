//! An adapter made of values: of what a checkpoint is more than its base, by the best product of two factors.
//!
//! [`selection`] decides what becomes of every tensor that differs, [`factored`] reads one matrix twice, [`lora_file`] writes PEFT's
//! file and config, [`extract`] does all of it, and [`extracted`] is what came of it.

pub(crate) mod extract;
pub(crate) mod extracted;
pub(crate) mod factored;
pub(crate) mod lora_file;
pub(crate) mod selection;
pub(crate) mod turn;
