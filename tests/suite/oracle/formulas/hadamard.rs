//! LoHa: the product, element by element, of two products of factors.

use super::super::entry::Entry;
use super::super::grid::Grid;

pub fn delta(entry: &Entry) -> Grid {
    let side = |a: &str, b: &str, t: &str| {
        let (a, b) = (entry.grid(a), entry.grid(b));
        entry.maybe_grid(t).map_or_else(|| a.times(&b), |core| rebuilt(&core, &a, &b))
    };
    side("w1_a", "w1_b", "t1").by(&side("w2_a", "w2_b", "t2")).scaled(entry.scale())
}

/// `F[p, q, x…] = Σ_ij t[i, j, x…] · a[i, p] · b[j, q]`, for convolutions.
pub fn rebuilt(core: &Grid, a: &Grid, b: &Grid) -> Grid {
    let ((rank, out), (_, input)) = (a.flat(), b.flat());
    let across: usize = core.shape[2..].iter().product();
    // Over i: [out, j·x]; over j: [input, out·x]; then the axes in order.
    let first = a.turned().times(&core.clone().reshaped(&[rank, core.value.len() / rank]));
    let width = b.shape[0];
    let at = |j: usize, p: usize, x: usize| (p * width + j) * across + x;
    let order = (0..width).flat_map(|j| (0..out).flat_map(move |p| (0..across).map(move |x| (j, p, x))));
    let first = first.picked(&[width, out * across], order.map(|(j, p, x)| at(j, p, x)));
    let second = b.turned().times(&first);
    let order = (0..out).flat_map(|p| (0..input).flat_map(move |q| (0..across).map(move |x| (p, q, x))));
    let shape = [&[out, input], &core.shape[2..]].concat();
    second.picked(&shape, order.map(|(p, q, x)| (q * out + p) * across + x))
}
