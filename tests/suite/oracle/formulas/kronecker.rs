//! LoKr: the Kronecker product of two factors, each whole or a product itself.

use super::super::entry::Entry;
use super::super::grid::Grid;
use super::hadamard::rebuilt;

pub fn delta(entry: &Entry) -> Grid {
    let pair = |a: &str, b: &str| (entry.grid(a), entry.grid(b));
    let whole = entry.maybe_grid("w1");
    let mut first = whole.unwrap_or_else(|| pair("w1_a", "w1_b").0.times(&entry.grid("w1_b")));
    let second = entry.maybe_grid("w2").unwrap_or_else(|| {
        let (a, b) = pair("w2_a", "w2_b");
        entry.maybe_grid("t2").map_or_else(|| a.times(&b), |core| rebuilt(&core, &a, &b))
    });
    if second.shape.len() == 4 {
        first.shape.extend([1, 1]);
    }
    product(first, second).scaled(entry.scale())
}

/// As in `torch.kron`: the shorter shape gets axes of one in front, even where that is not the product of two
/// convolutions (a matrix and a kernel of one dimension).
fn product(mut first: Grid, mut second: Grid) -> Grid {
    while first.shape.len() < second.shape.len() {
        first.shape.insert(0, 1);
    }
    while second.shape.len() < first.shape.len() {
        second.shape.insert(0, 1);
    }
    let shape: Vec<usize> = first.shape.iter().zip(&second.shape).map(|(a, b)| a * b).collect();
    let n: usize = shape.iter().product();
    let mut from = (Vec::with_capacity(n), Vec::with_capacity(n));
    for at in 0..n {
        let (mut rest, mut i, mut j, mut i_step, mut j_step) = (at, 0, 0, 1, 1);
        for axis in (0..shape.len()).rev() {
            let (of, place) = (second.shape[axis], rest % shape[axis]);
            rest /= shape[axis];
            i += place / of * i_step;
            j += place % of * j_step;
            i_step *= first.shape[axis];
            j_step *= of;
        }
        from.0.push(i);
        from.1.push(j);
    }
    first.picked(&shape, from.0.into_iter()).by(&second.picked(&shape, from.1.into_iter()))
}
