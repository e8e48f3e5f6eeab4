//! What only one operating system has, behind the same functions everywhere.
//!
//! All of it is a courtesy: where a call is missing, its function does nothing and says so, and files are still right.

#[cfg(target_os = "linux")]
pub(crate) mod linux;
#[cfg(not(target_os = "linux"))]
pub(crate) mod other;

#[cfg(target_os = "linux")]
use crate::storage::os::linux as here;

#[cfg(not(target_os = "linux"))]
use crate::storage::os::other as here;

pub(crate) use here::{
    SYNCS_ALL, close, drop_cache, finish_write_back, has_local_clock, is_cached, is_in_memory,
    is_listed_mount, is_refusal, network_of, open_direct, prefer_huge_pages, read_uncached,
    rename_no_replace, reserve, share_range, start_write_back, sync_file_system, write_uncached,
};
