//! The way that files are read and written here.

use crate::memory::limit::{Limit, LimitKind};
use crate::memory::limits::{Environment, find};
use crate::memory::process::process;
use crate::merge::request::Request;
use crate::schedule::budget::Schedule;
use crate::storage::io::choice::{IoChoice, IoGrounds};
use crate::storage::io::cold::are_cold;
use crate::storage::io::settings::{IoSettings, Unchanged};
use crate::storage::location::Location;
use crate::storage::source::Source;
use crate::storage::store::Store;
use crate::tensor::size::show_size;

/// Decides it, by the room that the tightest cgroup leaves for page cache beside the run, by the file system of the base, and by
/// what of its `shards` is in the page cache.
pub(crate) fn choose_io(
    request: &Request,
    schedule: &Schedule,
    base: &Location,
    shards: &[Box<dyn Source>],
) -> IoChoice {
    let is_cgroup = |limit: &Limit| {
        matches!(limit.kind, LimitKind::CgroupV1 | LimitKind::CgroupV2 | LimitKind::CgroupHigh)
    };
    let tightest = find(&Environment::of_this_process()).into_iter().find(is_cgroup);
    let room = tightest.map(|limit| {
        let all = schedule.budget.total.bytes().saturating_add(request.beside);
        let to_come = all.saturating_sub(process().resident);
        let room = limit.free.saturating_sub(schedule.growth_bytes().min(to_come));
        (room, format!("cgroup limit of {}", show_size(limit.bytes)))
    });
    let room = room.as_ref().map(|(room, limit)| (*room, limit.as_str()));
    let is_cold = are_cold(shards.iter().map(AsRef::as_ref));
    IoChoice::new(request.io, IoGrounds { room, network: base.network(""), is_cold })
}

/// What a store is to do whose files are only compared, in order, with what a merge gives: nothing is written then, so that it
/// has the memory of the budget's write windows.
pub(crate) fn compared_io(choice: &IoChoice, schedule: &Schedule) -> IoSettings {
    let settings = io_settings(choice, schedule, Unchanged::Copy);
    IoSettings { mode: choice.mode.in_order(), read_bytes: 2 * settings.write_bytes, ..settings }
}

/// What the store `output` is to do.
pub(crate) fn output_io(settings: IoSettings, choice: &IoChoice, output: &dyn Store) -> IoSettings {
    IoSettings { mode: choice.for_output(output.network("")), ..settings }
}

/// What stores are to do.
pub(crate) fn io_settings(choice: &IoChoice, schedule: &Schedule, unchanged: Unchanged) -> IoSettings {
    IoSettings {
        mode: choice.mode,
        unchanged,
        read_bytes: schedule.read_window_bytes as u64,
        write_bytes: schedule.window_bytes as u64,
    }
}
