//! From the names of a running model, which adapters use, to the tensors of a checkpoint.
//!
//! The two differ more often than not for models with towers and for mixtures of experts: transformers renames, stacks,
//! splits and transposes while it loads. The way it does so is data ([`table`]): the rules are run forwards over the names on
//! disk ([`rules`], [`pattern`], [`name_table`]), which of them, and how an adapter's paths are to be read, is decided by what
//! places all paths ([`interpretation`], [`class_rules`], [`name_tables`]), and what a rule does with tensors becomes slices
//! ([`conversions`], [`param_slice`]). Projections that are fused on one side only are cut or put together by [`experts`] and
//! [`fused_rows`].
//!
//! Nothing here reads values, and nothing knows methods or plans. The rules are facts of key-mapping.md 5 and 6.

pub(crate) mod class_rules;
pub(crate) mod conversions;
pub(crate) mod disk;
pub(crate) mod experts;
pub(crate) mod fused_rows;
pub(crate) mod geometry;
pub(crate) mod inferred;
pub(crate) mod interpretation;
pub(crate) mod lookup;
pub(crate) mod name_table;
pub(crate) mod name_tables;
pub(crate) mod param_slice;
pub(crate) mod parameter;
pub(crate) mod pattern;
pub(crate) mod place_sum;
pub(crate) mod presence;
pub(crate) mod reading;
pub(crate) mod rules;
pub(crate) mod runtime;
pub(crate) mod table;
#[cfg(test)]
mod tests;
