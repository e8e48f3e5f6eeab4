//! A LoRA over all experts of a three-dimensional parameter, their factors packed into two matrices.

use super::super::entry::Entry;
use super::super::grid::Grid;

/// `scale · B_e·A_e` for each expert e; the second axis of the parameter is the side of A, or of B when `swapped`.
pub fn delta(entry: &Entry) -> Grid {
    let (experts, rank) = (entry.count("experts"), entry.count("rank"));
    let (a, b) = (entry.grid("a"), entry.grid("b"));
    assert_eq!((a.shape[0], b.shape[1]), (experts * rank, experts * rank), "factors of another rank");
    let by_column = b.turned();
    let mut shape = Vec::new();
    let mut all = Grid { shape: vec![], value: vec![], size: vec![], units: rank };
    for e in 0..experts {
        let of_a = a.rows(e * rank, (e + 1) * rank);
        let of_b = match entry.word("packing") {
            "grouped_by_expert" => by_column.rows(e * rank, (e + 1) * rank),
            "rank_major" => {
                let width = b.shape[0];
                let from =
                    (0..rank).flat_map(|k| ((k * experts + e) * width..).take(width).collect::<Vec<_>>());
                by_column.picked(&[rank, width], from)
            }
            other => panic!("no packing `{other}`"),
        };
        let product = of_b.turned().times(&of_a);
        let product = if entry.flag("swapped") { product } else { product.turned() };
        shape = product.shape.clone();
        all.value.extend(product.value);
        all.size.extend(product.size);
    }
    all.shape = [&[experts], shape.as_slice()].concat();
    all.scaled(entry.scale())
}
