//! `shardfold inspect`.

use std::sync::Arc;

use crate::error::Result;
use crate::inspect::inspect;
use crate::report::{Event, Style, Terminal, choose};
use crate::storage::{Hub, HubEnvironment};

use super::args::InspectArgs;
use super::print;

/// Prints the contents of a directory.
pub(super) fn run(args: &InspectArgs) -> Result<()> {
    let style = if args.json { Style::Json } else { Style::Human };
    let inspected =
        inspect(&Hub::new(&HubEnvironment::of_this_process()).find(&args.path)?, args.variant.as_deref())?;
    let mut reporter = choose(style, Terminal::of_stderr(), &Arc::default());
    for notice in inspected.notices() {
        reporter.event(&Event::Notice(notice));
    }
    if args.json {
        let json = serde_json::to_string_pretty(&inspected).expect("strings and finite numbers");
        print(&format!("{json}\n"));
    } else {
        print(&inspected.to_string());
    }
    Ok(())
}
