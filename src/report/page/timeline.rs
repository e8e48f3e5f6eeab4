//! The timeline of a run as a picture that needs no script, and as a table.

use crate::pipeline::clock::{Activity, ThreadTime};

use crate::report::page::heat::whole_percent;
use crate::report::page::html::{Cell, Html};

/// Columns of the picture: more cannot be told apart, and each takes up to six bars.
const COLUMNS: usize = 128;
/// Height of a row in its units.
const HEIGHT: f64 = 10.0;

/// A row for each thread.
pub(crate) fn show(html: &mut Html, threads: &[ThreadTime]) {
    if threads.is_empty() {
        return;
    }
    html.element("h2", "Where the time went").raw("<p class=\"key\">");
    for activity in Activity::ALL {
        html.raw(&format!("<span class=\"dot {}\"></span> {} ", activity.name(), activity.name()));
    }
    html.raw("</p>\n");
    let heads: Vec<&str> =
        ["thread", "seconds"].into_iter().chain(Activity::ALL.map(Activity::name)).collect();
    let rows: Vec<Vec<Cell>> = threads.iter().map(row).collect();
    html.table("Seconds of each thread, and the share of each activity", &heads, &rows);
    let length =
        threads.iter().map(|thread| thread.piece_seconds * thread.pieces.len() as f64).fold(0.0, f64::max);
    for thread in threads {
        picture(html, thread, length);
    }
}

fn row(thread: &ThreadTime) -> Vec<Cell> {
    let start = [thread.stage.to_owned(), format!("{:.2}", thread.seconds)];
    let shares = thread.shares.iter().map(|(_, share)| whole_percent(*share));
    start.into_iter().chain(shares).map(Cell::plain).collect()
}

/// Bars of what the thread was at, one upon the other, from left to right.
fn picture(html: &mut Html, thread: &ThreadTime, length: f64) {
    html.raw("<figure><figcaption>").escaped(thread.stage).raw("</figcaption>\n");
    html.raw(&format!(
        "<svg viewBox=\"0 0 {COLUMNS} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\""
    ));
    html.escaped(&format!("{}: what it was at in the course of {length:.1} s", thread.stage)).raw("\">");
    let pieces = (length / thread.piece_seconds.max(1e-9)).ceil().max(1.0) as usize;
    let per_column = pieces.div_ceil(COLUMNS);
    let width = COLUMNS as f64 / pieces.div_ceil(per_column) as f64;
    for (column, pieces) in thread.pieces.chunks(per_column).enumerate() {
        let whole = per_column as f64 * thread.piece_seconds;
        let mut top = HEIGHT;
        for (i, activity) in
            Activity::ALL.into_iter().enumerate().filter(|(_, activity)| *activity != Activity::Wait)
        {
            let seconds: f64 = pieces.iter().map(|piece| piece[i]).sum();
            let height = HEIGHT * (seconds / whole).min(1.0);
            if height >= 0.05 {
                top -= height;
                let x = column as f64 * width;
                html.raw(&format!(
                    "<rect class=\"{}\" x=\"{x:.2}\" y=\"{top:.2}\" width=\"{width:.2}\" height=\"{height:.2}\"/>",
                    activity.name()
                ));
            }
        }
    }
    html.raw("</svg></figure>\n");
}
