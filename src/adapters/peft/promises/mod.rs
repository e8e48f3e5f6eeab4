//! Promises of a config that the file must keep: whatever PEFT would have trained and saved, and the base has, must have its
//! tensors.
//!
//! The opposite of accounting for every tensor: a module that `target_modules` or `target_parameters` selects ([`kinds`]), one
//! of `modules_to_save` ([`saved`]), rows of tokens ([`rows`]), biases ([`biases`]), the head of a task ([`head`]), and tensors
//! that are there without elements ([`empty`]). What is missing is refused together and by name, unless `--allow-missing` names
//! it ([`lacks`]): a file cut short merges into a model that looks merged and is not.

pub(crate) mod biases;
pub(crate) mod check;
pub(crate) mod empty;
pub(crate) mod head;
pub(crate) mod kinds;
pub(crate) mod lacks;
pub(crate) mod paths;
pub(crate) mod rows;
pub(crate) mod saved;
