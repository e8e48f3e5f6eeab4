//! `shardfold inspect`.

use std::sync::Arc;

use crate::error::Result;
use crate::inspect::inspect;
use crate::report::Style;
use crate::storage::{Hub, HubEnvironment};

use super::args::InspectArgs;
use super::{print, reporter};

/// Prints the contents of a directory.
pub(super) fn run(args: &InspectArgs) -> Result<()> {
    let style = if args.json { Style::Json } else { Style::Human };
    let inspected =
        inspect(&Hub::new(&HubEnvironment::of_this_process()).find(&args.path)?, args.variant.as_deref())?;
    reporter(style, &Arc::default(), inspected.notices());
    if args.json {
        let json = serde_json::to_string_pretty(&inspected).expect("strings and finite numbers");
        print(&format!("{json}\n"));
    } else {
        print(&inspected.to_string());
    }
    Ok(())
}
