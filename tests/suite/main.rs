//! The suite: the command as users run it, one file per feature, over fixtures and small checkpoints made on the spot.

#![allow(clippy::disallowed_methods, reason = "tests make and read files of their own")]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test has no users, panics, and tells"
)]

mod called;
mod channels;
mod checksums;
#[cfg(feature = "cloud")]
mod cloud;
mod combined;
mod config_text;
mod converted;
mod cut_off;
mod diff;
mod diffusers;
mod ends;
mod every_fault;
mod extract;
mod faults;
mod found_again;
mod fuzz;
mod gguf;
mod given;
mod golden;
mod heads;
mod hostile;
mod hub;
mod in_memory;
mod in_training;
mod indexes;
mod inspect;
mod io;
mod layouts;
mod many_hosts;
mod many_hosts_faults;
mod methods;
mod methods_large;
mod mixed;
mod models;
mod moved;
mod multiplied;
mod no_journal;
mod noop;
mod numbers;
mod one_file;
mod oracle;
mod origins;
mod pages;
mod parts;
mod pipelines;
mod produced;
mod produced_tinker;
mod produced_trainers;
mod promises;
mod publishing;
mod quantized_bases;
mod quantized_kept;
mod quantized_records;
mod quantized_scaled;
mod reading;
mod readme;
mod refusals;
mod refusals_distant;
mod refusals_kinds;
mod refusals_lora;
mod refusals_methods;
mod refusals_names;
mod refusals_packed;
mod refusals_products;
mod refusals_scaled;
mod remote;
mod resumed;
mod saved;
mod screen;
mod shared;
mod shell;
mod short_transfers;
mod side_files;
mod stacks;
mod structure;
mod support;
mod supported;
mod targets;
mod to_gguf;
mod to_lora;
mod trainers;
mod trainers_own;
mod trainers_raw;
mod trial;
mod turned;
mod unmerge;
mod vectors;
mod verifying;
mod weights;
mod work;
