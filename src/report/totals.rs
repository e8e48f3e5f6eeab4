//! Numbers of tensors, parameters and bytes in words.

use crate::inspect::totals::{DtypeTotals, Totals};
use crate::tensor::size::show_size;

use crate::report::words::{counted, grouped};

/// `tensors  12, 3,456 parameters, 6.8 KiB`, and a line for each dtype if there are several.
pub(crate) fn lines(totals: &Totals, dtypes: &[DtypeTotals]) -> Vec<(&'static str, String)> {
    let text = |totals: &Totals| {
        let parameters = counted(totals.parameters, ["parameter", "parameters"]);
        format!("{}, {parameters}, {}", grouped(totals.tensors), show_size(totals.bytes))
    };
    let mut lines = Vec::new();
    match dtypes {
        [one] => lines.push(("tensors", format!("{}, all {:?}", text(totals), one.dtype))),
        several => {
            lines.push(("tensors", text(totals)));
            lines.extend(several.iter().enumerate().map(|(i, one)| {
                (if i == 0 { "dtypes" } else { "" }, format!("{:?}: {}", one.dtype, text(&one.totals)))
            }));
        }
    }
    lines
}
