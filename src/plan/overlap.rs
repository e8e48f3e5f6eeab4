//! Whether two claims of one adapter change the same values.

use crate::tensor::shape::Shape;

use crate::ops::op::{ClaimId, Op};
use crate::ops::placement::Placement;
use crate::ops::placement::{Grid, GridLine};

/// The first two claims with deltas of one kind that fall on the same element of a tensor of that shape.
pub(crate) fn overlap(shape: &Shape, ops: &[&Op]) -> Option<(ClaimId, ClaimId)> {
    if ops.windows(2).all(|pair| pair[0].claim == pair[1].claim) {
        return None;
    }
    let view = Placement::view(shape, ops.iter().map(|op| &op.placement))?;
    let grids: Vec<(&Op, Grid)> = ops.iter().filter_map(|op| Some((*op, op.placement.grid(view)?))).collect();
    for (i, (first, a)) in grids.iter().enumerate() {
        for (second, b) in &grids[i + 1..] {
            let may = first.claim != second.claim && first.kind.is_same_kind(&second.kind);
            if may && meet(&a.rows, &b.rows) && meet(&a.cols, &b.cols) {
                return Some((first.claim, second.claim));
            }
        }
    }
    None
}

/// Whether two lines have a row (or column) in common.
fn meet(a: &GridLine, b: &GridLine) -> bool {
    let (few, many) = if a.count <= b.count { (a, b) } else { (b, a) };
    let has = |at: u64| {
        at >= many.at && (at - many.at).is_multiple_of(many.step) && (at - many.at) / many.step < many.count
    };
    match many.step {
        // One next to the other: ends tell, unless the other leaps over all of it.
        1 if few.step == 1 => few.at < many.at + many.count && many.at < few.at + few.count,
        _ => (0..few.count).any(|i| has(few.at + i * few.step)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_meet_where_they_share_a_position() {
        let line = |at, step, count| GridLine { axis: Some(0), count, at, step };
        for (a, b, is_met) in [
            (line(0, 1, 4), line(4, 1, 4), false),
            (line(0, 1, 5), line(4, 1, 4), true),
            (line(0, 2, 4), line(1, 2, 4), false),
            (line(0, 2, 4), line(3, 1, 1), false),
            (line(0, 2, 4), line(4, 1, 1), true),
            (line(0, 3, 4), line(1, 2, 5), true),
        ] {
            assert_eq!((meet(&a, &b), meet(&b, &a)), (is_met, is_met), "{a:?} {b:?}");
        }
    }
}
