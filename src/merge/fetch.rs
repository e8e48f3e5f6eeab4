//! What a merge reads of the hub, put into its cache before the merge is planned.

use crate::error::Result;
use crate::hub::fetching::Fetching;
use crate::merge::request::Request;
use crate::merge::resolve::Places;
use crate::pipeline::progress::Snapshot;
use crate::report::event::{Event, Reporter};

/// Fetches what the cache lacks, if the request asks for that. Planning would do it, too, but nobody would see how far it is.
///
/// # Errors
/// As [`Places::find`].
pub(crate) fn fetch_inputs(request: &Request, reporter: &mut dyn Reporter) -> Result<()> {
    if !request.hub.keeps() {
        return Ok(());
    }
    let mut begun = String::new();
    let mut watch = |now: &Fetching| {
        let Fetching { what, files, total_bytes, .. } = now;
        if begun != *what {
            begun.clone_from(what);
            reporter.event(&Event::Fetching { what, files: *files, total_bytes: *total_bytes });
        }
        reporter.event(&Event::Progress(&snapshot(now)));
    };
    Places::find_watched(request, &mut watch).map(drop)
}

fn snapshot(now: &Fetching) -> Snapshot {
    Snapshot {
        total_bytes: now.total_bytes,
        read_bytes: now.done_bytes,
        written_bytes: now.done_bytes,
        shared_bytes: 0,
        shards: now.files,
        shard: now.file,
        held_bytes: 0,
    }
}
