//! Products of two factors: added as they are, with one of them block diagonal, or times what was there (HiRA).

use super::super::entry::Entry;
use super::super::grid::{Grid, UNIT};
use super::super::running::Running;

/// `scale · B·A` as the tensor is stored; factors of convolutions are flattened. Without A, B is a bias.
pub fn delta(entry: &Entry) -> Grid {
    let b = entry.grid("b");
    match entry.maybe_grid("a") {
        Some(a) => product(entry, &a, &b),
        None => Grid { units: 1, ..b.scaled(entry.scale()) },
    }
}

/// The side `side` holds only the blocks of its diagonal, one below the other.
pub fn block_diagonal(entry: &Entry) -> Grid {
    let spread = |side: &str| {
        let grid = entry.grid(side);
        if entry.word("side") == side { spread(&grid, entry.count("nblocks")) } else { grid }
    };
    product(entry, &spread("a"), &spread("b"))
}

/// `scale · START · (B·A)`: of the tensor that training saw, whatever was merged since.
pub fn add_hira(entry: &Entry, start: &Running, running: &mut Running) {
    let mut factor = delta(entry);
    factor.units += 2;
    for i in 0..start.exact.len() {
        running.bound[i] += start.bound[i] * factor.size[i];
        running.slack[i] += start.slack[i] * factor.size[i];
    }
    running.add(&factor.by(&Grid::of(&[start.exact.len()], start.exact.clone())));
}

fn product(entry: &Entry, a: &Grid, b: &Grid) -> Grid {
    let product = b.times(a).scaled(entry.scale());
    if entry.flag("transposed") { product.turned() } else { product }
}

fn spread(grid: &Grid, blocks: usize) -> Grid {
    let (rows, columns) = grid.flat();
    assert_eq!(rows % blocks, 0, "{rows} rows in {blocks} blocks");
    let mut wide = Grid::of(&[rows, columns * blocks], vec![0.0; rows * columns * blocks]);
    for row in 0..rows {
        for column in 0..columns {
            let at = row * columns * blocks + row / (rows / blocks) * columns + column;
            wide.value[at] = grid.value[row * columns + column];
            wide.size[at] = wide.value[at].abs();
        }
    }
    wide
}

#[test]
fn bounds_grow_with_rank_and_size() {
    let mut running = Running::exactly(vec![3.0]);
    let a = Grid::of(&[2, 1], vec![1.0, -1.0]);
    running.add(&Grid::of(&[1, 2], vec![5.0, 7.0]).times(&a).scaled(-0.5));
    assert_eq!((running.exact[0], running.bound[0]), (4.0, 6.0 * UNIT * (3.0 + 0.5 * 12.0)));
}
