//! How much memory a merge may take here, and why.

use std::thread::available_parallelism;

use crate::memory::limit::{Limit, LimitKind};
use crate::memory::limits::{Environment, find};
use crate::memory::process::process;
use crate::merge::request::Request;
use crate::schedule::budget::Asked;

/// Of what is free under the tightest limit, a budget chosen here takes at most so many hundredths.
const FREE_SHARE: u64 = 80;

/// What to ask the split for, and why.
pub(crate) fn asked(request: &Request) -> (Asked, String) {
    let cpus = available_parallelism().map_or(1, |cpus| cpus.get());
    let now = process();
    let mut asked = Asked {
        max_ram: request.max_ram.clone(),
        ceiling: None,
        workers: request.threads,
        cpus,
        resident: now.resident.max(now.peak).saturating_sub(request.beside),
        output_memory: request.output_memory,
        forced: request.hooks().forced,
    };
    let limits = find(&Environment::of_this_process());
    // Limits on address space count what is never touched, and RLIMIT_RSS limits nothing in Linux.
    let counts = |limit: &&Limit| !matches!(limit.kind, LimitKind::AddressSpace | LimitKind::Resident);
    let tightest = limits.iter().find(counts);
    let reason = match (&request.max_ram, tightest) {
        (Some(_), _) => "--max-ram".to_owned(),
        (None, None) => "automatic".to_owned(),
        (None, Some(limit)) => {
            asked.ceiling = Some(limit.free / 100 * FREE_SHARE);
            format!("automatic; {limit}")
        }
    };
    (asked, reason)
}

impl Request {
    /// The same by a part of a process that holds other things already: the budget is what is added to them.
    #[must_use]
    pub fn beside_this_process(self) -> Request {
        let now = process();
        Request { beside: now.resident.max(now.peak), ..self }
    }
}

/// The tightest limit that counts the files of a tmpfs.
pub(crate) fn file_limit() -> Option<Limit> {
    use LimitKind::{AddressSpace, DataSegment, Resident};
    let counts = |limit: &Limit| !matches!(limit.kind, AddressSpace | DataSegment | Resident);
    find(&Environment::of_this_process()).into_iter().find(counts)
}
