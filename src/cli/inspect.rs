//! `shardfold inspect`.

use std::io::IsTerminal;

use crate::error::Result;
use crate::hub::{Hub, HubEnvironment};
use crate::inspect::open::inspect;
use crate::report::{Event, Style, choose};

use crate::cli::args::InspectArgs;
use crate::cli::{print, signals};

/// Prints what a folder holds.
pub(crate) fn run(args: &InspectArgs) -> Result<()> {
    let style = if args.json { Style::Json } else { Style::Human };
    let cancel = signals::listen();
    let place = Hub::new(&HubEnvironment::of_this_process()).find(&args.path)?;
    let inspected = inspect(&place, args.variant.as_deref(), &cancel)?;
    let mut reporter = choose(style, std::io::stderr().is_terminal());
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
