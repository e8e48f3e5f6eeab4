//! `shardfold finish`.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::merge::finish::Finishing;
use crate::report::style::Style;
use crate::storage::location::Location;

use crate::cli::args::FinishArgs;
use crate::cli::console::Console;
use crate::cli::output::print;
use crate::cli::signals;

/// Joins the parts of a merge and prints what came of it.
pub(crate) fn run(args: &FinishArgs, console: &Console) -> Result<()> {
    let cancel = signals::listen();
    let finishing = finishing_of(args, &cancel)?;
    let style = args.show.style();
    let finished = finishing.finish(console.reporter(&cancel, &[]).as_mut())?;
    match style {
        Style::Json => {
            print(&format!("{:#}\n", serde_json::to_value(&finished).expect("numbers and strings")))
        }
        // The product is in OUTPUT, and this only tells of it.
        Style::Human | Style::Verbose => {
            let _ = print(&finished.to_string());
            Ok(())
        }
        Style::Quiet => Ok(()),
    }
}

/// What the flags ask for.
///
/// # Errors
/// As the flags of tests.
pub(crate) fn finishing_of(args: &FinishArgs, cancel: &Cancel) -> Result<Finishing> {
    let output = Location::of_resolved_path(&args.dir);
    #[cfg(feature = "testing")]
    let output = args.testing.output(output);
    Ok(Finishing {
        output,
        base: args.base.as_ref().map(Location::of_path),
        adapters: args.adapter.iter().map(Location::of_path).collect(),
        cancel: cancel.clone(),
        #[cfg(feature = "testing")]
        hooks: args.testing.hooks()?,
    })
}
