//! OFT: each row of the weight is rotated, block by block.

use super::super::entry::Entry;
use super::super::grid::{Grid, UNIT};
use super::super::running::Running;

/// `RUNNING · blockdiag(R)ᵀ`, rows flattened; of an embedding, `RUNNING · blockdiag(R)`.
pub fn apply(entry: &Entry, running: &mut Running, shape: &[usize]) {
    let (r, side) = (entry.grid("r"), entry.count("block"));
    let (count, upper) = r.flat();
    assert_eq!(upper, side * (side - 1) / 2, "{upper} elements above the diagonal of {side}");
    let blocks: Vec<Grid> = (0..count)
        .map(|block| {
            let skew = skew(&r.value[block * upper..(block + 1) * upper], side);
            let skew = match entry.json["coft_eps"].as_f64() {
                Some(eps) => shortened(skew, eps / (count as f64).sqrt()),
                None => skew,
            };
            let rotation = match entry.count("neumann") {
                0 => cayley(&skew),
                terms => neumann(&skew, terms),
            };
            if entry.flag("embedding") { rotation } else { rotation.turned() }
        })
        .collect();
    running.rotate(shape[1..].iter().product(), &blocks);
}

/// The matrix whose part above the diagonal is given row by row, and whose transpose is its negative.
fn skew(upper: &[f64], side: usize) -> Grid {
    let mut value = vec![0.0; side * side];
    let above = (0..side).flat_map(|i| (i + 1..side).map(move |j| (i, j)));
    for ((i, j), &x) in above.zip(upper) {
        (value[i * side + j], value[j * side + i]) = (x, -x);
    }
    Grid::of(&[side, side], value)
}

/// No longer than `most`.
fn shortened(skew: Grid, most: f64) -> Grid {
    let length = skew.value.iter().map(|x| x * x).sum::<f64>().sqrt();
    if length > most { Grid { units: 4 + skew.shape[0], ..skew.scaled(most / length) } } else { skew }
}

/// PEFT's series: `I + 2Q + 2Q² + … + Qⁿ⁻¹`, where three terms are no shorter than four.
fn neumann(skew: &Grid, terms: usize) -> Grid {
    let mut sum = Grid::identity(skew.shape[0]);
    if terms < 2 {
        return sum;
    }
    sum = sum.plus(&skew.clone().scaled(2.0));
    if terms == 2 {
        return sum;
    }
    let last = (terms - 1).max(3);
    let mut power = skew.clone();
    for k in 2..=last {
        power = power.times(skew);
        sum = sum.plus(&power.clone().scaled(if k == last { 1.0 } else { 2.0 }));
    }
    sum
}

/// `(I − Q)·(I + Q)⁻¹`. A solution by elimination is off by the roundings of a sum of `side` terms, times the inverse.
fn cayley(skew: &Grid) -> Grid {
    let side = skew.shape[0];
    let (plus, minus) =
        (Grid::identity(side).plus(skew), Grid::identity(side).plus(&skew.clone().scaled(-1.0)));
    let inverse = inverse(&plus);
    let value = minus.times(&inverse);
    let positive = |of: &Grid| Grid::of(&of.shape, of.value.iter().map(|x| x.abs()).collect());
    let size = positive(&value).times(&positive(&plus)).times(&positive(&inverse)).value;
    Grid { size, units: 2 * side + skew.units + 4, ..value }
}

/// By elimination with the largest pivot.
fn inverse(of: &Grid) -> Grid {
    let n = of.shape[0];
    let (mut left, mut right) = (of.value.clone(), Grid::identity(n).value);
    for k in 0..n {
        let best = (k..n).max_by(|&i, &j| left[i * n + k].abs().total_cmp(&left[j * n + k].abs()));
        let best = best.expect("a row");
        for rows in [&mut left, &mut right] {
            (0..n).for_each(|column| rows.swap(k * n + column, best * n + column));
        }
        let pivot = left[k * n + k];
        for row in (0..n).filter(|&row| row != k) {
            let by = left[row * n + k] / pivot;
            for rows in [&mut left, &mut right] {
                (0..n).for_each(|column| rows[row * n + column] -= by * rows[k * n + column]);
            }
        }
        for rows in [&mut left, &mut right] {
            (0..n).for_each(|column| rows[k * n + column] /= pivot);
        }
    }
    Grid::of(&[n, n], right)
}

#[test]
fn rotations_keep_lengths_and_angles() {
    let skew = skew(&[0.3, -0.2, 0.5], 3);
    let exact = cayley(&skew);
    let product = exact.times(&exact.turned());
    let identity = Grid::identity(3);
    assert!(product.value.iter().zip(&identity.value).all(|(a, b)| (a - b).abs() < 1e-12));
    // The series goes the other way, and comes near only with small angles.
    let small = skew.scaled(0.01);
    let near = |a: &Grid, b: &Grid| a.value.iter().zip(&b.value).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(near(&neumann(&small, 6), &cayley(&small).turned()));
    assert!(near(&neumann(&small, 3), &neumann(&small, 4)));
    assert!(!near(&neumann(&small, 2), &neumann(&small, 3)));
    assert!(exact.size.iter().all(|size| size * UNIT < 1e-5));
}
