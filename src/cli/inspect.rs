//! `shardfold inspect`.

use crate::error::Result;
use crate::hub::cache::Hub;
use crate::hub::environment::HubEnvironment;
use crate::inspect::open::inspect;

use crate::cli::args::InspectArgs;
use crate::cli::console::Console;
use crate::cli::output::print;
use crate::cli::signals;

/// Prints the contents of a directory.
pub(crate) fn run(args: &InspectArgs, console: &Console) -> Result<()> {
    let cancel = signals::listen();
    let place = Hub::online(&HubEnvironment::of_this_process()).stopped_by(&cancel).find(&args.path)?;
    let inspected = inspect(&place, args.variant.as_deref(), &cancel)?;
    console.reporter(&cancel, inspected.notes());
    if args.json {
        let json = serde_json::to_string_pretty(&inspected).expect("strings and finite numbers");
        print(&format!("{json}\n"))
    } else {
        print(&inspected.to_string())
    }
}
