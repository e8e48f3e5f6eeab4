//! PEFT's adapters: directories of `save_pretrained`, and what trainers that write such directories do otherwise.

pub(crate) mod config;
pub(crate) mod folder;
pub(crate) mod keys;
pub(crate) mod methods;
pub(crate) mod numbers;
pub(crate) mod options;
pub(crate) mod patterns;
pub(crate) mod producers;
pub(crate) mod promises;
pub(crate) mod python_regex;
pub(crate) mod residual;
pub(crate) mod selection;
pub(crate) mod targets;
pub(crate) mod torchtune;
pub(crate) mod weights;
