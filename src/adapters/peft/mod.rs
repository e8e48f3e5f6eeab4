//! TODO ('adapters', 'peft')

pub(crate) mod config;
pub(crate) mod folder;
pub(crate) mod keys;
pub(crate) mod patterns;
pub(crate) mod producers;
pub(crate) mod python_regex;
pub(crate) mod scale;
pub(crate) mod targets;
